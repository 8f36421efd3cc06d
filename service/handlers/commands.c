/*
 * GetCommand, ListCommands, WaitCommand and PruneCommands: what is known of commands, and what is
 * kept of it. Each is a verb of the recorder. All on the call's worker.
 */
#include "service/handlers/commands.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/commands.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/command_frames.h"
#include "service/handlers/log_view.h"
#include "service/handlers/verb.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    PAGE_MAX = 100,
};

/* --- GetCommand --- */

/* The one command that a verb printed; false: the call was ended. */
static bool read_command(struct verb *v, struct command_frames *frames)
{
    if (command_frames_read(frames, v->output.out, v->output.out_len) && frames->n_items == 1 &&
        strcmp(frames->items[0]->command_id, v->command_id) == 0)
        return true;
    verb_finish_corrupt(v, "description of the command");
    return false;
}

/* Of a sandbox that is gone: the same output, from the archive. */
static void ask_archive_show(struct verb *v)
{
    const struct app *app = call_app(v->o.call);

    archive_show(app->archive, &v->o.op, v->sandbox_id, v->command_id, &v->output);
}

static void answer_get(struct verb *v)
{
    AUTO(command_frames_deinit) struct command_frames frames = {0};
    Sandbox__V1__GetCommandResponse m = SANDBOX__V1__GET_COMMAND_RESPONSE__INIT;

    if (!read_command(v, &frames))
        return;
    m.command = frames.items[0];
    call_reply(v->o.call, &m.base);
}

void get_command_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__GetCommandRequest *r = (const Sandbox__V1__GetCommandRequest *)message;
    struct status st = STATUS_INIT;
    char who[VALIDATE_ID_MAX + 8];

    if (!verb_check_ids(r->sandbox_id, r->command_id, &st)) {
        call_finish(c, &st);
        return;
    }
    snprintf(who, sizeof(who), "--id=%s", r->command_id);

    struct verb *v = verb_new(c, r->sandbox_id, r->command_id, answer_get);

    v->ask_archive = ask_archive_show;
    verb_start(v, (const char *[]){"show", who, NULL}, NULL, 0, true);
}

/* --- ListCommands --- */

/* A page token is the place of the last command shown, so that it means the same on every pod. */
static bool check_page_token(const char *token, struct status *st)
{
    const char *colon = strchr(token, ':');
    size_t digits = strspn(token, "0123456789");

    if (token[0] == '\0')
        return true;
    if (colon == NULL || digits == 0 || digits > 19 || token + digits != colon ||
        !validate_id("page_token", colon + 1, NULL))
        return status_bad_field(st, INVALID_FIELD, "page_token",
                                "page_token is not one that this method returned");
    return true;
}

struct listing {
    struct verb verb;
    size_t page_size;
    struct archive_list_args archived; /* the same for the archive */
    char *after;                       /* owned */
    struct e2b_pair *labels;           /* owned */
};

static void release_list(struct verb *v)
{
    struct listing *l = container_of(v, struct listing, verb);

    for (size_t i = 0; i < l->archived.n_labels; i++) {
        free(l->labels[i].key);
        free(l->labels[i].value);
    }
    free(l->labels);
    free(l->after);
    free(l);
}

static void ask_archive_list(struct verb *v)
{
    struct listing *l = container_of(v, struct listing, verb);
    const struct app *app = call_app(v->o.call);

    archive_list(app->archive, &v->o.op, v->sandbox_id, &l->archived, &v->output);
}

/* The request does not live as long. */
static void keep_for_archive(struct listing *l, const Sandbox__V1__ListCommandsRequest *r)
{
    struct archive_list_args *a = &l->archived;

    a->limit = l->page_size + 1;
    a->after = l->after = r->page_token[0] != '\0' ? xstrdup(r->page_token) : NULL;
    for (size_t i = 0; i < r->n_states; i++)
        a->states |= 1u << r->states[i];
    a->labels = l->labels = xcalloc(r->n_labels + 1, sizeof(l->labels[0]));
    for (a->n_labels = 0; a->n_labels < r->n_labels; a->n_labels++)
        l->labels[a->n_labels] = (struct e2b_pair){
            .key = xstrdup(r->labels[a->n_labels]->key),
            .value = xstrdup(r->labels[a->n_labels]->value),
        };
}

static void answer_list(struct verb *v)
{
    size_t page_size = container_of(v, struct listing, verb)->page_size;
    AUTO(command_frames_deinit) struct command_frames frames = {0};
    Sandbox__V1__ListCommandsResponse m = SANDBOX__V1__LIST_COMMANDS_RESPONSE__INIT;
    char token[VALIDATE_ID_MAX + 32];

    if (!command_frames_read(&frames, v->output.out, v->output.out_len)) {
        verb_finish_corrupt(v, "list of commands");
        return;
    }
    m.commands = frames.items;
    m.n_commands = frames.n_items;
    if (frames.n_items > page_size) { /* one more than the page was asked for */
        const Sandbox__V1__Command *last = frames.items[page_size - 1];
        int64_t ns = last->start_time != NULL
                         ? last->start_time->seconds * 1000000000 + last->start_time->nanos
                         : 0;

        snprintf(token, sizeof(token), "%" PRId64 ":%s", ns, last->command_id);
        m.next_page_token = token;
        m.n_commands = page_size;
    }
    call_reply(v->o.call, &m.base);
}

static const char *state_name(Sandbox__V1__Command__State state)
{
    switch (state) {
    case SANDBOX__V1__COMMAND__STATE__STATE_STARTING:
        return "starting";
    case SANDBOX__V1__COMMAND__STATE__STATE_RUNNING:
        return "running";
    case SANDBOX__V1__COMMAND__STATE__STATE_EXITED:
        return "exited";
    case SANDBOX__V1__COMMAND__STATE__STATE_CLOSED:
        return "closed";
    default:
        return NULL;
    }
}

/* The verb's arguments, owned. */
struct list_args {
    char *at[8 + VALIDATE_LABELS_MAX];
    size_t n;
};

static void list_args_deinit(struct list_args *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->at[i]);
}

static bool add_states(const Sandbox__V1__ListCommandsRequest *r, struct list_args *a,
                       struct status *st)
{
    bool added[5] = {false};

    for (size_t i = 0; i < r->n_states; i++) {
        const char *name = state_name(r->states[i]);

        if (name == NULL)
            return status_bad_field(st, INVALID_FIELD, "states", "states: %d is not known here",
                                    (int)r->states[i]);
        if (!added[r->states[i]])
            a->at[a->n++] = xasprintf("--in-state=%s", name);
        added[r->states[i]] = true;
    }
    return true;
}

static bool add_labels(const Sandbox__V1__ListCommandsRequest *r, struct list_args *a,
                       struct status *st)
{
    if (!validate_labels((validate_label *const *)r->labels, r->n_labels, st))
        return false;
    for (size_t i = 0; i < r->n_labels; i++)
        a->at[a->n++] = xasprintf("--label=%s=%s", r->labels[i]->key, r->labels[i]->value);
    return true;
}

static bool read_list(const Sandbox__V1__ListCommandsRequest *r, struct list_args *a,
                      size_t *ret_page_size, struct status *st)
{
    if (!validate_id("sandbox_id", r->sandbox_id, st) || !check_page_token(r->page_token, st))
        return false;
    if (r->page_size < 0)
        return status_bad_field(st, INVALID_FIELD, "page_size", "page_size is negative");
    *ret_page_size = r->page_size == 0 || r->page_size > PAGE_MAX ? PAGE_MAX : (size_t)r->page_size;
    a->at[a->n++] = xstrdup("list");
    a->at[a->n++] = xasprintf("--limit=%zu", *ret_page_size + 1);
    if (r->page_token[0] != '\0')
        a->at[a->n++] = xasprintf("--after=%s", r->page_token);
    return add_states(r, a, st) && add_labels(r, a, st);
}

void list_commands_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__ListCommandsRequest *r = (const Sandbox__V1__ListCommandsRequest *)message;
    AUTO(list_args_deinit) struct list_args args = {.n = 0};
    struct status st = STATUS_INIT;
    size_t page_size = 0;

    if (!read_list(r, &args, &page_size, &st)) {
        call_finish(c, &st);
        return;
    }

    struct listing *l = xcalloc(1, sizeof(*l));

    l->page_size = page_size;
    keep_for_archive(l, r);
    l->verb.ask_archive = ask_archive_list;
    l->verb.release = release_list;
    verb_begin(&l->verb, c, r->sandbox_id, "", answer_list);
    verb_start(&l->verb, (const char *const *)args.at, NULL, 0, true);
}

/* --- WaitCommand --- */

enum {
    WAIT_MAX_MS = 3600 * 1000,
    WAIT_STEP_MS = 15 * 1000, /* one verb waits so long: nothing in between finds it silent */
    ANSWER_MIN_MS = 50,       /* an answer's own time, before the deadline */
    ANSWER_MAX_MS = 1000,
};

struct wait {
    struct verb verb;
    bool closed;
    int64_t until_ns; /* monotonic */
};

static void release_wait(struct verb *v)
{
    free(container_of(v, struct wait, verb));
}

static int64_t left_ms(const struct wait *w)
{
    int64_t left = (w->until_ns - clock_monotonic_ns()) / NS_PER_MS;

    return left > 0 ? left : 0;
}

/* What the next verb is asked for. */
static void wait_args(const struct wait *w, struct log_view_args *a)
{
    int64_t ms = left_ms(w) < WAIT_STEP_MS ? left_ms(w) : WAIT_STEP_MS;

    log_view_arg(a, "wait");
    log_view_arg(a, "--id=%s", w->verb.command_id);
    log_view_arg(a, "--until=%s", w->closed ? "closed" : "exited");
    log_view_arg(a, "--timeout-ms=%" PRId64, ms);
}

static bool is_over(const struct wait *w, const Sandbox__V1__Command *c)
{
    return c->state == SANDBOX__V1__COMMAND__STATE__STATE_CLOSED ||
           (!w->closed && c->state == SANDBOX__V1__COMMAND__STATE__STATE_EXITED);
}

static void answer_wait(struct verb *v)
{
    struct wait *w = container_of(v, struct wait, verb);
    AUTO(command_frames_deinit) struct command_frames frames = {0};
    Sandbox__V1__WaitCommandResponse m = SANDBOX__V1__WAIT_COMMAND_RESPONSE__INIT;
    struct log_view_args args = {.n = 0};

    if (!read_command(v, &frames))
        return;
    m.command = frames.items[0];
    m.done = is_over(w, m.command);
    if (!m.done && v->asked_archive) {
        call_finish(v->o.call, &v->gone); /* what was waited for cannot happen any more */
        return;
    }
    if (m.done || left_ms(w) == 0) {
        call_reply(v->o.call, &m.base);
        return;
    }
    wait_args(w, &args);
    verb_again(v, args.list);
}

/* The caller's deadline bounds it too, and the answer is to be there before. */
static int64_t wait_until_ns(struct call *c, int64_t timeout_ms)
{
    int64_t now = clock_monotonic_ns(), deadline = call_deadline_ns(c), spare;

    if (deadline == INT64_MAX)
        return now + timeout_ms * NS_PER_MS;
    spare = (deadline - now) / 10;
    spare = spare < ANSWER_MIN_MS * NS_PER_MS   ? ANSWER_MIN_MS * NS_PER_MS
            : spare > ANSWER_MAX_MS * NS_PER_MS ? ANSWER_MAX_MS * NS_PER_MS
                                                : spare;
    if (deadline - spare < now + timeout_ms * NS_PER_MS)
        return deadline - spare;
    return now + timeout_ms * NS_PER_MS;
}

void wait_command_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__WaitCommandRequest *r = (const Sandbox__V1__WaitCommandRequest *)message;
    struct log_view_args args = {.n = 0};
    struct status st = STATUS_INIT;
    int64_t timeout_ms = WAIT_MAX_MS;
    bool ok = verb_check_ids(r->sandbox_id, r->command_id, &st);

    if (ok && r->until > SANDBOX__V1__UNTIL__UNTIL_CLOSED)
        ok = status_bad_field(&st, INVALID_FIELD, "until", "until %d is not known here",
                              (int)r->until);
    if (ok && r->timeout != NULL)
        ok = validate_duration("timeout", r->timeout->seconds, r->timeout->nanos, 0, WAIT_MAX_MS,
                               &timeout_ms, &st);
    if (!ok) {
        call_finish(c, &st);
        return;
    }

    struct wait *w = xcalloc(1, sizeof(*w));

    w->verb.release = release_wait;
    w->verb.ask_archive = ask_archive_show;
    w->closed = r->until == SANDBOX__V1__UNTIL__UNTIL_CLOSED;
    w->until_ns = wait_until_ns(c, timeout_ms);
    verb_begin(&w->verb, c, r->sandbox_id, r->command_id, answer_wait);
    wait_args(w, &args);
    verb_start(&w->verb, args.list, NULL, 0, true);
}

/* --- PruneCommands --- */

static void answer_prune(struct verb *v)
{
    Sandbox__V1__PruneCommandsResponse m = SANDBOX__V1__PRUNE_COMMANDS_RESPONSE__INIT;
    char text[64] = "";

    if (v->output.out_len < sizeof(text))
        memcpy(text, v->output.out, v->output.out_len);
    if (sscanf(text, "%" SCNu32 " %" SCNu64, &m.removed, &m.freed_bytes) == 2)
        call_reply(v->o.call, &m.base);
    else
        verb_finish_corrupt(v, "answer");
}

static bool read_retention(const Sandbox__V1__PruneCommandsRequest *r, struct log_view_args *a,
                           struct status *st)
{
    const int64_t century_ms = INT64_C(100) * 365 * 86400 * 1000;
    const Sandbox__V1__Retention *keep = r->retention;
    int64_t age_ms = 0;

    log_view_arg(a, "prune");
    if (r->set)
        log_view_arg(a, "--set");
    if (keep == NULL)
        return !r->set || status_bad_field(st, INVALID_FIELD, "retention",
                                           "retention is required: it is what shall be set");
    if (keep->max_bytes > INT64_MAX)
        return status_bad_field(st, INVALID_FIELD, "retention.max_bytes",
                                "retention.max_bytes is larger than any disk");
    if (keep->max_age != NULL &&
        !validate_duration("retention.max_age", keep->max_age->seconds, keep->max_age->nanos, 1,
                           century_ms, &age_ms, st))
        return false;
    log_view_arg(a, "--max-commands=%" PRIu32, keep->max_commands);
    log_view_arg(a, "--max-bytes=%" PRIu64, keep->max_bytes);
    log_view_arg(a, "--max-age-ms=%" PRId64, age_ms);
    return true;
}

void prune_commands_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__PruneCommandsRequest *r = (const Sandbox__V1__PruneCommandsRequest *)message;
    struct log_view_args args = {.n = 0};
    struct status st = STATUS_INIT;

    if (!validate_id("sandbox_id", r->sandbox_id, &st) || !read_retention(r, &args, &st)) {
        call_finish(c, &st);
        return;
    }
    verb_start(verb_new(c, r->sandbox_id, "", answer_prune), args.list, NULL, 0, true);
}
