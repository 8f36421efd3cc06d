/*
 * The stream against a client and an E2B made by hand: both seams (call.h, e2b.h) are replaced
 * here, so every order of events can be played, with no thread and no network.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/journal.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/commands.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/app.h"
#include "service/archive/archive.h"
#include "service/config.h"
#include "service/e2b/e2b.h"
#include "service/handlers/follow.h"
#include "service/rpc/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the client's side --- */

struct call {
    struct app app;
    struct executor executor;
    const struct call_handler *handler;
    void *state;
    int refs;
    bool sending; /* a message is in flight until play_sent() */
    bool finished;
    bool draining;
    enum code gone; /* CODE_OK: the client is there */
    struct status verdict;
    struct call_timer *timers[2];
    /* What the client received. */
    uint64_t events, last_seq;
    char command_id[80];
    int heartbeats;
    bool lines;     /* it is the platform's log: no numbers */
    char text[256]; /* of the events, joined */
    char cursor[64];
    Sandbox__V1__StreamState stream_state;
};

static struct call call;

void call_set_handler(struct call *c, const struct call_handler *handler, void *state)
{
    c->handler = handler;
    c->state = state;
}

void *call_app(const struct call *c)
{
    return (void *)&c->app;
}

struct pass *call_pass(const struct call *c)
{
    return NULL;
}

int64_t call_deadline_ns(const struct call *c)
{
    return INT64_MAX;
}

bool call_is_draining(const struct call *c)
{
    return c->draining;
}

enum code call_end_reason(const struct call *c)
{
    return c->gone;
}

struct trace *call_trace(const struct call *c)
{
    return NULL;
}

struct executor *call_executor(struct call *c)
{
    return &c->executor;
}

void call_ref(struct call *c)
{
    c->refs++;
}

void call_unref(struct call *c)
{
    assert_true(c->refs > 0);
    c->refs--;
}

bool call_can_send(const struct call *c)
{
    return !c->sending && !c->finished;
}

static void receive(struct call *c, const uint8_t *data, size_t len)
{
    Sandbox__V1__RunCommandResponse *m = sandbox__v1__run_command_response__unpack(NULL, len, data);

    assert_non_null(m);
    assert_false(c->sending);
    c->sending = true;
    if (m->command_id[0] != '\0')
        snprintf(c->command_id, sizeof(c->command_id), "%s", m->command_id);
    for (size_t i = 0; i < m->n_events; i++) {
        assert_int_equal(m->events[i]->seq, c->lines ? 0 : c->last_seq + 1 + i);
        if (c->lines)
            strncat(c->text, m->events[i]->text->text, sizeof(c->text) - strlen(c->text) - 1);
    }
    if (m->cursor.len > 0)
        snprintf(c->cursor, sizeof(c->cursor), "%.*s", (int)m->cursor.len, m->cursor.data);
    c->events += m->n_events;
    if (m->n_events > 0)
        c->last_seq = m->last_seq;
    else
        c->heartbeats++;
    c->stream_state = m->state;
    sandbox__v1__run_command_response__free_unpacked(m, NULL);
}

void call_send(struct call *c, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    AUTO_FREE uint8_t *data = xmalloc(len);

    protobuf_c_message_pack(message, data);
    receive(c, data, len);
}

void call_send_bytes_take(struct call *c, void *base, const uint8_t *data, size_t len, bool more)
{
    receive(c, data, len);
    free(base);
}

void call_finish(struct call *c, const struct status *st)
{
    if (c->finished)
        return;
    c->finished = true;
    c->verdict = *st;
    c->timers[0] = c->timers[1] = NULL;
}

void call_timer_start(struct call *c, struct call_timer *t, int64_t at_ns)
{
    t->call = c;
    t->timer.at_ns = at_ns;
    for (int i = 0; i < 2; i++) {
        if (c->timers[i] == t)
            return;
    }
    for (int i = 0; i < 2; i++) {
        if (c->timers[i] == NULL) {
            c->timers[i] = t;
            return;
        }
    }
    fail_msg("a third timer");
}

/* The client read the message: the next one may go. */
static void play_sent(void)
{
    assert_true(call.sending);
    call.sending = false;
    if (!call.finished)
        call.handler->on_sent(call.state);
}

static void play_all_sent(void)
{
    while (call.sending)
        play_sent();
}

/* Runs the earliest timer, as if its time had come. */
static void play_timer(void)
{
    int i = call.timers[0] == NULL || (call.timers[1] != NULL &&
                                       call.timers[1]->timer.at_ns < call.timers[0]->timer.at_ns)
                ? 1
                : 0;
    struct call_timer *t = call.timers[i];

    assert_non_null(t);
    call.timers[i] = NULL;
    t->run(t);
}

static void play_gone(enum code why)
{
    call.gone = why;
    call.handler->on_gone(call.state);
}

/* --- E2B's side --- */

struct e2b_stream {
    struct buf bytes; /* written by the follower and not taken */
};

static struct {
    char args[512]; /* of the last verb or follower, joined by spaces */
    bool with_spec;
    struct e2b_op *op; /* running; NULL: none */
    bool cancelled;
    struct e2b_stream *stream;
    void (*readable)(struct e2b_op *op);
    int streams; /* that are not freed */
    struct e2b_output *output;
    struct e2b_sandbox *sandbox; /* asked for by e2b_get */
    struct e2b_logs *logs;       /* asked for by e2b_logs */
    struct e2b_logs_args logs_args;
} e2b;

static void note_start(struct e2b_op *op, const char *const *args, const uint8_t *spec,
                       struct e2b_output *output)
{
    assert_null(e2b.op);
    e2b.op = op;
    e2b.cancelled = false;
    e2b.output = output;
    e2b.with_spec = spec != NULL;
    e2b.args[0] = '\0';
    for (; args != NULL && *args != NULL; args++) {
        strncat(e2b.args, *args, sizeof(e2b.args) - strlen(e2b.args) - 2);
        strcat(e2b.args, " ");
    }
}

struct e2b_stream *e2b_stream_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                    const char *const *args, const uint8_t *spec, size_t spec_len,
                                    void (*readable)(struct e2b_op *op), struct e2b_output *ret)
{
    note_start(op, args, spec, ret);
    e2b.readable = readable;
    e2b.stream = xcalloc(1, sizeof(*e2b.stream));
    e2b.streams++;
    buf_init(&e2b.stream->bytes, 1 << 20);
    return e2b.stream;
}

bool e2b_stream_take(struct e2b_stream *s, size_t headroom, uint8_t **ret_base, size_t *ret_len)
{
    size_t len = buf_len(&s->bytes);

    if (len == 0)
        return false;
    *ret_base = xmalloc(headroom + len);
    memcpy(*ret_base + headroom, buf_data(&s->bytes), len);
    *ret_len = len;
    buf_clear(&s->bytes);
    return true;
}

void e2b_stream_free(struct e2b_stream *s)
{
    if (s == NULL)
        return;
    e2b.streams--;
    buf_deinit(&s->bytes);
    free(s);
}

void e2b_cancel(struct e2b_op *op)
{
    assert_ptr_equal(op, e2b.op);
    e2b.cancelled = true;
}

void e2b_get(struct e2b *e, struct e2b_op *op, const char *sandbox_id, struct e2b_sandbox *ret)
{
    note_start(op, NULL, NULL, NULL);
    e2b.sandbox = ret;
}

void e2b_sandbox_deinit(struct e2b_sandbox *s) {}

void e2b_verb(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *const *args,
              const uint8_t *spec, size_t spec_len, bool idempotent, struct e2b_output *ret)
{
    note_start(op, args, spec, ret);
}

void e2b_logs_deinit(struct e2b_logs *l)
{
    for (size_t i = 0; i < l->n_entries; i++)
        free(l->entries[i].text);
    free(l->entries);
    *l = (struct e2b_logs){0};
}

void e2b_logs(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
              const struct e2b_logs_args *args, struct e2b_logs *ret)
{
    note_start(op, NULL, NULL, NULL);
    e2b.logs = ret;
    e2b.logs_args = *args;
}

/* --- the archive, which is another such stream --- */

struct archive_stream {
    struct e2b_stream bytes;
};

struct archive_stream *archive_stream_start(struct archive *a, struct e2b_op *op,
                                            const char *sandbox_id, const char *command_id,
                                            const struct archive_view *view,
                                            void (*readable)(struct e2b_op *op),
                                            struct e2b_output *ret)
{
    char from[64];

    snprintf(from, sizeof(from), "%s/%s from %d until %d", sandbox_id, command_id, (int)view->from,
             (int)view->until);
    return (struct archive_stream *)e2b_stream_start(
        NULL, op, sandbox_id, (const char *[]){"archive", from, NULL}, NULL, 0, readable, ret);
}

bool archive_stream_take(struct archive_stream *s, size_t headroom, uint8_t **ret_base,
                         size_t *ret_len)
{
    return e2b_stream_take(&s->bytes, headroom, ret_base, ret_len);
}

void archive_stream_cancel(struct archive_stream *s)
{
    e2b.cancelled = true;
}

void archive_stream_free(struct archive_stream *s)
{
    e2b_stream_free((struct e2b_stream *)s);
}

static void play_done(enum code code, int exit_code)
{
    struct e2b_op *op = TAKE(e2b.op);

    assert_non_null(op);
    op->st = STATUS_INIT;
    if (code != CODE_OK)
        status_set(&op->st, code, SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_UNAVAILABLE, "E2B");
    if (e2b.output != NULL)
        e2b.output->exit_code = exit_code;
    op->done(op);
}

static void play_state(enum e2b_state state)
{
    e2b.sandbox->state = state;
    play_done(CODE_OK, 0);
}

static void play_bytes(const uint8_t *data, size_t len)
{
    assert_true(buf_append(&e2b.stream->bytes, data, len));
    e2b.readable(e2b.op);
}

/* Events first to last: started, output, and exited where exit_at is reached. */
static size_t make_events(uint8_t *to, uint64_t first, uint64_t last, uint64_t exit_at)
{
    size_t n = 0;

    for (uint64_t seq = first; seq <= last; seq++) {
        if (seq == 1) {
            n += journal_encode_started(to + n, seq, 1, 7);
        } else if (seq == exit_at) {
            n += journal_encode_exited(to + n, seq, 1, &(struct journal_exit){.reason = 1});
        } else {
            n += journal_encode_output_header(to + n, seq, 1, 0, JOURNAL_STDOUT, 2);
            memcpy(to + n, "x\n", 2);
            n += 2;
        }
    }
    return n;
}

static void play_events(uint64_t first, uint64_t last, uint64_t exit_at)
{
    uint8_t data[8192];

    play_bytes(data, make_events(data, first, last, exit_at));
}

/* A page of the platform's log: a line for each time, named by letters from first on. */
static void play_page(char first, const int64_t *times_ms, size_t n)
{
    e2b.logs->entries = xcalloc(n, sizeof(struct e2b_log_entry));
    e2b.logs->n_entries = n;
    for (size_t i = 0; i < n; i++)
        e2b.logs->entries[i] = (struct e2b_log_entry){
            .time_ns = times_ms[i] * NS_PER_MS,
            .text = xasprintf("%c", (char)(first + (char)(i % 26))),
        };
    play_done(CODE_OK, 0);
}

static void play_failed(enum code code, int reason)
{
    struct e2b_op *op = TAKE(e2b.op);

    status_set(&op->st, code, reason, "it is gone");
    op->done(op);
}

/* The follower says that its view is complete. */
static void play_end(void)
{
    play_bytes((const uint8_t[]){FOLLOW_MARK_END, 1}, 2);
}

/* --- the tests --- */

static const struct config config = {.heartbeat_ms = 15000};

static int setup(void **state)
{
    memset(&call, 0, sizeof(call));
    memset(&e2b, 0, sizeof(e2b));
    call.app.config = &config;
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(call.refs, 0);
    assert_null(e2b.op);
    call.handler->destroy(call.state);
    assert_int_equal(e2b.streams, 0);
    return 0;
}

static void start_run(const char *command_id, bool kill)
{
    Sandbox__V1__RunCommandRequest r = SANDBOX__V1__RUN_COMMAND_REQUEST__INIT;

    r.sandbox_id = (char[]){"isandbox"};
    r.command_id = (char *)command_id;
    r.command_case = SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_SHELL;
    r.shell = (char[]){"make"};
    if (kill)
        r.on_disconnect = SANDBOX__V1__ON_DISCONNECT__ON_DISCONNECT_KILL;
    run_command_start(&call, &r.base);
}

static void start_logs(uint64_t from_seq, bool follow)
{
    Sandbox__V1__LogsRequest r = SANDBOX__V1__LOGS_REQUEST__INIT;

    r.sandbox_id = (char[]){"isandbox"};
    r.command_id = (char[]){"c1"};
    r.from_seq = from_seq;
    r.follow = follow;
    call.last_seq = from_seq > 0 ? from_seq - 1 : 0;
    logs_start(&call, &r.base);
}

static void test_run_streams_to_the_exit(void **state)
{
    start_run("c1", false);
    assert_string_equal(e2b.args, "run --from=1 --until=exited ");
    assert_true(e2b.with_spec);
    play_events(1, 3, 0);
    assert_string_equal(call.command_id, "c1");
    assert_int_equal(call.events, 3);
    play_all_sent();
    play_events(4, 9, 9);
    play_all_sent();
    assert_int_equal(call.events, 9);
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_OK);
    assert_false(e2b.cancelled);
    play_done(CODE_OK, RECORDER_OK);
}

static void test_a_made_id_goes_out_before_anything_starts(void **state)
{
    start_run("", false);
    assert_int_equal(strlen(call.command_id), 32);
    play_all_sent();
    play_events(1, 2, 2);
    play_all_sent();
    assert_true(call.finished);
    play_done(CODE_OK, RECORDER_OK);
}

static void test_a_broken_way_goes_on_at_the_next_event(void **state)
{
    uint8_t data[256];
    size_t len = make_events(data, 6, 7, 0);

    start_run("c1", false);
    play_events(1, 5, 0);
    play_all_sent();
    play_bytes(data, len - 1); /* the last frame is cut */
    play_all_sent();
    assert_int_equal(call.last_seq, 6);
    play_done(CODE_UNAVAILABLE, 0);
    assert_false(call.finished);
    play_timer();
    play_state(E2B_RUNNING);
    assert_string_equal(e2b.args, "follow --id=c1 --from=7 --until=exited ");
    assert_false(e2b.with_spec);
    play_events(7, 8, 8);
    play_all_sent();
    assert_int_equal(call.events, 8);
    assert_int_equal(call.verdict.code, CODE_OK);
    play_done(CODE_OK, RECORDER_OK);
}

static void test_a_killed_follower_is_replaced(void **state)
{
    start_logs(3, true);
    play_events(3, 4, 0);
    play_all_sent();
    play_done(CODE_OK, -1);
    play_timer();
    play_state(E2B_RUNNING);
    assert_string_equal(e2b.args, "follow --id=c1 --from=5 --until=exited ");
    play_events(5, 5, 5);
    play_all_sent();
    assert_int_equal(call.verdict.code, CODE_OK);
    play_done(CODE_OK, RECORDER_OK);
}

static void test_a_run_that_broke_before_any_event_is_run_again(void **state)
{
    start_run("c1", false);
    play_done(CODE_UNAVAILABLE, 0);
    play_timer();
    play_state(E2B_RUNNING);
    assert_string_equal(e2b.args, "run --from=1 --until=exited ");
    assert_true(e2b.with_spec);
    play_done(CODE_UNAVAILABLE, 0);
    play_timer();
    play_done(CODE_UNAVAILABLE, 0); /* the control plane is away too */
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_UNAVAILABLE);
}

static void test_logs_without_follow_end_where_the_follower_says_so(void **state)
{
    start_logs(0, false);
    assert_string_equal(e2b.args, "follow --id=c1 --from=1 --until=now ");
    play_events(1, 4, 0);
    play_all_sent();
    assert_false(call.finished);
    play_end();
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_OK);
    assert_int_equal(call.events, 4);
    play_done(CODE_OK, RECORDER_OK);
}

static void test_logs_that_are_cut_short_go_on(void **state)
{
    start_logs(0, false);
    play_events(1, 4, 0);
    play_all_sent();
    play_done(CODE_OK, RECORDER_OK); /* all it wrote was lost but for four events */
    assert_false(call.finished);
    play_timer();
    play_state(E2B_RUNNING);
    assert_string_equal(e2b.args, "follow --id=c1 --from=5 --until=now ");
    play_end();
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_OK);
    play_done(CODE_OK, RECORDER_OK);
}

static void test_a_view_is_asked_for_and_goes_on_where_it_broke(void **state)
{
    Sandbox__V1__LogsRequest r = SANDBOX__V1__LOGS_REQUEST__INIT;
    Sandbox__V1__Tail tail = SANDBOX__V1__TAIL__INIT;
    Google__Protobuf__Timestamp since = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Google__Protobuf__Timestamp before = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Sandbox__V1__Stream streams[] = {SANDBOX__V1__STREAM__STREAM_STDERR,
                                     SANDBOX__V1__STREAM__STREAM_STDOUT};

    r.sandbox_id = (char[]){"isandbox"};
    r.command_id = (char[]){"c1"};
    r.follow = r.whole_lines = true;
    r.limit_bytes = 100;
    r.tail = &tail;
    tail.amount_case = SANDBOX__V1__TAIL__AMOUNT_LINES;
    tail.lines = 7;
    r.since = &since;
    since.nanos = 5;
    r.before = &before;
    before.seconds = 3;
    r.streams = streams;
    r.n_streams = 2;
    logs_start(&call, &r.base);
    assert_string_equal(e2b.args,
                        "follow --id=c1 --from=1 --until=exited --lines --streams=stdout,stderr "
                        "--tail-lines=7 --since=5 --before=3000000000 --limit-bytes=100 ");
    call.last_seq = 40; /* the events start somewhere, and some are left out */
    play_events(41, 42, 0);
    play_all_sent();
    play_bytes((const uint8_t[]){FOLLOW_MARK_SEEN, 50}, 2);
    play_done(CODE_UNAVAILABLE, 0);
    play_timer();
    play_state(E2B_RUNNING);
    assert_string_equal(e2b.args,
                        "follow --id=c1 --from=51 --until=exited --lines --streams=stdout,stderr "
                        "--since=5 --before=3000000000 --limit-bytes=96 ");
    play_end();
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_OK);
    play_done(CODE_OK, RECORDER_OK);
}

static void test_bytes_left_when_the_follower_ends_are_sent(void **state)
{
    start_logs(0, false);
    play_events(1, 2, 0);
    play_events(3, 4, 0); /* the first message is in flight: nothing is taken yet */
    play_end();
    play_done(CODE_OK, RECORDER_OK);
    assert_false(call.finished);
    play_all_sent();
    assert_int_equal(call.events, 4);
    assert_true(call.finished);
}

static void test_the_exit_may_be_among_the_bytes_left(void **state)
{
    start_logs(0, true);
    play_events(1, 2, 0);
    play_events(3, 4, 4);
    play_done(CODE_OK, RECORDER_OK);
    play_all_sent();
    assert_int_equal(call.events, 4);
    assert_true(call.finished);
}

static void test_a_stalled_client_takes_nothing(void **state)
{
    start_logs(0, true);
    play_events(1, 2, 0);
    play_events(3, 4, 0);
    assert_int_equal(call.events, 2);
    assert_true(buf_len(&e2b.stream->bytes) > 0);
    play_sent();
    assert_int_equal(call.events, 4);
    play_gone(CODE_CANCELLED);
    assert_true(e2b.cancelled);
    play_done(CODE_CANCELLED, 0);
}

static void test_verdicts_of_the_recorder(void **state)
{
    start_run("c1", false);
    snprintf(e2b.output->err, sizeof(e2b.output->err), "abcd\nanother specification");
    play_done(CODE_OK, RECORDER_MISMATCH);
    assert_int_equal(call.verdict.code, CODE_ALREADY_EXISTS);
    assert_int_equal(call.verdict.reason, SANDBOX__V1__ERROR_REASON__ERROR_REASON_COMMAND_MISMATCH);
    assert_string_equal(call.verdict.detail[0].key, "existing_digest");
    assert_string_equal(call.verdict.detail[0].value, "abcd");
    assert_int_equal(strlen(call.verdict.detail[1].value), 64);
}

static void test_a_tampered_journal_is_data_loss(void **state)
{
    start_logs(0, true);
    play_events(1, 3, 0);
    play_all_sent();
    play_events(5, 5, 0); /* 4 is missing */
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_DATA_LOSS);
    assert_true(e2b.cancelled);
    play_done(CODE_CANCELLED, 0);
}

static void test_a_paused_sandbox_parks_the_stream(void **state)
{
    start_logs(0, true);
    play_events(1, 3, 0);
    play_all_sent();
    play_done(CODE_UNAVAILABLE, 0);
    play_timer();
    play_state(E2B_PAUSED);
    assert_int_equal(call.stream_state, SANDBOX__V1__STREAM_STATE__STREAM_STATE_SANDBOX_PAUSED);
    play_all_sent();
    play_timer();
    play_state(E2B_PAUSED);
    play_timer();
    play_state(E2B_RUNNING);
    assert_string_equal(e2b.args, "follow --id=c1 --from=4 --until=exited ");
    play_gone(CODE_CANCELLED);
    play_done(CODE_CANCELLED, 0);
}

static void test_a_sandbox_that_is_gone_ends_the_stream(void **state)
{
    start_logs(0, true);
    play_events(1, 3, 0);
    play_all_sent();
    play_done(CODE_UNAVAILABLE, 0);
    play_timer();
    play_done(CODE_NOT_FOUND, 0);
    assert_int_equal(call.verdict.code, CODE_NOT_FOUND);
    assert_string_equal(call.verdict.detail[1].key, "last_seq");
    assert_string_equal(call.verdict.detail[1].value, "3");
}

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

static void test_a_sandbox_that_is_gone_is_read_from_the_archive(void **state)
{
    call.app.archive = (struct archive *)&call;
    start_logs(0, true);
    play_events(1, 3, 0);
    play_all_sent();
    play_done(CODE_UNAVAILABLE, 0);
    play_timer();
    play_failed(CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    assert_string_equal(e2b.args, "archive isandbox/c1 from 4 until 1 ");
    play_events(4, 6, 6);
    play_all_sent();
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_OK);
    assert_int_equal(call.events, 6);
    assert_true(e2b.cancelled);
    play_done(CODE_OK, RECORDER_OK);
}

/* Who saw some of its output hears that the sandbox is gone, who saw nothing that the output is. */
static void test_what_is_not_archived_is_gone(void **state)
{
    for (int events = 0; events <= 3; events += 3) {
        memset(&call, 0, sizeof(call));
        setup(state);
        call.app.archive = (struct archive *)&call;
        start_logs(0, true);
        if (events > 0)
            play_events(1, 3, 0);
        play_all_sent();
        play_failed(CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
        play_failed(CODE_NOT_FOUND, REASON(LOG_EXPIRED));
        assert_int_equal(call.verdict.code, CODE_NOT_FOUND);
        assert_int_equal(call.verdict.reason,
                         events > 0 ? REASON(SANDBOX_NOT_FOUND) : REASON(LOG_EXPIRED));
        if (events == 0)
            call.handler->destroy(call.state);
    }
}

static void test_an_archive_that_is_down_is_asked_again(void **state)
{
    call.app.archive = (struct archive *)&call;
    start_logs(0, false);
    play_failed(CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    play_failed(CODE_UNAVAILABLE, REASON(ARCHIVE_UNAVAILABLE));
    assert_false(call.finished);
    play_timer();
    play_failed(CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    assert_string_equal(e2b.args, "archive isandbox/c1 from 1 until 0 ");
    play_events(1, 4, 0);
    play_all_sent();
    play_end();
    assert_int_equal(call.verdict.code, CODE_OK);
    play_done(CODE_OK, RECORDER_OK);
}

static void test_a_run_is_not_read_from_the_archive(void **state)
{
    call.app.archive = (struct archive *)&call;
    start_run("c1", false);
    play_failed(CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    assert_int_equal(call.verdict.code, CODE_NOT_FOUND);
}

static void test_heartbeats_tell_the_resume_point(void **state)
{
    start_logs(0, true);
    play_events(1, 3, 0);
    play_all_sent();
    int before = call.heartbeats;

    play_timer();
    assert_int_equal(call.heartbeats, before + 1);
    assert_int_equal(call.stream_state, SANDBOX__V1__STREAM_STATE__STREAM_STATE_LIVE);
    play_all_sent();
    play_gone(CODE_DEADLINE_EXCEEDED);
    assert_int_equal(call.verdict.code, CODE_DEADLINE_EXCEEDED);
    play_done(CODE_CANCELLED, 0);
}

static void test_draining_says_where_to_go_on(void **state)
{
    start_logs(0, true);
    play_events(1, 3, 0);
    play_all_sent();
    call.draining = true;
    call.handler->on_drain(call.state);
    assert_int_equal(call.verdict.code, CODE_UNAVAILABLE); /* no spread is set */
    assert_int_equal(call.verdict.reason, SANDBOX__V1__ERROR_REASON__ERROR_REASON_POD_DRAINING);
    assert_true(call.verdict.retry_ms > 0);
    assert_string_equal(call.verdict.detail[1].value, "3");
    assert_true(e2b.cancelled);
    play_done(CODE_CANCELLED, 0);
}

/* One stream of many: the others are told at other moments. */
static void test_an_aged_connection_is_left_at_once(void **state)
{
    struct config spread = config;

    spread.drain_spread_ms = 3600 * 1000;
    call.app.config = &spread;
    start_logs(0, true);
    play_events(1, 3, 0);
    play_all_sent();
    call.handler->on_drain(call.state);
    assert_int_equal(call.verdict.code, CODE_UNAVAILABLE);
    assert_int_equal(call.verdict.reason, REASON(CONNECTION_AGED));
    assert_true(call.verdict.retry_ms > 0);
    assert_string_equal(call.verdict.detail[1].value, "3");
    play_done(CODE_CANCELLED, 0);
}

static void test_kill_on_disconnect_waits_for_the_claim(void **state)
{
    start_run("c1", true);
    play_gone(CODE_CANCELLED);
    assert_true(e2b.cancelled);
    play_done(CODE_CANCELLED, 0);
    assert_string_equal(e2b.args, "signal --id=c1 --signal=9 --target=tree ");
    play_done(CODE_OK, RECORDER_NOT_FOUND); /* it is being claimed at this moment */
    assert_false(call.finished);
    play_timer();
    play_done(CODE_OK, RECORDER_OK);
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_CANCELLED);
}

static void start_platform(const char *cursor, bool follow)
{
    Sandbox__V1__LogsRequest r = SANDBOX__V1__LOGS_REQUEST__INIT;

    r.sandbox_id = (char[]){"isandbox"};
    r.source = SANDBOX__V1__SOURCE__SOURCE_SANDBOX;
    r.follow = follow;
    r.cursor = (ProtobufCBinaryData){.data = (uint8_t *)cursor, .len = strlen(cursor)};
    call.lines = true;
    logs_start(&call, &r.base);
}

static void test_the_platforms_log_goes_on_behind_its_cursor(void **state)
{
    start_platform("", true);
    assert_int_equal(e2b.logs_args.from_ms, 0);
    assert_false(e2b.logs_args.backward);
    play_page('a', (const int64_t[]){10, 20, 20}, 3);
    assert_string_equal(call.text, "a\nb\nc\n");
    assert_string_equal(call.cursor, "20:2");
    play_all_sent();
    assert_null(e2b.op);
    play_timer(); /* a second later: two more, one of the same millisecond */
    assert_int_equal(e2b.logs_args.from_ms, 20);
    play_page('b', (const int64_t[]){20, 20, 20, 30}, 4);
    assert_string_equal(call.text, "a\nb\nc\nd\ne\n");
    assert_string_equal(call.cursor, "30:1");
    play_all_sent();
    play_gone(CODE_CANCELLED);
    assert_true(call.finished);
}

static void test_the_platforms_log_is_read_page_by_page(void **state)
{
    static int64_t times[E2B_LOGS_PAGE];

    for (int i = 0; i < E2B_LOGS_PAGE; i++)
        times[i] = 7;
    start_platform("7:998", false);
    play_page('a', times, E2B_LOGS_PAGE);
    assert_string_equal(call.text, "k\nl\n"); /* lines 999 and 1000 */
    assert_string_equal(call.cursor, "7:1000");
    play_all_sent();
    assert_int_equal(e2b.logs_args.from_ms, 7);
    play_page('a', times, E2B_LOGS_PAGE); /* nothing but these: on to the next millisecond */
    assert_int_equal(e2b.logs_args.from_ms, 8);
    play_page('z', (const int64_t[]){9}, 1);
    play_all_sent();
    assert_string_equal(call.text, "k\nl\nz\n");
    assert_true(call.finished);
    assert_int_equal(call.verdict.code, CODE_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_run_streams_to_the_exit),
        TEST(test_a_made_id_goes_out_before_anything_starts),
        TEST(test_a_broken_way_goes_on_at_the_next_event),
        TEST(test_a_killed_follower_is_replaced),
        TEST(test_a_run_that_broke_before_any_event_is_run_again),
        TEST(test_logs_without_follow_end_where_the_follower_says_so),
        TEST(test_logs_that_are_cut_short_go_on),
        TEST(test_a_view_is_asked_for_and_goes_on_where_it_broke),
        TEST(test_bytes_left_when_the_follower_ends_are_sent),
        TEST(test_the_exit_may_be_among_the_bytes_left),
        TEST(test_a_stalled_client_takes_nothing),
        TEST(test_verdicts_of_the_recorder),
        TEST(test_a_tampered_journal_is_data_loss),
        TEST(test_a_paused_sandbox_parks_the_stream),
        TEST(test_a_sandbox_that_is_gone_ends_the_stream),
        TEST(test_a_sandbox_that_is_gone_is_read_from_the_archive),
        TEST(test_what_is_not_archived_is_gone),
        TEST(test_an_archive_that_is_down_is_asked_again),
        TEST(test_a_run_is_not_read_from_the_archive),
        TEST(test_heartbeats_tell_the_resume_point),
        TEST(test_draining_says_where_to_go_on),
        TEST(test_an_aged_connection_is_left_at_once),
        TEST(test_kill_on_disconnect_waits_for_the_claim),
        TEST(test_the_platforms_log_goes_on_behind_its_cursor),
        TEST(test_the_platforms_log_is_read_page_by_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
