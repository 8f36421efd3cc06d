/* RunCommand and Logs: what they ask for is checked and becomes a stream (follow.c). */
#include "service/handlers/follow_impl.h"

#include "sandbox/v1/commands.pb-c.h"
#include "service/handlers/platform_log.h"

#include <stdlib.h>

static const char *until_name(bool follow, Sandbox__V1__Until until)
{
    if (!follow)
        return "now";
    return until == SANDBOX__V1__UNTIL__UNTIL_CLOSED ? "closed" : "exited";
}

static bool check_view(Sandbox__V1__Encoding encoding, Sandbox__V1__Until until, struct status *st)
{
    const int reason = REASON(INVALID_FIELD);

    if (encoding > SANDBOX__V1__ENCODING__ENCODING_TEXT)
        return status_bad_field(st, reason, "encoding", "encoding %d is not known here",
                                (int)encoding);
    if (until > SANDBOX__V1__UNTIL__UNTIL_CLOSED)
        return status_bad_field(st, reason, "until", "until %d is not known here", (int)until);
    return true;
}

static bool check_on_disconnect(Sandbox__V1__OnDisconnect what, struct status *st)
{
    if (what > SANDBOX__V1__ON_DISCONNECT__ON_DISCONNECT_KILL)
        return status_bad_field(st, REASON(INVALID_FIELD), "on_disconnect",
                                "on_disconnect %d is not known here", (int)what);
    return true;
}

void run_command_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__RunCommandRequest *r = (const Sandbox__V1__RunCommandRequest *)message;
    struct status st = STATUS_INIT;
    bool make_id = r->command_id[0] == '\0';
    char made[COMMAND_ID_MADE_LEN + 1];

    if (!validate_id("sandbox_id", r->sandbox_id, &st) ||
        !validate_optional_id("command_id", r->command_id, &st) ||
        !check_view(r->encoding, r->until, &st) || !check_on_disconnect(r->on_disconnect, &st)) {
        call_finish(c, &st);
        return;
    }
    if (make_id)
        command_id_make(made);

    struct follow *f = follow_new(c, r->sandbox_id, make_id ? made : r->command_id, r->from_seq);

    if (!command_spec_make(r, f->command_id, call_trace(c), &f->spec, &f->spec_len, f->digest,
                           &st)) {
        follow_free(f);
        call_finish(c, &st);
        return;
    }
    f->until = until_name(true, r->until);
    f->view.text = r->encoding == SANDBOX__V1__ENCODING__ENCODING_TEXT;
    f->kill_on_disconnect = r->on_disconnect == SANDBOX__V1__ON_DISCONNECT__ON_DISCONNECT_KILL;
    /* A caller that does not know the id yet must learn it before anything can happen under it. */
    follow_begin(f, make_id);
}

static bool belongs_to_one(bool is_set, const char *field, struct status *st)
{
    return !is_set || status_bad_field(st, REASON(INVALID_FIELD), field,
                                       "%s is of one command: set command_id too", field);
}

/* A view of all commands of the sandbox. */
static void start_all(struct call *c, const Sandbox__V1__LogsRequest *r,
                      const struct log_view *view)
{
    struct relay_all *all = xcalloc(1, sizeof(*all));
    struct status st = STATUS_INIT;

    relay_all_init(all, view->streams[0] != '\0');
    if (r->cursor.len > 0 && !relay_all_set_cursor(all, r->cursor.data, r->cursor.len))
        status_bad_field(&st, REASON(INVALID_FIELD), "cursor",
                         "cursor is not one that this method returned");
    else if (belongs_to_one(r->from_seq != 0, "from_seq", &st) &&
             belongs_to_one(r->tail != NULL, "tail", &st) &&
             belongs_to_one(r->until != SANDBOX__V1__UNTIL__UNTIL_UNSPECIFIED, "until", &st)) {
        struct follow *f = follow_new(c, r->sandbox_id, "", 0);

        f->all = all;
        f->may_read_archive = true;
        f->may_wake = r->resume;
        f->announced = true; /* there is no id to be said first */
        f->until = until_name(r->follow, r->until);
        f->view = *view;
        follow_begin(f, false);
        return;
    }
    relay_all_deinit(all);
    free(all);
    call_finish(c, &st);
}

static bool check_logs(const Sandbox__V1__LogsRequest *r, struct log_view *ret, struct status *st)
{
    if (!validate_id("sandbox_id", r->sandbox_id, st) ||
        !validate_optional_id("command_id", r->command_id, st) ||
        !check_view(r->encoding, r->until, st) || !log_view_read(r, ret, st))
        return false;
    if (r->source > SANDBOX__V1__SOURCE__SOURCE_SANDBOX)
        return status_bad_field(st, REASON(INVALID_FIELD), "source", "source %d is not known here",
                                (int)r->source);
    if (r->command_id[0] != '\0' && r->cursor.len > 0)
        return status_bad_field(st, REASON(INVALID_FIELD), "cursor",
                                "cursor is of all commands: leave command_id empty, or use "
                                "from_seq");
    return true;
}

void logs_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__LogsRequest *r = (const Sandbox__V1__LogsRequest *)message;
    struct status st = STATUS_INIT;
    struct log_view view;

    if (r->source == SANDBOX__V1__SOURCE__SOURCE_SANDBOX &&
        validate_id("sandbox_id", r->sandbox_id, &st)) {
        platform_log_start(c, r);
        return;
    }
    if (!check_logs(r, &view, &st)) {
        call_finish(c, &st);
        return;
    }
    if (r->command_id[0] == '\0') {
        start_all(c, r, &view);
        return;
    }

    struct follow *f = follow_new(c, r->sandbox_id, r->command_id, r->from_seq);

    f->may_read_archive = true;
    f->may_wake = r->resume;
    f->until = until_name(r->follow, r->until);
    f->view = view;
    follow_begin(f, false);
}
