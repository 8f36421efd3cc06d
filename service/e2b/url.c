/* See url.h. */
#include "service/e2b/url.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/version.h"
#include "service/e2b/scope.h"

#include <stdlib.h>
#include <string.h>

/* Domains where E2B routes by header behind one host, which needs fewer connections. */
static const char *const shared_domains[] = {"e2b.app", "e2b.dev", "e2b.pro", "e2b-staging.dev"};

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

char *url_escape(const char *s)
{
    static const char hex[] = "0123456789ABCDEF";
    char *to = xmalloc(3 * strlen(s) + 1);
    char *end = to;

    for (; *s != '\0'; s++) {
        if (is_unreserved(*s)) {
            *end++ = *s;
            continue;
        }
        *end++ = '%';
        *end++ = hex[(unsigned char)*s >> 4];
        *end++ = hex[(unsigned char)*s & 15];
    }
    *end = '\0';
    return to;
}

static char *escape_thrice(const char *s)
{
    AUTO_FREE char *once = url_escape(s);
    AUTO_FREE char *twice = url_escape(once);

    return url_escape(twice);
}

char *url_metadata(const struct e2b_pair *pairs, size_t n)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(SIZE_MAX / 2);

    for (size_t i = 0; i < n; i++) {
        AUTO_FREE char *key = escape_thrice(pairs[i].key);
        AUTO_FREE char *value = escape_thrice(pairs[i].value);

        /* The = and & between are decoded once before E2B splits at them. */
        buf_printf(&b, "%s%s%%3D%s", i > 0 ? "%26" : "", key, value);
    }
    return buf_take_str(&b);
}

char *url_sandbox_path(const char *sandbox_id, const char *suffix)
{
    AUTO_FREE char *id = url_escape(sandbox_id);

    return xasprintf("/sandboxes/%s%s", id, suffix);
}

static bool is_shared(const char *domain)
{
    for (size_t i = 0; i < sizeof shared_domains / sizeof *shared_domains; i++) {
        if (strcmp(domain, shared_domains[i]) == 0)
            return true;
    }
    return false;
}

/* E2B is https. Where the operator configured plain http, that is how the rest is reached too. */
static const char *scheme(const struct e2b *e)
{
    const char *url = e->config.sandbox_url != NULL ? e->config.sandbox_url : e->api_url;

    return strncmp(url, "http://", 7) == 0 ? "http" : "https";
}

char *url_sandbox_base(const struct e2b *e, const char *sandbox_id, const char *domain)
{
    if (e->config.sandbox_url != NULL)
        return xstrdup(e->config.sandbox_url);
    if (domain == NULL)
        domain = e->config.domain;
    if (is_shared(domain))
        return xasprintf("https://sandbox.%s", domain);
    return xasprintf("%s://%d-%s.%s", scheme(e), E2B_ENVD_PORT, sandbox_id, domain);
}

/* ":7070" of "http://127.0.0.1:7070/x"; empty when there is none. Owned by the caller. */
static char *port_of(const char *url)
{
    const char *host = strstr(url, "://");
    const char *end, *colon;

    host = host != NULL ? host + 3 : url;
    end = host + strcspn(host, "/?#");
    colon = memrchr(host, ':', (size_t)(end - host));
    if (colon == NULL || memchr(colon, ']', (size_t)(end - colon)) != NULL)
        return xstrdup("");
    return xstrndup(colon, (size_t)(end - colon));
}

void url_port(const struct e2b *e, const char *sandbox_id, const char *domain, unsigned port,
              char **ret_url, char **ret_host)
{
    AUTO_FREE char *gate = NULL;

    if (domain == NULL)
        domain = e->config.domain;
    /* Behind E2B_SANDBOX_URL one gate serves all: by host name at its own port. */
    if (e->config.sandbox_url != NULL && strchr(domain, ':') == NULL)
        gate = port_of(e->config.sandbox_url);
    *ret_host = xasprintf("%u-%s.%s%s", port, sandbox_id, domain, gate != NULL ? gate : "");
    *ret_url = xasprintf("%s://%s", scheme(e), *ret_host);
}

void url_api_headers(struct transfer *t, const struct e2b *e, const struct scope *caller)
{
    transfer_header(t, "X-API-KEY: %s",
                    caller->api_key != NULL ? caller->api_key : e->config.api_key);
    transfer_header(t, "User-Agent: sandboxd/" SANDBOXD_VERSION);
    transfer_header(t, "Accept: application/json");
}

void url_sandbox_headers(struct transfer *t, const char *sandbox_id, const char *token)
{
    transfer_header(t, "E2b-Sandbox-Id: %s", sandbox_id);
    transfer_header(t, "E2b-Sandbox-Port: %d", E2B_ENVD_PORT);
    transfer_header(t, "User-Agent: sandboxd/" SANDBOXD_VERSION);
    /* Keeps the edge from taking us for a browser, which it answers in HTML. */
    transfer_header(t, "Accept: application/json, */*;q=0.5");
    if (token != NULL)
        transfer_header(t, "X-Access-Token: %s", token);
}
