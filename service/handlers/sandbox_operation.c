/* See sandbox_operation.h. */
#include "service/handlers/sandbox_operation.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/config.h"

#include <stdio.h>
#include <stdlib.h>

static void release(struct operation *o)
{
    struct sandbox_operation *k = container_of(o, struct sandbox_operation, o);

    e2b_sandbox_deinit(&k->sandbox);
    free(k);
}

struct sandbox_operation *sandbox_operation_new(struct call *c, const char *sandbox_id,
                                                void (*answer)(struct operation *o))
{
    struct status st = STATUS_INIT;
    struct sandbox_operation *k;

    if (!validate_id("sandbox_id", sandbox_id, &st)) {
        call_finish(c, &st);
        return NULL;
    }
    k = xcalloc(1, sizeof(*k));
    k->o.answer = answer;
    k->o.release = release;
    snprintf(k->sandbox_id, sizeof(k->sandbox_id), "%s", sandbox_id);
    operation_begin(&k->o, c);
    return k;
}

int64_t timeout_max_s(const struct call *c)
{
    return ((const struct app *)call_app(c))->config->max_timeout_ms / 1000;
}

bool timeout_read(const Google__Protobuf__Duration *d, int64_t default_s, int64_t max_s,
                  int64_t *ret_s, struct status *st)
{
    int64_t ms;

    *ret_s = default_s < max_s ? default_s : max_s;
    if (d == NULL)
        return default_s > 0 ||
               status_bad_field(st, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
                                "timeout", "timeout is required");
    if (!validate_duration("timeout", d->seconds, d->nanos, 1000, max_s * 1000, &ms, st))
        return false;
    *ret_s = (ms + 999) / 1000;
    return true;
}

void timestamp_set(Google__Protobuf__Timestamp *t, int64_t ns)
{
    google__protobuf__timestamp__init(t);
    t->seconds = ns / NS_PER_S;
    t->nanos = (int32_t)(ns % NS_PER_S);
}
