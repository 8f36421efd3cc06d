/* See api_front.h. */
#include "runtime/local/api/front.h"

#include "common/base/clock.h"
#include "runtime/local/api/api.h"
#include "runtime/local/edge/route.h"

#include <string.h>

static const char exposed[] =
    "X-Next-Token, X-Total-Running, RateLimit-Limit, RateLimit-Remaining, "
    "RateLimit-Reset, Retry-After";

void api_allow_origin(const struct daemon *d, struct http_exchange *x)
{
    const char *origin = http_header(http_request(x), "origin");

    if (origin == NULL)
        return;
    http_preset(x, "Vary", "Origin");
    if (d->config.api_key == NULL && !route_origin_is_local(origin, d->config.domain))
        return;
    http_preset(x, "Access-Control-Allow-Origin", d->config.api_key != NULL ? "*" : origin);
    http_preset(x, "Access-Control-Expose-Headers", exposed);
}

void api_preflight(struct http_exchange *x)
{
    const char *wanted = http_header(http_request(x), "access-control-request-headers");

    http_begin(x, 204);
    http_field(x, "Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS");
    http_field(x, "Access-Control-Allow-Headers", wanted != NULL ? wanted : "*");
    http_field(x, "Access-Control-Max-Age", "7200");
    http_start(x, 0);
    http_end(x);
}

static void preset_number(struct http_exchange *x, const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    http_preset(x, name, text);
}

bool api_within_rate(struct daemon *d, struct http_exchange *x, size_t route)
{
    struct rate_answer a;

    if (d->config.rate_limit == 0)
        return true;
    a = rate_take(&d->rates[route], d->config.rate_limit, NS_PER_S, clock_monotonic_ns());
    preset_number(x, "RateLimit-Limit", d->config.rate_limit);
    preset_number(x, "RateLimit-Remaining", a.remaining);
    preset_number(x, "RateLimit-Reset", a.reset_s);
    if (a.allowed)
        return true;
    preset_number(x, "Retry-After", a.retry_s);
    api_error(x, 429, "Rate limit exceeded");
    return false;
}
