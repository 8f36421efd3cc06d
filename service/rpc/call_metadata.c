/*
 * What a caller sent along with its call: metadata, copied into strings when they are asked for,
 * the request's id, and where it came from. On the worker's thread.
 */
#include "service/rpc/call_impl.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "service/trace/tracer.h"

#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 64 };

/* A metadata value as a string, made when it was first asked for. */
struct copied {
    struct copied *next;
    char key[KEY_MAX];
    char value[];
};

static char *slice_text(grpc_slice slice, struct copied **ret)
{
    size_t len = GRPC_SLICE_LENGTH(slice);

    *ret = xcalloc(1, sizeof(**ret) + len + 1);
    memcpy((*ret)->value, GRPC_SLICE_START_PTR(slice), len);
    return (*ret)->value;
}

const char *call_metadata(const struct call *call, const char *key)
{
    struct call *c = (struct call *)call; /* the copies are a cache */

    for (struct copied *have = c->copied; have != NULL; have = have->next) {
        if (strcmp(have->key, key) == 0)
            return have->value;
    }
    for (size_t i = 0; i < c->metadata.count; i++) {
        struct copied *copy;

        if (grpc_slice_str_cmp(c->metadata.metadata[i].key, key) != 0)
            continue;
        slice_text(c->metadata.metadata[i].value, &copy);
        snprintf(copy->key, sizeof(copy->key), "%s", key);
        copy->next = c->copied;
        c->copied = copy;
        return copy->value;
    }
    return NULL;
}

const char *call_peer(const struct call *call)
{
    struct call *c = (struct call *)call;

    if (c->peer == NULL)
        c->peer = grpc_call_get_peer(c->core);
    return c->peer;
}

static const char *auth_property(const grpc_auth_context *auth, const char *name)
{
    grpc_auth_property_iterator found = grpc_auth_context_find_properties_by_name(auth, name);
    const grpc_auth_property *p = grpc_auth_property_iterator_next(&found);

    return p != NULL && p->value_length > 0 ? p->value : NULL;
}

const char *call_peer_certificate(const struct call *call, const char **ret_others)
{
    struct call *c = (struct call *)call;

    if (c->auth == NULL)
        c->auth = grpc_call_auth_context(c->core);
    *ret_others = NULL;
    if (c->auth == NULL)
        return NULL;
    *ret_others = auth_property(c->auth, GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME);
    return auth_property(c->auth, GRPC_X509_PEM_CERT_PROPERTY_NAME);
}

static bool is_request_id(const char *id)
{
    size_t len = strlen(id);

    if (len == 0 || len > REQUEST_ID_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (id[i] <= ' ' || id[i] > '~' || id[i] == '"' || id[i] == '\\')
            return false;
    }
    return true;
}

void call_take_request_id(struct call *c)
{
    static atomic_ullong count;
    const char *given = call_metadata(c, "x-request-id");

    if (given != NULL && is_request_id(given))
        snprintf(c->request_id, sizeof(c->request_id), "%s", given);
    else
        snprintf(c->request_id, sizeof(c->request_id), "%llx-%llx",
                 (unsigned long long)clock_wall_ns(), atomic_fetch_add(&count, 1));
}

void call_take_trace(struct call *c)
{
    /* Probes and the like are part of nobody's work. */
    if (c->binding != NULL && !c->binding->standard)
        c->trace = tracer_begin(c->worker->server->config.tracer, call_metadata(c, "traceparent"),
                                call_metadata(c, "tracestate"));
    c->executor.trace = c->trace;
}

struct trace *call_trace(const struct call *c)
{
    return c->trace;
}

void call_metadata_deinit(struct call *c)
{
    trace_unref(c->trace);
    while (c->copied != NULL) {
        struct copied *next = c->copied->next;

        free(c->copied);
        c->copied = next;
    }
    gpr_free(c->peer);
    if (c->auth != NULL)
        grpc_auth_context_release(c->auth);
    grpc_metadata_array_destroy(&c->metadata);
}
