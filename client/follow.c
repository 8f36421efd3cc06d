/*
 * sandbox_run(), sandbox_logs() and sandbox_attach(): one view of a command, over as many attempts
 * as it takes, on the caller's thread. An attempt is one streaming call; sequence numbers decide
 * what is delivered, and resume.c what happens when an attempt breaks. All calls answer with the
 * same message shape, of which Attach's has a field more, so everything is read as an
 * AttachResponse.
 */
#include "client/acker.h"
#include "client/client.h"
#include "client/error.h"
#include "client/many.h"
#include "client/terminal.h"
#include "common/base/clock.h"

#include <stdio.h>
#include <string.h>

enum { ACK_BYTES = 1 << 20 };

struct follow {
    struct sandbox_client *client;           /* borrowed */
    const struct sandbox_handlers *handlers; /* borrowed */
    struct sandbox_result *result;           /* borrowed */
    struct resume resume;
    struct sequence sequence;
    struct acker *acker; /* owned; NULL: nothing to acknowledge */
    struct many *many;   /* borrowed; of all commands, or of none; NULL: of one */
    uint64_t limit_left; /* of logs.limit_bytes */

    Sandbox__V1__RunCommandRequest run; /* a shallow copy; used while `starts` */
    Sandbox__V1__LogsRequest logs;      /* the same view without starting anything */
    Sandbox__V1__AttachBegin attach;    /* the same with a terminal */
    struct sandbox_terminal *terminal;  /* borrowed; NULL: there is none */
    bool starts;                        /* RunCommand is (still) what to call */
    bool deadly;                        /* ON_DISCONNECT_KILL */

    bool opened;      /* some attempt was answered */
    bool broken;      /* the present one was not, yet */
    unsigned open_at; /* the address of the last that was */
};

enum outcome {
    FOLLOW_ENDED,   /* at its proper end */
    FOLLOW_STOPPED, /* by the handler */
    FOLLOW_BROKE,   /* see the error */
};

static size_t output_size(const Sandbox__V1__CommandEvent *event)
{
    switch (event->event_case) {
    case SANDBOX__V1__COMMAND_EVENT__EVENT_STDOUT:
        return event->stdout.len;
    case SANDBOX__V1__COMMAND_EVENT__EVENT_STDERR:
        return event->stderr.len;
    case SANDBOX__V1__COMMAND_EVENT__EVENT_TERMINAL:
        return event->terminal.len;
    case SANDBOX__V1__COMMAND_EVENT__EVENT_TEXT:
        return strlen(event->text->text);
    default:
        return 0;
    }
}

static void note_exit(struct sandbox_result *r, const Sandbox__V1__Exited *exited)
{
    r->exited = true;
    r->reason = exited->reason;
    r->code = exited->code;
    r->signal = exited->signal;
    snprintf(r->message, sizeof(r->message), "%s", exited->message);
}

/* False: the handler has seen enough. */
static bool deliver(struct follow *f, const Sandbox__V1__CommandEvent *event)
{
    struct sandbox_result *r = f->result;
    bool more = true;

    r->last_seq = event->seq;
    r->n_events++;
    if (event->event_case == SANDBOX__V1__COMMAND_EVENT__EVENT_EXITED)
        note_exit(r, event->exited);
    if (event->event_case == SANDBOX__V1__COMMAND_EVENT__EVENT_DROPPED)
        r->dropped_bytes += event->dropped->bytes;
    if (f->handlers->on_event != NULL)
        more = f->handlers->on_event(f->handlers->user, event);
    f->limit_left -= output_size(event) < f->limit_left ? output_size(event) : f->limit_left;
    if (f->acker != NULL)
        acker_take(f->acker, event->seq, output_size(event));
    return more;
}

static bool gap(struct sandbox_error *why, const struct follow *f, uint64_t seq)
{
    return error_local(why, SANDBOX_DATA_LOSS, "SEQUENCE_GAP",
                       "event %llu was expected, the server went on to %llu",
                       (unsigned long long)f->sequence.last_seq + 1, (unsigned long long)seq);
}

static enum outcome take_events(struct follow *f, const Sandbox__V1__AttachResponse *m,
                                struct sandbox_error *why)
{
    for (size_t i = 0; i < m->n_events; i++) {
        switch (sequence_event(&f->sequence, m->events[i])) {
        case SEQUENCE_NEW:
            /* From here on the command exists, and reading it cannot start it again. */
            f->starts = f->starts && f->deadly;
            resume_progress(&f->resume);
            if (!deliver(f, m->events[i]))
                return FOLLOW_STOPPED;
            break;
        case SEQUENCE_REPEATED:
            f->result->n_repeated++;
            break;
        case SEQUENCE_GAP:
            gap(why, f, m->events[i]->seq);
            return FOLLOW_BROKE;
        }
    }
    if (sequence_claim(&f->sequence, m->last_seq))
        return FOLLOW_ENDED;
    gap(why, f, m->last_seq);
    return FOLLOW_BROKE;
}

static bool set_command_id(struct sandbox_result *result, const char *id, struct sandbox_error *err)
{
    if (strlen(id) >= sizeof(result->command_id)) {
        error_local(err, SANDBOX_INVALID_ARGUMENT, "INVALID_FIELD",
                    "a command_id has 1 to 64 of A-Z a-z 0-9 _ -");
        snprintf(err->field, sizeof(err->field), "command_id");
        return false;
    }
    snprintf(result->command_id, sizeof(result->command_id), "%s", id);
    return true;
}

/* Events of one of many commands; NULL in m->command_id's place: of none. */
static enum outcome take_many(struct follow *f, const Sandbox__V1__AttachResponse *m,
                              struct sandbox_error *why)
{
    struct sandbox_result *r = f->result;

    if (m->n_events > 0 && strcmp(m->command_id, r->command_id) != 0) {
        if (!set_command_id(r, m->command_id, why))
            return FOLLOW_BROKE;
        if (f->handlers->on_command != NULL)
            f->handlers->on_command(f->handlers->user, r->command_id);
    }
    for (size_t i = 0; i < m->n_events; i++) {
        switch (many_event(f->many, m->command_id, m->events[i])) {
        case SEQUENCE_NEW:
            resume_progress(&f->resume);
            if (!deliver(f, m->events[i]))
                return FOLLOW_STOPPED;
            break;
        case SEQUENCE_REPEATED:
            r->n_repeated++;
            break;
        case SEQUENCE_GAP:
            error_local(why, SANDBOX_DATA_LOSS, "SEQUENCE_GAP",
                        "events of command %s before %llu are missing", r->command_id,
                        (unsigned long long)m->events[i]->seq);
            return FOLLOW_BROKE;
        }
    }
    if (m->cursor.len > 0) {
        many_set_cursor(f->many, m->cursor.data, m->cursor.len);
        if (f->handlers->on_cursor != NULL)
            f->handlers->on_cursor(f->handlers->user, m->cursor.data, m->cursor.len);
    }
    return FOLLOW_ENDED;
}

static void note_answer(struct follow *f)
{
    struct sandbox_client *c = f->client;
    unsigned now_at = f->resume.address;

    if (f->broken && f->opened) {
        f->result->n_resumes++;
        if (f->handlers->on_resume != NULL)
            f->handlers->on_resume(f->handlers->user, endpoint_address(c->endpoints[f->open_at]),
                                   endpoint_address(c->endpoints[now_at]), f->sequence.last_seq);
    }
    f->opened = true;
    f->broken = false;
    f->open_at = now_at;
    atomic_store(&c->preferred, now_at);
}

/* FOLLOW_ENDED means: go on reading. */
static enum outcome take_message(struct follow *f, const Sandbox__V1__AttachResponse *m,
                                 int64_t since_ms, struct sandbox_error *why)
{
    const char *id = f->result->command_id;

    if (f->many == NULL && m->command_id[0] != '\0' && strcmp(m->command_id, id) != 0) {
        error_local(why, SANDBOX_DATA_LOSS, "BAD_RESPONSE",
                    "the server answered for command %.64s instead of %s", m->command_id, id);
        return FOLLOW_BROKE;
    }
    note_answer(f);
    if (f->terminal != NULL && m->input != NULL)
        terminal_taken(f->terminal, m->input->offset);
    /* The first message proves little: a pod that says hello and falls over does so every time. */
    if (client_now_ms() - since_ms >= f->client->heartbeat_interval_ms)
        resume_progress(&f->resume);
    if (f->many != NULL)
        return take_many(f, m, why);
    return take_events(f, m, why);
}

static void check_end(struct follow *f, struct sandbox_error *why)
{
    if (why->code == SANDBOX_OK && f->logs.follow && f->many == NULL &&
        !sequence_is_complete(&f->sequence, f->logs.until))
        error_local(why, SANDBOX_UNAVAILABLE, "TRUNCATED",
                    "the stream ended behind event %llu, before the command did",
                    (unsigned long long)f->sequence.last_seq);
}

static enum outcome read_stream(struct follow *f, struct rpc *rpc, struct sandbox_error *why)
{
    int64_t silence_ms = f->client->heartbeat_interval_ms * 5 / 2;
    int64_t since_ms = client_now_ms();
    int64_t heard_ns = clock_monotonic_ns(); /* typing is no sign of the server's life */

    for (;;) {
        ProtobufCMessage *m = NULL;
        enum outcome outcome;

        if (f->terminal != NULL && !terminal_pump(f->terminal))
            return FOLLOW_STOPPED;
        switch (rpc_next(rpc, &sandbox__v1__attach_response__descriptor,
                         heard_ns + silence_ms * NS_PER_MS, &m)) {
        case RPC_MESSAGE:
            outcome = take_message(f, (Sandbox__V1__AttachResponse *)m, since_ms, why);
            sandbox_free(m);
            if (outcome != FOLLOW_ENDED)
                return outcome;
            heard_ns = clock_monotonic_ns(); /* a slow handler is no silence */
            break;
        case RPC_AGAIN:
            break;
        case RPC_TIMEOUT:
            error_local(why, SANDBOX_UNAVAILABLE, "SILENT",
                        "nothing was heard for %lld ms, not even a heartbeat",
                        (long long)silence_ms);
            return FOLLOW_BROKE;
        case RPC_END:
            *why = *rpc_error(rpc);
            check_end(f, why);
            return why->code == SANDBOX_OK ? FOLLOW_ENDED : FOLLOW_BROKE;
        }
    }
}

/* What this attempt asks for. */
static bool start_attempt(struct follow *f, struct client_call *call, struct sandbox_error *err)
{
    const char *service = sandbox__v1__sandbox_service__descriptor.name;
    Sandbox__V1__AttachRequest attach = SANDBOX__V1__ATTACH_REQUEST__INIT;
    uint64_t from_seq = f->sequence.last_seq + 1;

    f->run.from_seq = f->attach.from_seq = from_seq;
    f->logs.from_seq = f->many == NULL ? from_seq : 0;
    if (f->many != NULL)
        f->logs.cursor = (ProtobufCBinaryData){.data = f->many->cursor, .len = f->many->cursor_len};
    if (f->sequence.last_seq >= f->sequence.first_seq)
        f->logs.tail = NULL; /* where it starts was found */
    if (f->logs.limit_bytes != 0)
        f->logs.limit_bytes = f->limit_left > 0 ? f->limit_left : 1;
    if (f->terminal != NULL) {
        attach.request_case = SANDBOX__V1__ATTACH_REQUEST__REQUEST_BEGIN;
        attach.begin = &f->attach;
        return client_call_start(f->client, call, f->resume.address, service, "Attach", RPC_MANY,
                                 &attach.base, INT64_MAX, err);
    }
    return client_call_start(f->client, call, f->resume.address, service,
                             f->starts ? "RunCommand" : "Logs", RPC_ONE,
                             f->starts ? &f->run.base : &f->logs.base, INT64_MAX, err);
}

static enum outcome attempt(struct follow *f, struct sandbox_error *err)
{
    struct client_call call = {0};
    struct sandbox_error why;

    if (!start_attempt(f, &call, err))
        return FOLLOW_BROKE;
    if (f->terminal != NULL)
        terminal_use(f->terminal, call.rpc);

    enum outcome outcome = read_stream(f, call.rpc, &why);

    if (f->terminal != NULL)
        terminal_use(f->terminal, NULL);
    client_call_end(f->client, &call, outcome == FOLLOW_BROKE ? &why : NULL);
    if (outcome == FOLLOW_BROKE)
        client_error(f->client, f->resume.address, &why, err);
    return outcome;
}

/* Moves on to the next address. False: err stands. */
static bool try_again(struct follow *f, struct sandbox_error *err)
{
    f->broken = true;
    return error_is_passing(err) &&
           client_try_next(f->client, &f->resume, f->handlers->on_break, f->handlers->user, err);
}

static bool follow(struct follow *f, struct sandbox_error *err)
{
    if (f->handlers->on_command != NULL && f->many == NULL)
        f->handlers->on_command(f->handlers->user, f->result->command_id);
    for (;;) {
        switch (attempt(f, err)) {
        case FOLLOW_STOPPED:
            f->result->stopped = true;
            return true;
        case FOLLOW_ENDED:
            return true;
        case FOLLOW_BROKE:
            if (!try_again(f, err))
                return false;
            break;
        }
    }
}

/* What the request leaves out is not missing. */
static void note_view(struct follow *f)
{
    const Sandbox__V1__LogsRequest *l = &f->logs;

    f->sequence.sparse = l->n_streams > 0 || l->tail != NULL || l->since != NULL;
    f->sequence.partial =
        l->tail != NULL || l->since != NULL || l->before != NULL || l->limit_bytes > 0;
    f->limit_left = l->limit_bytes;
}

static bool follow_to_end(struct follow *f, uint64_t from_seq, bool acknowledge, size_t ack_bytes,
                          struct sandbox_error *err)
{
    resume_init(&f->resume, &f->client->policy, atomic_load(&f->client->preferred));
    sequence_init(&f->sequence, from_seq);
    note_view(f);
    if (acknowledge)
        f->acker = acker_new(f->client, f->logs.sandbox_id, f->result->command_id, ack_bytes);

    bool ok = follow(f, err);

    acker_free(f->acker);
    if (ok)
        *err = (struct sandbox_error){.code = SANDBOX_OK};
    return ok;
}

/* Where outcomes go that the caller is not interested in. */
struct unwanted {
    struct sandbox_result result;
    struct sandbox_error err;
};

/* The caller's end of the view; *err is made to point somewhere. */
static void set_caller(struct follow *f, const struct sandbox_handlers *handlers,
                       struct sandbox_result *result, struct sandbox_error **err,
                       struct unwanted *room)
{
    static const struct sandbox_handlers no_handlers;

    f->handlers = handlers != NULL ? handlers : &no_handlers;
    f->result = result != NULL ? result : &room->result;
    *f->result = (struct sandbox_result){0};
    if (*err == NULL)
        *err = &room->err;
}

bool sandbox_run(struct sandbox_client *client, const Sandbox__V1__RunCommandRequest *request,
                 const struct sandbox_handlers *handlers, struct sandbox_result *result,
                 struct sandbox_error *err)
{
    struct unwanted room;
    struct follow f = {
        .client = client,
        .run = *request,
        .logs = SANDBOX__V1__LOGS_REQUEST__INIT,
        .starts = true,
        .deadly = request->on_disconnect == SANDBOX__V1__ON_DISCONNECT__ON_DISCONNECT_KILL,
    };
    size_t ack_bytes = ACK_BYTES;

    set_caller(&f, handlers, result, &err, &room);
    if (request->command_id[0] == '\0')
        sandbox_make_id(f.result->command_id);
    else if (!set_command_id(f.result, request->command_id, err))
        return false;
    f.run.command_id = f.logs.command_id = f.result->command_id;
    f.logs.sandbox_id = request->sandbox_id;
    f.logs.follow = true;
    f.logs.encoding = request->encoding;
    f.logs.until = request->until;
    /* A record smaller than a few acknowledgements would stand still between them. */
    if (request->max_journal_bytes > 0 && request->max_journal_bytes / 4 < ack_bytes)
        ack_bytes = request->max_journal_bytes / 4;
    return follow_to_end(&f, request->from_seq,
                         request->overflow == SANDBOX__V1__OVERFLOW__OVERFLOW_BLOCK, ack_bytes,
                         err);
}

bool sandbox_logs(struct sandbox_client *client, const Sandbox__V1__LogsRequest *request,
                  bool acknowledge, const struct sandbox_handlers *handlers,
                  struct sandbox_result *result, struct sandbox_error *err)
{
    struct unwanted room;
    struct many many;
    struct follow f = {
        .client = client,
        .run = SANDBOX__V1__RUN_COMMAND_REQUEST__INIT,
        .logs = *request,
    };
    bool ok;

    set_caller(&f, handlers, result, &err, &room);
    if (!set_command_id(f.result, request->command_id, err))
        return false;
    many_init(&many, request->n_streams > 0, request->cursor.data, request->cursor.len);
    if (request->command_id[0] == '\0')
        f.many = &many;
    ok = follow_to_end(&f, request->from_seq, acknowledge && f.many == NULL, ACK_BYTES / 4, err);
    many_deinit(&many);
    return ok;
}

bool sandbox_attach(struct sandbox_client *client, const Sandbox__V1__AttachBegin *begin,
                    struct sandbox_terminal *terminal, const struct sandbox_handlers *handlers,
                    struct sandbox_result *result, struct sandbox_error *err)
{
    struct unwanted room;
    struct follow f = {
        .client = client,
        .run = SANDBOX__V1__RUN_COMMAND_REQUEST__INIT,
        .logs = SANDBOX__V1__LOGS_REQUEST__INIT,
        .attach = *begin,
        .terminal = terminal,
    };
    bool ok;

    set_caller(&f, handlers, result, &err, &room);
    f.logs.follow = true;
    f.logs.until = begin->until;
    ok = set_command_id(f.result, begin->command_id, err) &&
         follow_to_end(&f, begin->from_seq, false, 0, err);
    terminal_end(terminal);
    return ok;
}
