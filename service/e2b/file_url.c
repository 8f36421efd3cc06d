/*
 * e2b_file_url: a signed URL of envd's /files. The sandbox is asked whether it is well first, which
 * also finds out where it is and its access token: a URL for a sandbox that is gone is of no use.
 */
#include "service/e2b/request.h"

#include "common/base/base64.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "service/e2b/url.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct file_url {
    struct request request;
    struct exchange exchange;
    char *sandbox_id, *user, *path; /* owned */
    bool write;
    int64_t expire_s;
    char **ret_url; /* the caller's */
};

char *url_file_signature(const char *path, bool write, const char *user, const char *token,
                         int64_t expire_s)
{
    AUTO_FREE char *text = xasprintf("%s:%s:%s:%s:%lld", path, write ? "write" : "read", user,
                                     token, (long long)expire_s);
    uint8_t digest[32];
    char encoded[48];
    size_t len;

    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL);
    len = base64_encode(encoded, digest, sizeof digest);
    while (len > 0 && encoded[len - 1] == '=')
        len--;
    return xasprintf("v1_%.*s", (int)len, encoded);
}

static char *make_url(const struct file_url *f, const struct address *a)
{
    AUTO_FREE char *base = NULL;
    AUTO_FREE char *host = NULL;
    AUTO_FREE char *path = url_escape(f->path);
    AUTO(buf_deinit) struct buf url = BUF_INIT(64 * 1024);

    url_port(f->request.e2b, f->sandbox_id, a->domain, E2B_ENVD_PORT, &base, &host);
    buf_printf(&url, "%s/files?path=%s", base, path);
    if (f->user[0] != '\0') {
        AUTO_FREE char *user = url_escape(f->user);

        buf_printf(&url, "&username=%s", user);
    }
    if (a->token != NULL) { /* else the sandbox is open to all */
        AUTO_FREE char *signature =
            url_file_signature(f->path, f->write, f->user, a->token, f->expire_s);
        AUTO_FREE char *escaped = url_escape(signature);

        buf_printf(&url, "&signature=%s&signature_expiration=%lld", escaped,
                   (long long)f->expire_s);
    }
    return buf_take_str(&url);
}

static void done(struct exchange *x)
{
    struct file_url *f = container_of(x, struct file_url, exchange);

    if (x->verdict.st.code == CODE_OK)
        *f->ret_url = make_url(f, &x->address);
    request_finish(&f->request, &x->verdict.st);
}

static void start(struct request *r)
{
    struct file_url *f = container_of(r, struct file_url, request);

    f->exchange = (struct exchange){
        .request = r,
        .method = "GET",
        .path = xstrdup("/health"),
        .sandbox_id = xstrdup(f->sandbox_id),
        .source = SOURCE_FILES,
        .timeout_ms = r->e2b->config.request_timeout_ms,
        .safe = true,
        .done = done,
    };
    exchange_start(&f->exchange);
}

static void destroy(struct request *r)
{
    struct file_url *f = container_of(r, struct file_url, request);

    exchange_deinit(&f->exchange);
    free(f->sandbox_id);
    free(f->user);
    free(f->path);
    free(f);
}

void e2b_file_url(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                  const char *path, bool write, int64_t expire_s, char **ret_url)
{
    struct file_url *f = xcalloc(1, sizeof *f);

    f->sandbox_id = xstrdup(sandbox_id);
    f->user = xstrdup(user);
    f->path = xstrdup(path);
    f->write = write;
    f->expire_s = expire_s;
    f->ret_url = ret_url;
    *ret_url = NULL;
    f->request.start = start;
    f->request.destroy = destroy;
    request_submit(&f->request, e, op, sandbox_id);
}
