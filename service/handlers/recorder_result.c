/* See recorder_result.h. Pure. */
#include "service/handlers/recorder_result.h"

#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGEST_HEX = 64 };

struct meaning {
    enum recorder_exit exit_code;
    enum code code;
    int reason;
    const char *fallback; /* the sentence when the recorder gave none */
};

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

static const struct meaning meanings[] = {
    {RECORDER_INTERNAL, CODE_INTERNAL, REASON(INTERNAL), "the recorder failed"},
    {RECORDER_USAGE, CODE_INTERNAL, REASON(INTERNAL), "the recorder does not know its arguments"},
    {RECORDER_NOT_FOUND, CODE_NOT_FOUND, REASON(COMMAND_NOT_FOUND), "no such command"},
    {RECORDER_DATA_LOSS, CODE_DATA_LOSS, REASON(JOURNAL_CORRUPT),
     "the record does not hold together"},
    {RECORDER_ENDED, CODE_FAILED_PRECONDITION, REASON(COMMAND_ENDED), "the command has ended"},
    {RECORDER_STDIN_CLOSED, CODE_FAILED_PRECONDITION, REASON(STDIN_CLOSED),
     "the command has no stdin, or it is closed"},
    {RECORDER_STDIN_FULL, CODE_RESOURCE_EXHAUSTED, REASON(STDIN_FULL),
     "the command does not read its stdin"},
    {RECORDER_BAD_SPEC, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
     "the specification did not reach the sandbox"},
    {RECORDER_NO_SPACE, CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL), "the sandbox's disk is full"},
    {RECORDER_OUT_OF_RANGE, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD),
     "seq is beyond the last event"},
    {RECORDER_INPUT_GAP, CODE_OUT_OF_RANGE, REASON(INPUT_GAP),
     "input is missing before the offset"},
    {RECORDER_EXPIRED, CODE_NOT_FOUND, REASON(LOG_EXPIRED), "its output was removed"},
    {RECORDER_NEWER, CODE_UNAVAILABLE, REASON(POD_OUTDATED),
     "it was recorded by a newer version of the server"},
    {RECORDER_NO_TERMINAL, CODE_FAILED_PRECONDITION, REASON(NO_TERMINAL), "it has no terminal"},
    {RECORDER_FOREIGN, CODE_FAILED_PRECONDITION, REASON(COMMAND_ENDED),
     "the command belongs to the sandbox that this one was made from: it can be read, not driven"},
};

static void set_mismatch(const struct e2b_output *out, const char *command_id,
                         const uint8_t *digest, struct status *st)
{
    char asked[DIGEST_HEX + 1] = "";

    for (size_t i = 0; digest != NULL && i < DIGEST_HEX / 2; i++)
        snprintf(asked + 2 * i, 3, "%02x", digest[i]);
    status_set(st, CODE_ALREADY_EXISTS, REASON(COMMAND_MISMATCH),
               "command %s exists with another specification: use another command_id, or send the "
               "same command again to attach to it",
               command_id);
    status_detail(st, "existing_digest", "%.*s", (int)strcspn(out->err, "\n"), out->err);
    status_detail(st, "requested_digest", "%s", asked);
}

enum recorder_result recorder_result(const struct e2b_output *out, const char *command_id,
                                     const uint8_t *digest, struct status *st)
{
    if (out->exit_code == RECORDER_OK)
        return RECORDER_RESULT_OK;
    if (out->exit_code == RECORDER_MISMATCH) {
        set_mismatch(out, command_id, digest, st);
        return RECORDER_RESULT_FAILED;
    }
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        const struct meaning *m = &meanings[i];

        if (out->exit_code != (int)m->exit_code)
            continue;
        status_set(st, m->code, m->reason, "command %s: %s", command_id,
                   out->err[0] != '\0' ? out->err : m->fallback);
        status_detail(st, "command_id", "%s", command_id);
        if (m->exit_code == RECORDER_OUT_OF_RANGE)
            snprintf(st->field, sizeof(st->field), "seq");
        return m->code == CODE_UNAVAILABLE ? RECORDER_RESULT_RETRY : RECORDER_RESULT_FAILED;
    }
    status_set(st, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
               "command %s: the recorder was cut short (exit %d)%s%s", command_id, out->exit_code,
               out->err[0] != '\0' ? ": " : "", out->err);
    return RECORDER_RESULT_RETRY;
}

bool recorder_number(const struct e2b_output *out, uint64_t *ret)
{
    char text[24], *end;

    if (out->out_len == 0 || out->out_len >= sizeof(text))
        return false;
    memcpy(text, out->out, out->out_len);
    text[out->out_len] = '\0';
    *ret = strtoull(text, &end, 10);
    return end != text && (*end == '\0' || *end == '\n');
}
