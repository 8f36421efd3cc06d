/* See access.h. */
#include "runtime/local/agent/access.h"

#include "common/base/base64.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/sha256.h"
#include "common/http/url.h"
#include "runtime/local/agent/handover.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

bool access_is_same(const char *wanted, const char *given)
{
    size_t len = strlen(wanted);
    unsigned char difference = 0;

    if (strlen(given) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)(wanted[i] ^ given[i]);
    return difference == 0;
}

static bool has_token(const struct config *config, const struct http_head *head)
{
    const char *given = http_header(head, "X-Access-Token");

    return given && access_is_same(config->token, given);
}

static bool is_exempt(const struct http_head *head)
{
    bool get = http_method_is(head, "GET");

    return (get && http_path_is(head, "/health")) ||
           ((get || http_method_is(head, "POST")) && http_path_is(head, "/files")) ||
           (http_method_is(head, "POST") && http_path_is(head, "/init"));
}

bool access_is_allowed(const struct config *config, const struct http_head *head)
{
    return !config->token || is_exempt(head) || has_token(config, head);
}

void access_sign(const char *path, const char *operation, const char *user, const char *token,
                 const char *expiration, char to[ACCESS_SIGNATURE_SIZE])
{
    const char *parts[] = {path, operation, user, token, expiration};
    uint8_t digest[SHA256_LEN];
    struct sha256 hash;
    size_t len;

    sha256_init(&hash);
    for (int i = 0; i < 5 && parts[i]; i++) {
        if (i > 0)
            sha256_update(&hash, ":", 1);
        sha256_update(&hash, parts[i], strlen(parts[i]));
    }
    sha256_final(&hash, digest);
    memcpy(to, "v1_", 3);
    len = 3 + base64_encode(to + 3, digest, sizeof(digest));
    while (to[len - 1] == '=')
        len--;
    to[len] = '\0';
}

bool access_file_is_allowed(const struct config *config, const struct http_head *head,
                            const char *path, const char *operation, const char *user,
                            struct status *st)
{
    AUTO(buf_deinit) struct buf signature = BUF_INIT(ACCESS_SIGNATURE_SIZE);
    AUTO(buf_deinit) struct buf expiration = BUF_INIT(24);
    char wanted[ACCESS_SIGNATURE_SIZE], *end;
    bool expires;

    if (!config->token)
        return true;
    if (http_header(head, "X-Access-Token")) {
        if (has_token(config, head))
            return true;
        return status_set(st, CODE_UNAUTHENTICATED, 0,
                          "access token present in header but does "
                          "not match");
    }
    if (url_query_get(head->query, "signature", &signature) != URL_QUERY_FOUND)
        return status_set(st, CODE_UNAUTHENTICATED, 0, "missing signature query parameter");
    expires = url_query_get(head->query, "signature_expiration", &expiration) != URL_QUERY_ABSENT;
    access_sign(path, operation, user, config->token, expires ? buf_str(&expiration) : NULL,
                wanted);
    if (!access_is_same(wanted, buf_str(&signature)))
        return status_set(st, CODE_UNAUTHENTICATED, 0, "invalid signature");
    if (expires && (strtoll(buf_str(&expiration), &end, 10) < (long long)time(NULL) || *end))
        return status_set(st, CODE_UNAUTHENTICATED, 0, "signature is already expired");
    return true;
}

bool access_user(const struct config *config, const char *name, struct user *ret, struct status *st)
{
    if (!user_find(name, ret))
        return status_set(st, CODE_UNAUTHENTICATED, 0, "invalid username: '%s'", name);
    if (config->single_user && ret->uid != geteuid())
        return status_set(
            st, CODE_UNAUTHENTICATED, 0,
            "user '%s' is not to be had: this sandbox has a single user, '%s', because "
            "its daemon does not run as root",
            name, AGENT_USER);
    return true;
}

/* The name of a Basic header; NULL when there is none that can be read. The caller's to free. */
static char *basic_user(const char *header)
{
    char *name, *colon;
    size_t len;

    if (!header || strncasecmp(header, "Basic ", 6) != 0)
        return NULL;
    header += 6;
    name = xmalloc(base64_decoded_max(strlen(header)) + 1);
    if (base64_decode((uint8_t *)name, header, strlen(header), &len)) {
        name[len] = '\0';
        colon = strchr(name, ':');
        if (colon) {
            *colon = '\0';
            return name;
        }
    }
    free(name);
    return NULL;
}

bool access_request_user(const struct config *config, const struct http_head *head,
                         struct user *ret, struct status *st)
{
    AUTO_FREE char *name = basic_user(http_header(head, "Authorization"));

    return access_user(config, name ? name : config->user, ret, st);
}
