/* PUT /sandboxes/{id}/network: the rules of a sandbox that runs, replaced by others. */
#include "runtime/local/api/api.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/egress/egress.h"
#include "runtime/local/egress/network.h"

#include <stdlib.h>

/* What is not given is cleared, this too. */
static bool read_internet(const struct json_object *body, bool *ret, struct status *st)
{
    struct json_object *v = NULL;

    *ret = true;
    if (!json_object_object_get_ex(body, "allow_internet_access", &v) || v == NULL)
        return true;
    *ret = json_object_get_boolean(v);
    if (!json_object_is_type(v, json_type_boolean))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "validation error: allow_internet_access must be true or false");
    return true;
}

void api_network(const struct api_call *call)
{
    AUTO(network_deinit) struct network n = {.public_traffic = true};
    struct sandbox *s = api_sandbox(call);
    struct status st = STATUS_INIT;
    bool internet;

    if (s == NULL || !api_is_running(call, s))
        return;
    if (!read_internet(call->body, &internet, &st) ||
        !network_update(&n, s->network, call->body, internet, &st)) {
        api_status(call->x, &st);
        return;
    }
    if (daemon_set_network(call->daemon, s, &n, internet, &st))
        api_reply_kept(call, 204, NULL);
    else
        api_status(call->x, &st);
}
