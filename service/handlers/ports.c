/*
 * ListPorts, and GetSandboxUrl: what listens is the recorder's to say (its verb `ports`), where a
 * port answers E2B's. Waiting for a port is done in the sandbox, round by round, so that no pod
 * polls. On the call's worker.
 */
#include "service/handlers/ports.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/ports.pb-c.h"
#include "sandbox/v1/sandbox.pb-c.h"
#include "service/handlers/file_call.h"

#include <stdio.h>
#include <stdlib.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    WAIT_MAX_MS = 600000,
    ROUND_MS = 15000, /* one process in the sandbox waits so long: nobody finds it silent */
};

/* The recorder's answer, checked: freed by the caller. NULL: st says what is wrong. */
static Sandbox__V1__ListPortsResponse *read_ports(const struct e2b_output *output,
                                                  struct status *st)
{
    Sandbox__V1__ListPortsResponse *m;

    if (output->exit_code != RECORDER_OK) {
        file_result(output->exit_code, output->err, st);
        return NULL;
    }
    m = sandbox__v1__list_ports_response__unpack(NULL, output->out_len, output->out);
    if (m != NULL && message_is_text(&m->base))
        return m;
    if (m != NULL)
        sandbox__v1__list_ports_response__free_unpacked(m, NULL);
    status_set(st, CODE_DATA_LOSS, REASON(JOURNAL_CORRUPT),
               "the recorder's list of ports does not hold together: it was changed from inside "
               "the sandbox");
    return NULL;
}

/* --- ListPorts --- */

struct port_list {
    struct operation o;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    struct e2b_output output;
};

static void list_release(struct operation *o)
{
    struct port_list *k = container_of(o, struct port_list, o);

    free(k->output.out);
    free(k);
}

static void list_answer(struct operation *o)
{
    struct status st = STATUS_INIT;
    Sandbox__V1__ListPortsResponse *m =
        read_ports(&container_of(o, struct port_list, o)->output, &st);

    if (m == NULL) {
        call_finish(o->call, &st);
        return;
    }
    call_reply(o->call, &m->base);
    sandbox__v1__list_ports_response__free_unpacked(m, NULL);
}

void list_ports_start(struct call *c, const ProtobufCMessage *message)
{
    static const char *const args[] = {"ports", NULL};
    const Sandbox__V1__ListPortsRequest *r = (const Sandbox__V1__ListPortsRequest *)message;
    struct status st = STATUS_INIT;
    struct port_list *k;

    if (!validate_id("sandbox_id", r->sandbox_id, &st)) {
        call_finish(c, &st);
        return;
    }
    k = xcalloc(1, sizeof(*k));
    k->o.answer = list_answer;
    k->o.release = list_release;
    snprintf(k->sandbox_id, sizeof(k->sandbox_id), "%s", r->sandbox_id);
    operation_begin(&k->o, c);
    e2b_verb(operation_e2b(&k->o), &k->o.op, k->sandbox_id, args, NULL, 0, true, &k->output);
}

/* --- GetSandboxUrl --- */

struct port_url {
    struct operation o;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    unsigned port;
    int64_t wait_until_ns; /* monotonic */
    struct e2b_output output;
    char *url, *host, *token; /* owned */
};

static void port_url_release(struct operation *o)
{
    struct port_url *k = container_of(o, struct port_url, o);

    free(k->url);
    free(k->host);
    free(k->token);
    free(k->output.out);
    free(k);
}

static void port_url_answer(struct operation *o)
{
    struct port_url *k = container_of(o, struct port_url, o);
    Sandbox__V1__GetSandboxUrlResponse m = SANDBOX__V1__GET_SANDBOX_URL_RESPONSE__INIT;
    Sandbox__V1__GetSandboxUrlResponse__HeadersEntry header =
        SANDBOX__V1__GET_SANDBOX_URL_RESPONSE__HEADERS_ENTRY__INIT;
    Sandbox__V1__GetSandboxUrlResponse__HeadersEntry *headers[] = {&header};
    char name[] = "e2b-traffic-access-token";

    m.url = k->url;
    m.host = k->host;
    if (k->token != NULL) {
        header.key = name;
        header.value = k->token;
        m.headers = headers;
        m.n_headers = 1;
    }
    call_reply(o->call, &m.base);
}

static void ask_url(struct port_url *k)
{
    k->o.answer = port_url_answer;
    e2b_port_url(operation_e2b(&k->o), &k->o.op, k->sandbox_id, k->port, &k->url, &k->host,
                 &k->token);
}

static bool listens(const Sandbox__V1__ListPortsResponse *m, unsigned port)
{
    for (size_t i = 0; i < m->n_ports; i++) {
        if (m->ports[i]->port == port)
            return true;
    }
    return false;
}

static void wait_round(struct port_url *k)
{
    int64_t left_ms = (k->wait_until_ns - clock_monotonic_ns()) / NS_PER_MS;
    char port[24], timeout[40];
    const char *const args[] = {"ports", port, timeout, NULL};

    left_ms = left_ms < 0 ? 0 : left_ms;
    snprintf(port, sizeof(port), "--port=%u", k->port);
    snprintf(timeout, sizeof(timeout), "--timeout-ms=%lld",
             (long long)(left_ms < ROUND_MS ? left_ms : ROUND_MS));
    free(k->output.out);
    k->output = (struct e2b_output){0};
    e2b_verb(operation_e2b(&k->o), &k->o.op, k->sandbox_id, args, NULL, 0, true, &k->output);
}

static void round_answer(struct operation *o)
{
    struct port_url *k = container_of(o, struct port_url, o);
    struct status st = STATUS_INIT;
    Sandbox__V1__ListPortsResponse *m = read_ports(&k->output, &st);
    bool found = m != NULL && listens(m, k->port);

    if (m != NULL)
        sandbox__v1__list_ports_response__free_unpacked(m, NULL);
    if (m != NULL && !found && clock_monotonic_ns() >= k->wait_until_ns)
        status_set(&st, CODE_DEADLINE_EXCEEDED, REASON(PORT_CLOSED),
                   "nothing listens on port %u of the sandbox", k->port);
    if (st.code != CODE_OK) {
        call_finish(o->call, &st);
        return;
    }
    operation_again(o);
    if (found)
        ask_url(k);
    else
        wait_round(k);
}

static bool read_url(struct port_url *k, const Sandbox__V1__GetSandboxUrlRequest *r,
                     struct status *st)
{
    int64_t wait_ms = 0;

    if (!validate_id("sandbox_id", r->sandbox_id, st))
        return false;
    if (r->port < 1 || r->port > 65535)
        return status_bad_field(st, REASON(INVALID_FIELD), "port", "port must be from 1 to 65535");
    if (r->wait_until_listening != NULL &&
        !validate_duration("wait_until_listening", r->wait_until_listening->seconds,
                           r->wait_until_listening->nanos, 0, WAIT_MAX_MS, &wait_ms, st))
        return false;
    snprintf(k->sandbox_id, sizeof(k->sandbox_id), "%s", r->sandbox_id);
    k->port = r->port;
    k->wait_until_ns = clock_monotonic_ns() + wait_ms * NS_PER_MS;
    return true;
}

void get_sandbox_url_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__GetSandboxUrlRequest *r = (const Sandbox__V1__GetSandboxUrlRequest *)message;
    struct port_url *k = xcalloc(1, sizeof(*k));
    struct status st = STATUS_INIT;

    k->o.answer = round_answer;
    k->o.release = port_url_release;
    if (!read_url(k, r, &st)) {
        port_url_release(&k->o);
        call_finish(c, &st);
        return;
    }
    operation_begin(&k->o, c);
    if (r->wait_until_listening != NULL)
        wait_round(k);
    else
        ask_url(k);
}
