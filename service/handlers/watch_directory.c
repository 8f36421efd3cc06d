/*
 * WatchDirectory: a followed stream (follow.c) of a watch instead of a command. A watch is run,
 * journaled and followed by the recorder as commands are, only among themselves; each of its
 * changes is an event of output, whose bytes are a FileChange. So a WatchEvent is a CommandEvent on
 * the wire, with a message where that has bytes, and the same relay carries it.
 */
#include "service/handlers/watch_directory.h"

#include "common/base/cleanup.h"
#include "common/journal/verbs.h"
#include "recorder/v1/recorder.pb-c.h"
#include "sandbox/v1/watch.pb-c.h"
#include "service/handlers/follow_impl.h"
#include "service/handlers/recorder_result.h"

#include <stdio.h>
#include <string.h>

enum {
    KEEP_DEFAULT_MS = 10 * 60 * 1000,
    KEEP_MIN_MS = 1000,
    KEEP_MAX_MS = 24 * 3600 * 1000,
    JOURNAL_BYTES = 16 << 20,
    GRACE_MS = 1000,
};

enum recorder_result watch_result(const struct e2b_output *out, const char *watch_id,
                                  const uint8_t *digest, struct status *st)
{
    static const struct {
        enum recorder_exit exit_code;
        enum code code;
        int reason;
        const char *field;
    } meanings[] = {
        {RECORDER_FILE_NOT_FOUND, CODE_NOT_FOUND, REASON(FILE_NOT_FOUND), ""},
        {RECORDER_NOT_A_DIRECTORY, CODE_FAILED_PRECONDITION, REASON(NOT_A_DIRECTORY), ""},
        {RECORDER_FORBIDDEN, CODE_PERMISSION_DENIED, REASON(PERMISSION_DENIED), ""},
        {RECORDER_NO_USER, CODE_INVALID_ARGUMENT, REASON(USER_NOT_FOUND), "user"},
        {RECORDER_BAD_PATH, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD), "path"},
    };

    if (out->exit_code == RECORDER_MISMATCH) {
        status_set(st, CODE_ALREADY_EXISTS, REASON(COMMAND_MISMATCH),
                   "watch %s exists and is another one: use another watch_id, or send the same "
                   "request again to go on with it",
                   watch_id);
        return RECORDER_RESULT_FAILED;
    }
    if (out->exit_code == RECORDER_NOT_FOUND) {
        status_set(st, CODE_NOT_FOUND, REASON(LOG_EXPIRED), "the record of watch %s was removed",
                   watch_id);
        return RECORDER_RESULT_FAILED;
    }
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (out->exit_code != (int)meanings[i].exit_code)
            continue;
        status_set(st, meanings[i].code, meanings[i].reason, "%s", out->err);
        snprintf(st->field, sizeof(st->field), "%s", meanings[i].field);
        return RECORDER_RESULT_FAILED;
    }
    return recorder_result(out, watch_id, digest, st);
}

static bool make_spec(const Sandbox__V1__WatchDirectoryRequest *r, struct follow *f,
                      struct status *st)
{
    Recorder__V1__CommandSpec spec = RECORDER__V1__COMMAND_SPEC__INIT;
    int64_t keep_ms = KEEP_DEFAULT_MS;

    if (r->keep_for != NULL &&
        !validate_duration("keep_for", r->keep_for->seconds, r->keep_for->nanos, KEEP_MIN_MS,
                           KEEP_MAX_MS, &keep_ms, st))
        return false;
    spec.command_id = f->command_id;
    spec.sandbox_id = f->sandbox_id;
    spec.user = r->user;
    spec.watch_path = r->path;
    spec.watch_recursive = r->recursive;
    spec.unread_timeout_ms = (uint64_t)keep_ms;
    spec.overflow = SANDBOX__V1__OVERFLOW__OVERFLOW_DROP_OLDEST;
    spec.max_journal_bytes = JOURNAL_BYTES;
    spec.grace_ms = GRACE_MS;
    command_spec_seal(&spec, f->digest, &f->spec, &f->spec_len);
    return true;
}

void watch_directory_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__WatchDirectoryRequest *r =
        (const Sandbox__V1__WatchDirectoryRequest *)message;
    bool make_id = r->watch_id[0] == '\0';
    char made[COMMAND_ID_MADE_LEN + 1];
    struct status st = STATUS_INIT;
    struct follow *f;

    if (!validate_id("sandbox_id", r->sandbox_id, &st) ||
        !validate_optional_id("watch_id", r->watch_id, &st) ||
        !validate_path("path", r->path, &st) || !validate_user("user", r->user, &st)) {
        call_finish(c, &st);
        return;
    }
    if (make_id)
        command_id_make(made);
    f = follow_new(c, r->sandbox_id, make_id ? made : r->watch_id, r->from_seq);
    f->watches = f->relay.changes = true;
    f->until = "closed";
    if (!make_spec(r, f, &st)) {
        follow_free(f);
        call_finish(c, &st);
        return;
    }
    follow_begin(f, make_id);
}
