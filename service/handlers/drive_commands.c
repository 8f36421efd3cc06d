/*
 * SendInput, SignalCommand, ResizeTerminal and AckLogs: what can be done with a command that runs.
 * Each is one verb of the recorder. All on the call's worker.
 */
#include "common/base/cleanup.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/commands.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/commands.h"
#include "service/handlers/input_spec.h"
#include "service/handlers/recorder_result.h"
#include "service/handlers/verb.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    INPUT_BYTES_MAX = 1024 * 1024,
    SIGNAL_MAX = 64,
};

/* --- SendInput --- */

static void answer_input(struct verb *v)
{
    Sandbox__V1__SendInputResponse m = SANDBOX__V1__SEND_INPUT_RESPONSE__INIT;

    if (recorder_number(&v->output, &m.offset))
        call_reply(v->o.call, &m.base);
    else
        verb_finish_corrupt(v, "answer");
}

/* How far it came is known in spite of the failure. */
static void tell_offset(struct verb *v, struct status *st)
{
    uint64_t offset;

    if ((v->output.exit_code == RECORDER_INPUT_GAP || v->output.exit_code == RECORDER_STDIN_FULL) &&
        recorder_number(&v->output, &offset))
        status_detail(st, "expected_offset", "%" PRIu64, offset);
}

static uint8_t *pack_input(const Sandbox__V1__SendInputRequest *r, size_t *ret_len)
{
    struct input_spec input = {.eof = r->eof};

    if (r->position_case == SANDBOX__V1__SEND_INPUT_REQUEST__POSITION_OFFSET) {
        input.positioned = true;
        input.offset = r->offset;
    }

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

    if (!verb_check_ids(r->sandbox_id, r->command_id, &st) || !check_input(r, &st)) {
        call_finish(c, &st);
        return;
    }

    AUTO_FREE uint8_t *spec = pack_input(r, &len);
    struct verb *v = verb_new(c, r->sandbox_id, r->command_id, answer_input);

    v->failed = tell_offset;
    snprintf(who, sizeof(who), "--id=%s", r->command_id);
    /* Without an offset, what is repeated blindly could be written twice. */
    verb_start(v, (const char *[]){"input", who, NULL}, spec, len,
               r->position_case == SANDBOX__V1__SEND_INPUT_REQUEST__POSITION_OFFSET);
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
    bool ok = verb_check_ids(r->sandbox_id, r->command_id, &st);

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
    verb_start(verb_new(c, r->sandbox_id, r->command_id, answer_signal),
               (const char *[]){"signal", who, signal, whom, NULL}, NULL, 0, false);
}

/* --- ResizeTerminal --- */

static void answer_resize(struct verb *v)
{
    Sandbox__V1__ResizeTerminalResponse m = SANDBOX__V1__RESIZE_TERMINAL_RESPONSE__INIT;

    call_reply(v->o.call, &m.base);
}

void resize_terminal_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__ResizeTerminalRequest *r =
        (const Sandbox__V1__ResizeTerminalRequest *)message;
    struct status st = STATUS_INIT;
    char who[VALIDATE_ID_MAX + 8], cols_arg[24], rows_arg[24];
    uint32_t cols = 0, rows = 0;
    bool ok = verb_check_ids(r->sandbox_id, r->command_id, &st);

    if (ok && r->size == NULL)
        ok = status_bad_field(&st, INVALID_FIELD, "size", "size is required");
    if (!ok || !validate_terminal("size", r->size, &cols, &rows, &st)) {
        call_finish(c, &st);
        return;
    }
    snprintf(who, sizeof(who), "--id=%s", r->command_id);
    snprintf(cols_arg, sizeof(cols_arg), "--cols=%" PRIu32, cols);
    snprintf(rows_arg, sizeof(rows_arg), "--rows=%" PRIu32, rows);
    verb_start(verb_new(c, r->sandbox_id, r->command_id, answer_resize),
               (const char *[]){"resize", who, cols_arg, rows_arg, NULL}, NULL, 0, true);
}

/* --- AckLogs --- */

static void answer_ack(struct verb *v)
{
    Sandbox__V1__AckLogsResponse m = SANDBOX__V1__ACK_LOGS_RESPONSE__INIT;

    if (recorder_number(&v->output, &m.acked_seq))
        call_reply(v->o.call, &m.base);
    else
        verb_finish_corrupt(v, "answer");
}

void ack_logs_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__AckLogsRequest *r = (const Sandbox__V1__AckLogsRequest *)message;
    struct status st = STATUS_INIT;
    char who[VALIDATE_ID_MAX + 8], seq[32];
    bool ok = verb_check_ids(r->sandbox_id, r->command_id, &st);

    if (ok && r->seq == 0)
        ok = status_bad_field(&st, INVALID_FIELD, "seq", "seq is required: events count from 1");
    if (!ok) {
        call_finish(c, &st);
        return;
    }
    snprintf(who, sizeof(who), "--id=%s", r->command_id);
    snprintf(seq, sizeof(seq), "--seq=%" PRIu64, r->seq);
    verb_start(verb_new(c, r->sandbox_id, r->command_id, answer_ack),
               (const char *[]){"ack", who, seq, NULL}, NULL, 0, true);
}
