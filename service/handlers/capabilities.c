/* GetCapabilities: what this server is and how it is set, without asking anybody. */
#include "service/handlers/capabilities.h"

#include "common/base/version.h"
#include "sandbox/v1/lifecycle.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/handlers/methods.h"
#include "service/handlers/sandbox_operation.h"

enum { SERVICES_MAX = 16 };

/* Of the method table, whose rows of one service stand together. */
static size_t list_services(char *ret[SERVICES_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < n_methods && n < SERVICES_MAX; i++) {
        if (i == 0 || methods[i].service != methods[i - 1].service)
            ret[n++] = (char *)methods[i].service->name;
    }
    return n;
}

static void set_seconds(Google__Protobuf__Duration *d, int64_t ms)
{
    google__protobuf__duration__init(d);
    d->seconds = ms / 1000;
    d->nanos = (int32_t)(ms % 1000) * 1000000;
}

void get_capabilities_start(struct call *c, const ProtobufCMessage *message)
{
    const struct config *config = ((const struct app *)call_app(c))->config;
    Sandbox__V1__GetCapabilitiesResponse m = SANDBOX__V1__GET_CAPABILITIES_RESPONSE__INIT;
    Google__Protobuf__Duration default_timeout, max_timeout, heartbeat, watch_period;
    char *services[SERVICES_MAX];
    int64_t timeout_default_s;

    timeout_read(NULL, TIMEOUT_DEFAULT_S, timeout_max_s(c), &timeout_default_s, &STATUS_INIT);
    (void)message;
    m.version = (char *)SANDBOXD_VERSION;
    m.n_services = list_services(services);
    m.services = services;
    m.default_template = (char *)config->e2b_template;
    m.max_message_bytes = config->message_max;
    m.max_read_file_bytes = config->read_file_max;
    set_seconds(&default_timeout, timeout_default_s * 1000);
    set_seconds(&max_timeout, config->max_timeout_ms);
    set_seconds(&heartbeat, config->heartbeat_ms);
    set_seconds(&watch_period, config->watch_period_ms);
    m.default_timeout = &default_timeout;
    m.max_timeout = &max_timeout;
    m.heartbeat_interval = &heartbeat;
    m.watch_period = &watch_period;
    call_reply(c, &m.base);
}
