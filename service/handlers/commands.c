/*
 * GetCommand, ListCommands, SendInput, SignalCommand and AckLogs: each runs one verb of the
 * recorder in the sandbox and turns what it printed into the response. What it printed comes out of
 * the sandbox, so it is checked like any other input. All on the call's worker.
 */
#include "service/handlers/commands.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/commands.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/command_frames.h"
#include "service/handlers/input_spec.h"
#include "service/handlers/not_yet.h"
#include "service/handlers/operation.h"
#include "service/handlers/recorder_result.h"
#include "service/handlers/validate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    INPUT_BYTES_MAX = 1024 * 1024,
    PAGE_MAX = 100,
    SIGNAL_MAX = 64,
};

/* One verb on its way. */
struct verb {
    struct operation o;
    struct e2b_output output;
    char command_id[VALIDATE_ID_MAX + 1];
    size_t page_size;               /* of ListCommands */
    void (*answer)(struct verb *v); /* the verb went well: v->output holds what it printed */
};

static void verb_release(struct operation *o)
{
    struct verb *v = container_of(o, struct verb, o);

    free(v->output.out);
    free(v);
}

/* The verb ran; how it went is in its exit code. */
static void verb_answer(struct operation *o)
{
    struct verb *v = container_of(o, struct verb, o);
    struct status st;

    if (recorder_result(&v->output, v->command_id, NULL, &st) == RECORDER_RESULT_OK)
        v->answer(v);
    else
        call_finish(o->call, &st);
}

static struct verb *verb_new(struct call *c, const char *command_id, void (*answer)(struct verb *v))
{
    struct verb *v = xcalloc(1, sizeof(*v));

    v->o.answer = verb_answer;
    v->o.release = verb_release;
    v->answer = answer;
    snprintf(v->command_id, sizeof(v->command_id), "%s", command_id);
    operation_begin(&v->o, c);
    return v;
}

static void verb_start(struct verb *v, const char *sandbox_id, const char *const *args,
                       const uint8_t *spec, size_t spec_len, bool idempotent)
{
    e2b_verb(operation_e2b(&v->o), &v->o.op, sandbox_id, args, spec, spec_len, idempotent,
             &v->output);
}

static bool check_ids(const char *sandbox_id, const char *command_id, struct status *st)
{
    return validate_id("sandbox_id", sandbox_id, st) && validate_id("command_id", command_id, st);
}

static void finish_corrupt(struct verb *v, const char *what)
{
    struct status st;

    status_set(&st, CODE_DATA_LOSS, SANDBOX__V1__ERROR_REASON__ERROR_REASON_JOURNAL_CORRUPT,
               "the recorder's %s does not hold together: it was changed from inside the sandbox",
               what);
    call_finish(v->o.call, &st);
}

/* --- GetCommand --- */

static void answer_get(struct verb *v)
{
    AUTO(command_frames_deinit) struct command_frames frames = {0};
    Sandbox__V1__GetCommandResponse m = SANDBOX__V1__GET_COMMAND_RESPONSE__INIT;

    if (!command_frames_read(&frames, v->output.out, v->output.out_len) || frames.n_items != 1 ||
        strcmp(frames.items[0]->command_id, v->command_id) != 0) {
        finish_corrupt(v, "description of the command");
        return;
    }
    m.command = frames.items[0];
    call_reply(v->o.call, &m.base);
}

void get_command_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__GetCommandRequest *r = (const Sandbox__V1__GetCommandRequest *)message;
    struct status st = STATUS_INIT;
    char who[VALIDATE_ID_MAX + 8];

    if (!check_ids(r->sandbox_id, r->command_id, &st)) {
        call_finish(c, &st);
        return;
    }
    snprintf(who, sizeof(who), "--id=%s", r->command_id);
    verb_start(verb_new(c, r->command_id, answer_get), r->sandbox_id,
               (const char *[]){"show", who, NULL}, NULL, 0, true);
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

static void answer_list(struct verb *v)
{
    AUTO(command_frames_deinit) struct command_frames frames = {0};
    Sandbox__V1__ListCommandsResponse m = SANDBOX__V1__LIST_COMMANDS_RESPONSE__INIT;
    char token[VALIDATE_ID_MAX + 32];

    if (!command_frames_read(&frames, v->output.out, v->output.out_len)) {
        finish_corrupt(v, "list of commands");
        return;
    }
    m.commands = frames.items;
    m.n_commands = frames.n_items;
    if (frames.n_items > v->page_size) { /* one more than the page was asked for */
        const Sandbox__V1__Command *last = frames.items[v->page_size - 1];
        int64_t ns = last->start_time != NULL
                         ? last->start_time->seconds * 1000000000 + last->start_time->nanos
                         : 0;

        snprintf(token, sizeof(token), "%" PRId64 ":%s", ns, last->command_id);
        m.next_page_token = token;
        m.n_commands = v->page_size;
    }
    call_reply(v->o.call, &m.base);
}

void list_commands_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__ListCommandsRequest *r = (const Sandbox__V1__ListCommandsRequest *)message;
    struct status st = STATUS_INIT;
    char limit[32], after[VALIDATE_ID_MAX + 40];
    const char *args[] = {"list", limit, NULL, NULL};

    if (!validate_id("sandbox_id", r->sandbox_id, &st) || !check_page_token(r->page_token, &st) ||
        !not_yet(r->n_states > 0, "states", &st) || !not_yet(r->n_labels > 0, "labels", &st)) {
        call_finish(c, &st);
        return;
    }
    if (r->page_size < 0) {
        status_bad_field(&st, INVALID_FIELD, "page_size", "page_size is negative");
        call_finish(c, &st);
        return;
    }

    struct verb *v = verb_new(c, "", answer_list);

    v->page_size = r->page_size == 0 || r->page_size > PAGE_MAX ? PAGE_MAX : (size_t)r->page_size;
    snprintf(limit, sizeof(limit), "--limit=%zu", v->page_size + 1);
    if (r->page_token[0] != '\0') {
        snprintf(after, sizeof(after), "--after=%s", r->page_token);
        args[2] = after;
    }
    verb_start(v, r->sandbox_id, args, NULL, 0, true);
}

/* --- SendInput --- */

static void answer_input(struct verb *v)
{
    Sandbox__V1__SendInputResponse m = SANDBOX__V1__SEND_INPUT_RESPONSE__INIT;

    if (recorder_number(&v->output, &m.offset))
        call_reply(v->o.call, &m.base);
    else
        finish_corrupt(v, "answer");
}

static uint8_t *pack_input(const Sandbox__V1__SendInputRequest *r, size_t *ret_len)
{
    struct input_spec input = {.eof = r->eof};

    if (r->input_case == SANDBOX__V1__SEND_INPUT_REQUEST__INPUT_DATA) {
        input.data = r->data.data;
        input.len = r->data.len;
    } else if (r->input_case == SANDBOX__V1__SEND_INPUT_REQUEST__INPUT_TEXT) {
        input.data = (const uint8_t *)r->text;
        input.len = strlen(r->text);
    }
    return input_spec_pack(&input, ret_len);
}

static bool check_input(const Sandbox__V1__SendInputRequest *r, struct status *st)
{
    bool text = r->input_case == SANDBOX__V1__SEND_INPUT_REQUEST__INPUT_TEXT;
    bool data = r->input_case == SANDBOX__V1__SEND_INPUT_REQUEST__INPUT_DATA;
    size_t len = text ? strlen(r->text) : data ? r->data.len : 0;
    const char *field = text ? "text" : "data";

    if (len > INPUT_BYTES_MAX)
        return status_bad_field(st, INVALID_FIELD, field,
                                "%s is %zu bytes long; at most %d are allowed: send it in parts",
                                field, len, INPUT_BYTES_MAX);
    return true;
}

void send_input_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__SendInputRequest *r = (const Sandbox__V1__SendInputRequest *)message;
    struct status st = STATUS_INIT;
    char who[VALIDATE_ID_MAX + 8];
    size_t len;

    if (!check_ids(r->sandbox_id, r->command_id, &st) || !check_input(r, &st) ||
        !not_yet(r->position_case == SANDBOX__V1__SEND_INPUT_REQUEST__POSITION_OFFSET, "offset",
                 &st)) {
        call_finish(c, &st);
        return;
    }

    AUTO_FREE uint8_t *spec = pack_input(r, &len);

    snprintf(who, sizeof(who), "--id=%s", r->command_id);
    /* Repeated blindly it could be written twice. */
    verb_start(verb_new(c, r->command_id, answer_input), r->sandbox_id,
               (const char *[]){"input", who, NULL}, spec, len, false);
}

/* --- SignalCommand --- */

static void answer_signal(struct verb *v)
{
    Sandbox__V1__SignalCommandResponse m = SANDBOX__V1__SIGNAL_COMMAND_RESPONSE__INIT;

    call_reply(v->o.call, &m.base);
}

static const char *target_name(Sandbox__V1__SignalCommandRequest__Target target)
{
    switch (target) {
    case SANDBOX__V1__SIGNAL_COMMAND_REQUEST__TARGET__TARGET_UNSPECIFIED:
    case SANDBOX__V1__SIGNAL_COMMAND_REQUEST__TARGET__TARGET_GROUP:
        return "group";
    case SANDBOX__V1__SIGNAL_COMMAND_REQUEST__TARGET__TARGET_PROCESS:
        return "process";
    case SANDBOX__V1__SIGNAL_COMMAND_REQUEST__TARGET__TARGET_TREE:
        return "tree";
    default:
        return NULL;
    }
}

void signal_command_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__SignalCommandRequest *r = (const Sandbox__V1__SignalCommandRequest *)message;
    struct status st = STATUS_INIT;
    const char *target = target_name(r->target);
    char who[VALIDATE_ID_MAX + 8], signal[32], whom[24];
    bool ok = check_ids(r->sandbox_id, r->command_id, &st);

    if (ok && (r->signal < 0 || r->signal > SIGNAL_MAX))
        ok = status_bad_field(&st, INVALID_FIELD, "signal", "signal must be from 1 to %d",
                              SIGNAL_MAX);
    if (ok && target == NULL)
        ok = status_bad_field(&st, INVALID_FIELD, "target", "target %d is not known here",
                              (int)r->target);
    if (!ok) {
        call_finish(c, &st);
        return;
    }
    snprintf(who, sizeof(who), "--id=%s", r->command_id);
    snprintf(signal, sizeof(signal), "--signal=%d", r->signal != 0 ? r->signal : 15);
    snprintf(whom, sizeof(whom), "--target=%s", target);
    verb_start(verb_new(c, r->command_id, answer_signal), r->sandbox_id,
               (const char *[]){"signal", who, signal, whom, NULL}, NULL, 0, false);
}

/* --- AckLogs --- */

static void answer_ack(struct verb *v)
{
    Sandbox__V1__AckLogsResponse m = SANDBOX__V1__ACK_LOGS_RESPONSE__INIT;

    if (recorder_number(&v->output, &m.acked_seq))
        call_reply(v->o.call, &m.base);
    else
        finish_corrupt(v, "answer");
}

void ack_logs_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__AckLogsRequest *r = (const Sandbox__V1__AckLogsRequest *)message;
    struct status st = STATUS_INIT;
    char who[VALIDATE_ID_MAX + 8], seq[32];
    bool ok = check_ids(r->sandbox_id, r->command_id, &st);

    if (ok && r->seq == 0)
        ok = status_bad_field(&st, INVALID_FIELD, "seq", "seq is required: events count from 1");
    if (!ok) {
        call_finish(c, &st);
        return;
    }
    snprintf(who, sizeof(who), "--id=%s", r->command_id);
    snprintf(seq, sizeof(seq), "--seq=%" PRIu64, r->seq);
    verb_start(verb_new(c, r->command_id, answer_ack), r->sandbox_id,
               (const char *[]){"ack", who, seq, NULL}, NULL, 0, true);
}

/* --- not yet --- */

static void refuse(struct call *c, const char *method)
{
    struct status st = STATUS_INIT;

    not_yet(true, method, &st);
    call_finish(c, &st);
}

void wait_command_start(struct call *c, const ProtobufCMessage *message)
{
    refuse(c, "WaitCommand");
}

void resize_terminal_start(struct call *c, const ProtobufCMessage *message)
{
    refuse(c, "ResizeTerminal");
}

void prune_commands_start(struct call *c, const ProtobufCMessage *message)
{
    refuse(c, "PruneCommands");
}
