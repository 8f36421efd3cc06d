/*
 * Unary calls, on the caller's thread: attempts at one address after another until one answers, one
 * fails for good, or the time is over. A call that must not happen twice is sent on a connection
 * that is known to stand, and never again once it was sent.
 */
#include "client/unary.h"

#include "client/client.h"
#include "client/error.h"
#include "common/base/clock.h"

enum { QUICK_MS = 10 * 1000, CONNECT_SLICE_MS = 100 };

struct unary {
    struct sandbox_client *client;
    const char *service;
    const ProtobufCMethodDescriptor *method;
    const ProtobufCMessage *request;
    enum unary_repeat repeat;
    int64_t deadline_ns;
    struct resume resume;
    ProtobufCMessage *response; /* owned */
};

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t attempt_deadline_ns(const struct unary *u)
{
    if (u->repeat != UNARY_QUICK || u->resume.policy.n_addresses == 1)
        return u->deadline_ns;
    return earlier(u->deadline_ns, clock_monotonic_ns() + QUICK_MS * NS_PER_MS);
}

/* In slices, because nothing else interrupts waiting for a connection. */
static bool connect(struct unary *u, struct sandbox_error *err)
{
    struct sandbox_client *c = u->client;
    struct endpoint *e = c->endpoints[u->resume.address];
    int64_t until =
        earlier(u->deadline_ns, clock_monotonic_ns() + c->connect_timeout_ms * NS_PER_MS);

    while (!client_is_stopped(c, err)) {
        int64_t now = clock_monotonic_ns();

        if (endpoint_connect(e, earlier(until, now + CONNECT_SLICE_MS * NS_PER_MS)))
            return true;
        /* Sooner than asked: refused, not slow. */
        if (clock_monotonic_ns() >= until || clock_monotonic_ns() - now < NS_PER_MS) {
            struct sandbox_error why;

            error_local(&why, SANDBOX_UNAVAILABLE, "", "cannot connect to %s", endpoint_address(e));
            client_error(c, u->resume.address, &why, err);
            return false;
        }
    }
    return false;
}

static void take_response(struct unary *u, struct client_call *call, struct sandbox_error *ret)
{
    ProtobufCMessage *m = NULL;
    unsigned n = 0;

    while (rpc_next(call->rpc, u->method->output, INT64_MAX, &m) == RPC_MESSAGE) {
        sandbox_free(u->response);
        u->response = m;
        n++;
    }
    *ret = *rpc_error(call->rpc);
    if (ret->code == SANDBOX_OK && n != 1)
        error_local(ret, SANDBOX_DATA_LOSS, "BAD_RESPONSE", "the server sent %u responses to %s", n,
                    u->method->name);
}

static bool attempt(struct unary *u, struct sandbox_error *err)
{
    struct client_call call = {0};
    struct sandbox_error why;

    if (!client_call_start(u->client, &call, u->resume.address, u->service, u->method->name,
                           RPC_ONE, u->request, attempt_deadline_ns(u), err))
        return false;
    take_response(u, &call, &why);
    client_call_end(u->client, &call, why.code != SANDBOX_OK ? &why : NULL);
    if (why.code == SANDBOX_OK)
        return true;
    sandbox_free(u->response);
    u->response = NULL;
    client_error(u->client, u->resume.address, &why, err);
    return false;
}

/* Whether to make another attempt after err, and when. */
static bool next_attempt(struct unary *u, bool was_sent, struct sandbox_error *err)
{
    bool slow = err->code == SANDBOX_DEADLINE_EXCEEDED && clock_monotonic_ns() < u->deadline_ns;

    if (u->repeat == UNARY_ONCE && was_sent && !error_is_refusal(err))
        return false;
    if (!error_is_passing(err) && !slow)
        return false;

    struct resume_step step = resume_failed(&u->resume, err, client_now_ms(), client_chance());

    return step.what == RESUME_AGAIN && client_wait(u->client, step.wait_ms, err);
}

static bool run(struct unary *u, struct sandbox_error *err)
{
    for (;;) {
        bool may_send = u->repeat != UNARY_ONCE || connect(u, err);

        if (may_send && attempt(u, err)) {
            atomic_store(&u->client->preferred, u->resume.address);
            return true;
        }
        if (!next_attempt(u, may_send, err))
            return false;
    }
}

bool unary_call(struct sandbox_client *client, const ProtobufCServiceDescriptor *service,
                const char *method, const ProtobufCMessage *request, enum unary_repeat repeat,
                int64_t timeout_ms, ProtobufCMessage **ret, struct sandbox_error *err)
{
    struct sandbox_error scratch;
    struct resume_policy policy = client->policy;
    struct unary u = {
        .client = client,
        .service = service->name,
        .method = protobuf_c_service_descriptor_get_method_by_name(service, method),
        .request = request,
        .repeat = repeat,
        .deadline_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS,
    };

    if (err == NULL)
        err = &scratch;
    if (ret != NULL)
        *ret = NULL;
    if (u.method == NULL)
        return error_local(err, SANDBOX_UNIMPLEMENTED, "BAD_OPTIONS", "%s has no method %s",
                           service->name, method);
    policy.give_up_ms = timeout_ms;
    resume_init(&u.resume, &policy, atomic_load(&client->preferred));
    u.resume.failing_since_ms = client_now_ms(); /* the time allowed starts now */
    if (!run(&u, err))
        return false;
    *err = (struct sandbox_error){.code = SANDBOX_OK};
    if (ret != NULL)
        *ret = u.response;
    else
        sandbox_free(u.response);
    return true;
}
