/*
 * Logs of SOURCE_SANDBOX. The platform's log is read a page at a time, from the time of the last
 * line on; lines of that same millisecond that were sent already are counted, so that they do not
 * come twice. The cursor is that place: "<milliseconds>:<lines of it>". With `follow` the log is
 * asked again every second. All on the call's worker: callbacks record a fact and call step().
 */
#include "service/handlers/platform_log.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/e2b/e2b.h"
#include "service/handlers/leave.h"
#include "service/handlers/log_view.h"
#include "service/handlers/validate.h"
#include "service/identity/caller.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    POLL_MS = 1000,
    MESSAGE_LINES = 100,
};

/* Everything before it was sent. */
struct place {
    int64_t ms;
    uint64_t lines; /* of that millisecond */
};

struct platform_log {
    struct call *call; /* borrowed: it owns this */
    const struct app *app;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    struct log_view view;
    bool follow;

    struct place at;
    uint64_t output;
    struct e2b_logs page; /* the oldest first */
    size_t next;          /* of the page, to be sent */
    bool full;            /* there may be more behind it */
    bool tailing;         /* the page at hand is the end of the log, asked for backwards */

    struct e2b_op op;
    bool op_running;
    bool finished;
    struct call_timer heartbeat;
    struct call_timer again;
};

static void step(struct platform_log *l);
static void fetch(struct platform_log *l);

static void finish(struct platform_log *l, const struct status *st)
{
    if (l->finished)
        return;
    l->finished = true;
    if (l->op_running)
        e2b_cancel(&l->op);
    call_finish(l->call, st);
}

static void destroy(void *state)
{
    struct platform_log *l = state;

    e2b_logs_deinit(&l->page);
    free(l);
}

/* --- sending --- */

static void restart_heartbeat(struct platform_log *l)
{
    call_timer_start(l->call, &l->heartbeat,
                     clock_monotonic_ns() + l->app->config->heartbeat_ms * NS_PER_MS);
}

static void on_heartbeat(struct call_timer *timer)
{
    struct platform_log *l = container_of(timer, struct platform_log, heartbeat);
    Sandbox__V1__LogsResponse m = SANDBOX__V1__LOGS_RESPONSE__INIT;

    if (l->finished)
        return;
    m.state = SANDBOX__V1__STREAM_STATE__STREAM_STATE_LIVE;
    if (call_can_send(l->call))
        call_send(l->call, &m.base);
    restart_heartbeat(l);
}

/* An event and all it points to. */
struct line {
    Sandbox__V1__CommandEvent event;
    Google__Protobuf__Timestamp time;
    Sandbox__V1__Text text;
    char *own; /* owned; the text with its newline */
};

static void set_line(struct line *to, const struct e2b_log_entry *from)
{
    sandbox__v1__command_event__init(&to->event);
    google__protobuf__timestamp__init(&to->time);
    sandbox__v1__text__init(&to->text);
    to->time.seconds = from->time_ns / NS_PER_S;
    to->time.nanos = (int32_t)(from->time_ns % NS_PER_S);
    to->own = xasprintf("%s\n", from->text);
    to->text.text = to->own;
    to->event.time = &to->time;
    to->event.event_case = SANDBOX__V1__COMMAND_EVENT__EVENT_TEXT;
    to->event.text = &to->text;
}

static void pass(struct platform_log *l, const struct e2b_log_entry *e)
{
    int64_t ms = e->time_ns / NS_PER_MS;

    if (ms > l->at.ms)
        l->at = (struct place){.ms = ms};
    l->at.lines++;
}

static bool is_over(const struct platform_log *l)
{
    if (l->view.limit_bytes != 0 && l->output >= l->view.limit_bytes)
        return true;
    return l->view.before_ns != 0 && l->next < l->page.n_entries &&
           l->page.entries[l->next].time_ns >= l->view.before_ns;
}

static void send_lines(struct platform_log *l)
{
    Sandbox__V1__LogsResponse m = SANDBOX__V1__LOGS_RESPONSE__INIT;
    struct line lines[MESSAGE_LINES];
    Sandbox__V1__CommandEvent *events[MESSAGE_LINES];
    char cursor[64];

    m.events = events;
    while (m.n_events < MESSAGE_LINES && l->next < l->page.n_entries && !is_over(l)) {
        const struct e2b_log_entry *e = &l->page.entries[l->next++];

        pass(l, e);
        if (e->time_ns < l->view.since_ns)
            continue;
        set_line(&lines[m.n_events], e);
        events[m.n_events] = &lines[m.n_events].event;
        l->output += strlen(lines[m.n_events++].own);
    }
    m.cursor.len =
        (size_t)snprintf(cursor, sizeof(cursor), "%" PRId64 ":%" PRIu64, l->at.ms, l->at.lines);
    m.cursor.data = (uint8_t *)cursor;
    if (m.n_events > 0) {
        call_send(l->call, &m.base);
        restart_heartbeat(l);
    }
    for (size_t i = 0; i < m.n_events; i++)
        free(lines[i].own);
}

/* --- reading --- */

/* Lines that were sent already are left out of a page that starts with their millisecond. */
static void skip_sent(struct platform_log *l)
{
    uint64_t left = l->at.lines;

    while (left > 0 && l->next < l->page.n_entries &&
           l->page.entries[l->next].time_ns / NS_PER_MS == l->at.ms) {
        l->next++;
        left--;
    }
}

static void reverse(struct e2b_logs *page)
{
    for (size_t i = 0; i < page->n_entries / 2; i++) {
        struct e2b_log_entry *a = &page->entries[i];
        struct e2b_log_entry *b = &page->entries[page->n_entries - 1 - i];
        struct e2b_log_entry swapped = *a;

        *a = *b;
        *b = swapped;
    }
}

static void take_page(struct platform_log *l)
{
    l->next = 0;
    if (l->tailing) {
        reverse(&l->page);
        l->full = false;
        return;
    }
    skip_sent(l);
    /* A page full of what was sent: there are more lines of one millisecond than a page has. */
    if (l->full && l->next == l->page.n_entries)
        l->at = (struct place){.ms = l->at.ms + 1};
}

static void on_page(struct e2b_op *op)
{
    struct platform_log *l = container_of(op, struct platform_log, op);

    l->op_running = false;
    if (!l->finished && op->st.code != CODE_OK) {
        finish(l, &op->st);
    } else if (!l->finished) {
        l->full = l->page.n_entries == E2B_LOGS_PAGE;
        take_page(l);
        step(l);
    }
    call_unref(l->call);
}

static void fetch(struct platform_log *l)
{
    struct e2b_logs_args args = {.from_ms = l->at.ms, .limit = E2B_LOGS_PAGE};

    if (l->tailing) {
        args.backward = true;
        args.limit = (int)l->view.tail_amount;
    }
    e2b_logs_deinit(&l->page);
    l->next = 0;
    l->op = (struct e2b_op){
        .caller = caller_of(l->call),
        .executor = call_executor(l->call),
        .done = on_page,
        .deadline_ns = INT64_MAX,
    };
    l->op_running = true;
    call_ref(l->call);
    e2b_logs(l->app->e2b, &l->op, l->sandbox_id, &args, &l->page);
}

static void on_again(struct call_timer *timer)
{
    struct platform_log *l = container_of(timer, struct platform_log, again);

    if (!l->finished && !l->op_running)
        fetch(l);
}

static bool is_past_end(const struct platform_log *l)
{
    return l->view.before_ns != 0 && clock_wall_ns() >= l->view.before_ns;
}

/* Does everything that is possible now. */
static void step(struct platform_log *l)
{
    while (!l->finished && !l->op_running && call_can_send(l->call)) {
        if (is_over(l)) {
            finish(l, &STATUS_INIT);
        } else if (l->next < l->page.n_entries) {
            send_lines(l);
        } else if (l->full) {
            fetch(l);
        } else if (!l->follow || is_past_end(l)) {
            finish(l, &STATUS_INIT);
        } else {
            l->tailing = false;
            call_timer_start(l->call, &l->again, clock_monotonic_ns() + POLL_MS * NS_PER_MS);
            return;
        }
    }
}

/* --- what the client's side tells --- */

static void on_sent(void *state)
{
    step(state);
}

static void on_gone(void *state)
{
    struct platform_log *l = state;
    struct status st;

    status_set(&st, call_end_reason(l->call), SANDBOX__V1__ERROR_REASON__ERROR_REASON_DEADLINE,
               "the caller stopped waiting");
    finish(l, &st);
}

static void on_drain(void *state)
{
    struct status st;

    leave_status(((struct platform_log *)state)->call, &st, "continue from the last cursor");
    finish(state, &st);
}

static const struct call_handler handler = {
    .on_sent = on_sent,
    .on_gone = on_gone,
    .on_drain = on_drain,
    .destroy = destroy,
};

/* --- starting --- */

static bool is_empty(bool set, const char *field, struct status *st)
{
    return !set || status_bad_field(st, INVALID_FIELD, field,
                                    "%s is of commands: SOURCE_SANDBOX has none", field);
}

static bool read_cursor(const Sandbox__V1__LogsRequest *r, struct place *ret, struct status *st)
{
    char text[64] = "";
    int end = 0;

    if (r->cursor.len < sizeof(text))
        memcpy(text, r->cursor.data, r->cursor.len);
    if (sscanf(text, "%" SCNd64 ":%" SCNu64 "%n", &ret->ms, &ret->lines, &end) == 2 &&
        (size_t)end == r->cursor.len && ret->ms >= 0 && ret->ms < INT64_MAX / NS_PER_MS)
        return true;
    return status_bad_field(st, INVALID_FIELD, "cursor",
                            "cursor is not one that this method returned for SOURCE_SANDBOX");
}

static bool check(const Sandbox__V1__LogsRequest *r, struct platform_log *l, struct status *st)
{
    if (!is_empty(r->command_id[0] != '\0', "command_id", st) ||
        !is_empty(r->from_seq != 0, "from_seq", st) ||
        !is_empty(r->until != SANDBOX__V1__UNTIL__UNTIL_UNSPECIFIED, "until", st) ||
        !is_empty(r->n_streams > 0, "streams", st) || !log_view_read(r, &l->view, st))
        return false;
    l->at.ms = l->view.since_ns / NS_PER_MS;
    if (r->cursor.len > 0 && !read_cursor(r, &l->at, st))
        return false;
    if (r->tail == NULL || r->cursor.len > 0)
        return true;
    if (strcmp(l->view.tail, "bytes") == 0 || l->view.tail_amount < 1 ||
        l->view.tail_amount > E2B_LOGS_PAGE)
        return status_bad_field(st, INVALID_FIELD, "tail",
                                "tail of SOURCE_SANDBOX is from 1 to %d lines", E2B_LOGS_PAGE);
    return l->tailing = true;
}

void platform_log_start(struct call *c, const Sandbox__V1__LogsRequest *r)
{
    struct platform_log *l = xcalloc(1, sizeof(*l));
    struct status st = STATUS_INIT;

    if (!check(r, l, &st)) {
        free(l);
        call_finish(c, &st);
        return;
    }
    l->call = c;
    l->app = call_app(c);
    l->follow = r->follow;
    l->heartbeat.run = on_heartbeat;
    l->again.run = on_again;
    snprintf(l->sandbox_id, sizeof(l->sandbox_id), "%s", r->sandbox_id);
    call_set_handler(c, &handler, l);
    restart_heartbeat(l);
    fetch(l);
}
