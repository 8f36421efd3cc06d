/* See signature.h. The agent checks the signature, and its expiry, again. */
#include "runtime/local/daemon/signature.h"

#include "common/base/cleanup.h"
#include "common/http/url.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

enum { VALUE_MAX = 8192, SIGNATURE_LEN = 3 + 43 };

bool signature_is_there(const struct http_head *h)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);

    return http_path_is(h, "/files") &&
           url_query_get(h->query, "signature", &value) == URL_QUERY_FOUND;
}

/* Appends ":" and the parameter, which may be empty. */
static void append_parameter(struct buf *text, const struct http_head *h, const char *name)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);

    url_query_get(h->query, name, &value);
    buf_printf(text, ":%s", buf_str(&value));
}

/* "v1_" and the unpadded base64 of SHA256(path:operation:user:token[:expiration]). */
static void sign(const struct http_head *h, const char *token, char to[static SIGNATURE_LEN + 2])
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(4 * VALUE_MAX);
    AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);
    uint8_t hash[SHA256_DIGEST_LENGTH];

    url_query_get(h->query, "path", &value);
    buf_append(&text, buf_data(&value), buf_len(&value));
    buf_append_str(&text, strcmp(h->method, "POST") == 0 ? ":write" : ":read");
    append_parameter(&text, h, "username");
    buf_printf(&text, ":%s", token);
    if (url_query_get(h->query, "signature_expiration", &value) == URL_QUERY_FOUND)
        append_parameter(&text, h, "signature_expiration");
    SHA256(buf_data(&text), buf_len(&text), hash);
    memcpy(to, "v1_", 3);
    EVP_EncodeBlock((uint8_t *)to + 3, hash, sizeof(hash));
    to[SIGNATURE_LEN] = '\0'; /* the one '=' of 32 bytes */
}

bool signature_fits(const struct http_head *h, const char *token)
{
    AUTO(buf_deinit) struct buf given = BUF_INIT(VALUE_MAX);
    char want[SIGNATURE_LEN + 2];

    if (url_query_get(h->query, "signature", &given) != URL_QUERY_FOUND ||
        buf_len(&given) != SIGNATURE_LEN)
        return false;
    sign(h, token, want);
    return CRYPTO_memcmp(buf_data(&given), want, SIGNATURE_LEN) == 0;
}

struct sandbox *signature_find(const struct http_head *h, const struct registry *r)
{
    LIST_FOR_EACH (node, &r->by_start) {
        struct sandbox *s = container_of(node, struct sandbox, by_start);

        if (s->access_token[0] != '\0' && signature_fits(h, s->access_token))
            return s;
    }
    return NULL;
}
