/* See route.h. */
#include "runtime/local/edge/route.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 255 };

/* The name in "NAME[:PORT]", lower case. False: too long. */
static bool host_name(const char *host, char name[static HOST_MAX + 1])
{
    size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

    if (len > HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        name[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] + ('a' - 'A')) : host[i];
    name[len] = '\0';
    return true;
}

static bool is_address(const char *name)
{
    struct in_addr v4;

    return *name == '[' || inet_pton(AF_INET, name, &v4) == 1;
}

/* Whether name is the domain or below it. */
static bool is_in_domain(const char *name, const char *domain)
{
    size_t name_len = strlen(name), len = domain != NULL ? strcspn(domain, ":") : 0;

    if (len == 0 || name_len < len || strncasecmp(name + name_len - len, domain, len) != 0)
        return false;
    return name_len == len || name[name_len - len - 1] == '.';
}

static bool parse_port(const char *text, size_t len, uint16_t *ret)
{
    unsigned long port = 0;

    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned long)(text[i] - '0');
    }
    *ret = (uint16_t)port;
    return port >= 1 && port <= 65535;
}

static enum route_result bad(struct route *ret, const char *why)
{
    ret->why = why;
    return ROUTE_BAD;
}

static enum route_result set(struct route *ret, const char *port, size_t port_len, const char *id,
                             size_t id_len)
{
    if (!parse_port(port, port_len, &ret->port))
        return bad(ret, "the port of the sandbox is not a number from 1 to 65535");
    if (!sandbox_id_is_valid(id, id_len))
        return bad(ret, "the sandbox id is malformed");
    memcpy(ret->sandbox_id, id, id_len);
    ret->sandbox_id[id_len] = '\0';
    return ROUTE_SANDBOX;
}

enum route_result route_find(const struct http_head *h, const char *domain, struct route *ret)
{
    const char *id = http_header(h, "e2b-sandbox-id");
    const char *port = http_header(h, "e2b-sandbox-port");
    const char *host = http_header(h, "host");
    char name[HOST_MAX + 1];
    size_t label, dash;

    *ret = (struct route){.why = NULL};
    if (!host_name(host != NULL ? host : "", name))
        return bad(ret, "the host name is too long");
    label = strcspn(name, ".");
    dash = strcspn(name, "-");
    /* "3000-i0123….anything" is meant for a sandbox, whatever the domain. */
    if (dash < label && dash > 0 && strspn(name, "0123456789") == dash) {
        const char *rest = name + dash + 1;

        return set(ret, name, dash, rest, strcspn(rest, "-."));
    }
    if (id != NULL && port != NULL)
        return set(ret, port, strlen(port), id, strcspn(id, "-"));
    if (id != NULL || port != NULL)
        return bad(ret, "E2b-Sandbox-Id and E2b-Sandbox-Port go together");
    if (dash < label && name[label] == '.' &&
        (is_in_domain(name, "localhost") || is_in_domain(name, domain)))
        return bad(ret, "the host name of a sandbox is <port>-<sandbox id>.<domain>");
    return ROUTE_API;
}

static bool is_local(const char *host, const char *domain)
{
    char name[HOST_MAX + 1];

    if (!host_name(host, name))
        return false;
    return strchr(name, '.') == NULL || is_address(name) || is_in_domain(name, "localhost") ||
           is_in_domain(name, domain);
}

bool route_host_is_local(const struct http_head *h, const char *domain)
{
    const char *host = http_header(h, "host");

    return host == NULL || is_local(host, domain);
}

bool route_origin_is_local(const char *origin, const char *domain)
{
    const char *host = strstr(origin, "://");

    return host != NULL && host[3] != '\0' && is_local(host + 3, domain);
}
