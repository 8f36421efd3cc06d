/*
 * recorder: runs commands in a sandbox, keeps what they write, and lets any number of readers
 * follow. One short-lived process per verb; see common/journal/verbs.h, which is the contract.
 */
#include "common/base/cleanup.h"
#include "common/base/options.h"
#include "common/base/version.h"
#include "runtime/recorder/claim.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/defaults.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/follower.h"
#include "runtime/recorder/lost.h"
#include "runtime/recorder/show.h"
#include "runtime/recorder/writer.h"

#include <string.h>
#include <sys/stat.h>

struct request {
    const char *state, *spec, *id, *sandbox, *until, *target, *after;
    const char *default_user, *default_cwd;
    int64_t from, seq, signal, limit;
    bool text, no_progress;
};

/* --- run and follow --- */

static bool follow_options(const struct request *r, struct follow_options *ret, struct status *st)
{
    *ret = (struct follow_options){
        .from = r->from > 0 ? (uint64_t)r->from : 1,
        .text = r->text,
        .progress = !r->no_progress,
    };
    if (strcmp(r->until, "exited") == 0)
        ret->until = FOLLOW_EXITED;
    else if (strcmp(r->until, "closed") == 0)
        ret->until = FOLLOW_CLOSED;
    else if (strcmp(r->until, "now") == 0)
        ret->until = FOLLOW_NOW;
    else
        return fault(st, RECORDER_USAGE, "--until is exited, closed or now");
    return true;
}

static bool do_follow(const struct state *s, const struct request *r, struct status *st)
{
    struct follow_options options;
    AUTO_CLOSE int dir = -1;

    return follow_options(r, &options, st) && state_open_command(s, r->id, &dir, st) &&
           follow(dir, &options, st);
}

/* Starts the command, or finds it. *ret_dir is its directory. */
static bool claim_and_start(const struct state *s, const struct request *r, int *ret_dir,
                            struct status *st)
{
    AUTO(command_spec_deinit) struct command_spec spec = {.grace_ms = 0};
    AUTO(claim_deinit) struct claim claim = CLAIM_INIT;

    if (!spec_read_command(r->spec, &spec, st))
        return false;
    defaults_apply(s, &spec);
    switch (claim_make(s, &spec, &claim, st)) {
    case CLAIM_FAILED:
        return false;
    case CLAIM_EXISTS:
        if (!claim_matches(claim.dir, &spec, st))
            return false;
        break;
    case CLAIM_WON:
        if (!writer_start(&claim, &spec, st))
            return false;
        break;
    }
    *ret_dir = take_fd(&claim.dir);
    return true;
}

static bool do_run(const struct state *s, const struct request *r, struct status *st)
{
    struct follow_options options;
    AUTO_CLOSE int dir = -1;

    if (!follow_options(r, &options, st)) {
        unlink(r->spec);
        return false;
    }
    return claim_and_start(s, r, &dir, st) && follow(dir, &options, st);
}

/* --- what is asked of a writer --- */

static bool ended(const struct request *r, struct status *st)
{
    return fault(st, RECORDER_ENDED, "the command %s has ended", r->id);
}

/*
 * Opens the command and connects to its writer. *ret_fd is -1 when there is none any more; then the
 * journal has its end. A writer that is starting is waited for.
 */
static bool reach_writer(const struct state *s, const struct request *r, int *ret_dir, int *ret_fd,
                         struct status *st)
{
    enum { TRIES = 1000, TRY_US = 5000 };

    if (!state_open_command(s, r->id, ret_dir, st) || !claim_is_native(*ret_dir, r->sandbox, st))
        return false;
    for (int i = 0; i < TRIES; i++) {
        *ret_fd = control_connect(*ret_dir);
        if (*ret_fd >= 0)
            return true;
        switch (lost_settle(*ret_dir, st)) {
        case SETTLE_ENDED:
            return true;
        case SETTLE_FAILED:
            return false;
        case SETTLE_ALIVE:
            usleep(TRY_US);
            break;
        }
    }
    return fault(st, RECORDER_INTERNAL, "the recorder of the command does not answer");
}

static bool answered(const struct request *r, const struct control_packet *p, struct status *st)
{
    switch (p->m.status) {
    case RECORDER_OK:
        return true;
    case RECORDER_ENDED:
        return ended(r, st);
    case RECORDER_STDIN_CLOSED:
        return fault(st, RECORDER_STDIN_CLOSED, "the command has no stdin, or not any more");
    case RECORDER_STDIN_FULL:
        return fault(st, RECORDER_STDIN_FULL, "the command did not read its stdin for %d s",
                     INPUT_PATIENCE_MS / 1000);
    case RECORDER_OUT_OF_RANGE:
        return fault(st, RECORDER_OUT_OF_RANGE, "the last event is %llu",
                     (unsigned long long)p->m.seq);
    default:
        return fault(st, (int)p->m.status, "%.*s", (int)p->m.data_len, (const char *)p->data);
    }
}

/*
 * Reaches the writer and asks it by means of ask(). False in *ret_asked: there is none any more, be
 * it that it ended just now, with the question in its hands.
 */
static bool ask_writer(const struct state *s, const struct request *r, int *ret_dir,
                       bool (*ask)(int fd, void *question, struct control_packet *answer),
                       void *question, struct control_packet *answer, bool *ret_asked,
                       struct status *st)
{
    *ret_asked = false;
    for (int tries = 0; tries < 3; tries++) {
        AUTO_CLOSE int fd = -1;

        cleanup_close(ret_dir);
        *ret_dir = -1;
        if (!reach_writer(s, r, ret_dir, &fd, st))
            return false;
        if (fd < 0)
            return true;
        if (ask(fd, question, answer))
            return *ret_asked = true;
    }
    return fault(st, RECORDER_INTERNAL, "the recorder of the command does not answer");
}

static bool ask_once(int fd, void *question, struct control_packet *answer)
{
    return control_ask(fd, question, NULL, answer);
}

static bool ask_input(int fd, void *question, struct control_packet *answer)
{
    const struct input_spec *in = question;
    size_t at = 0, len = buf_len(&in->data), step;

    do {
        struct control_message m = {.kind = CONTROL_INPUT, .flags = in->eof ? CONTROL_EOF : 0u};

        step = len - at < CONTROL_DATA_MAX ? len - at : CONTROL_DATA_MAX;
        m.flags |= at + step < len ? CONTROL_MORE : 0u;
        m.data_len = (uint32_t)step;
        if (!control_ask(fd, &m, buf_data(&in->data) + at, answer))
            return false;
        at += step;
    } while (at < len);
    return true;
}

static bool do_input(const struct state *s, const struct request *r, struct status *st)
{
    static struct control_packet answer;
    AUTO(input_spec_deinit) struct input_spec in = {.eof = false};
    AUTO_CLOSE int dir = -1;
    bool asked;

    if (!spec_read_input(r->spec, &in, st) ||
        !ask_writer(s, r, &dir, ask_input, &in, &answer, &asked, st))
        return false;
    if (!asked)
        return ended(r, st);
    printf("%llu\n", (unsigned long long)answer.m.value);
    return answered(r, &answer, st);
}

static bool parse_target(const char *name, uint32_t *ret, struct status *st)
{
    static const char *const names[] = {"process", "group", "tree"};

    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return *ret = i + CONTROL_PROCESS, true;
    return fault(st, RECORDER_USAGE, "--target is process, group or tree");
}

static bool do_signal(const struct state *s, const struct request *r, struct status *st)
{
    static struct control_packet answer;
    struct control_message m = {.kind = CONTROL_SIGNAL, .value = (uint64_t)r->signal};
    AUTO_CLOSE int dir = -1;
    bool asked;

    if (!parse_target(r->target, &m.flags, st) ||
        !ask_writer(s, r, &dir, ask_once, &m, &answer, &asked, st))
        return false;
    return asked ? answered(r, &answer, st) : ended(r, st);
}

/* Without a writer the record of it is ours to change. */
static bool ack_ended(int dir, uint64_t seq, uint64_t *ret, struct status *st)
{
    struct end_record end;

    *ret = acked_read(dir);
    if (end_read(dir, &end) && seq > end.last_seq)
        return fault(st, RECORDER_OUT_OF_RANGE, "the last event is %llu",
                     (unsigned long long)end.last_seq);
    if (seq <= *ret)
        return true;
    *ret = seq;
    return acked_write(dir, seq) || fault_errno(st, "the acknowledgement cannot be kept");
}

static bool do_ack(const struct state *s, const struct request *r, struct status *st)
{
    static struct control_packet answer;
    struct control_message m = {.kind = CONTROL_ACK, .seq = (uint64_t)r->seq};
    AUTO_CLOSE int dir = -1;
    uint64_t acked;
    bool asked;

    if (!ask_writer(s, r, &dir, ask_once, &m, &answer, &asked, st))
        return false;
    if (asked ? !answered(r, &answer, st) : !ack_ended(dir, m.seq, &acked, st))
        return false;
    if (asked)
        acked = answer.m.value;
    printf("%llu\n", (unsigned long long)acked);
    return true;
}

/* --- looking --- */

static bool do_show(const struct state *s, const struct request *r, struct status *st)
{
    AUTO(buf_deinit) struct buf frame = BUF_INIT(SHOW_MAX + 64);

    if (!show_command(s, r->id, &frame, st))
        return false;
    return write_all(STDOUT_FILENO, buf_data(&frame), buf_len(&frame)) ||
           fault_errno(st, "the command cannot be written");
}

static bool do_list(const struct state *s, const struct request *r, struct status *st)
{
    return show_list(s, r->after, (size_t)r->limit, st);
}

static bool do_setup(const struct state *s, const struct request *r, struct status *st)
{
    if (r->default_user == NULL && r->default_cwd == NULL)
        return true; /* opening the state made it */
    return defaults_write(s, r->default_user != NULL ? r->default_user : "",
                          r->default_cwd != NULL ? r->default_cwd : "", st);
}

static bool do_version(const struct state *s, const struct request *r, struct status *st)
{
    printf("recorder %s format %d\n", SANDBOXD_VERSION, META_FORMAT);
    return true;
}

/* --- the table --- */

enum needs { NEEDS_SPEC = 1, NEEDS_ID = 2, NEEDS_SIGNAL = 4, NEEDS_SEQ = 8, NEEDS_NO_STATE = 16 };

struct verb {
    const char *name;
    bool (*run)(const struct state *s, const struct request *r, struct status *st);
    unsigned needs;
};

static const struct verb verbs[] = {
    {"setup", do_setup, 0},
    {"run", do_run, NEEDS_SPEC},
    {"follow", do_follow, NEEDS_ID},
    {"input", do_input, NEEDS_ID | NEEDS_SPEC},
    {"signal", do_signal, NEEDS_ID | NEEDS_SIGNAL},
    {"ack", do_ack, NEEDS_ID | NEEDS_SEQ},
    {"show", do_show, NEEDS_ID},
    {"list", do_list, 0},
    {"version", do_version, NEEDS_NO_STATE},
};

static const char MORE[] =
    "Verbs:\n"
    "  setup    make the state directory\n"
    "  run      start the command of --spec unless its id exists, and follow it\n"
    "  follow   write the events of --id to stdout, from --from on\n"
    "  input    write the input of --spec to the stdin of --id\n"
    "  signal   send --signal to the --target of --id\n"
    "  ack      acknowledge the events of --id up to --seq\n"
    "  show     print what is known of --id, as a sandbox.v1.Command\n"
    "  list     the same for all commands, oldest first\n"
    "  version  print the version, and that of the journal\n";

static bool check_needs(const struct verb *v, const struct request *r, struct status *st)
{
    if ((v->needs & NEEDS_SPEC) != 0 && r->spec == NULL)
        return fault(st, RECORDER_USAGE, "%s needs --spec=FILE", v->name);
    if ((v->needs & NEEDS_ID) != 0 && r->id == NULL)
        return fault(st, RECORDER_USAGE, "%s needs --id=ID", v->name);
    if ((v->needs & NEEDS_SIGNAL) != 0 && (r->signal < 1 || r->signal > 64))
        return fault(st, RECORDER_USAGE, "%s needs --signal=N, from 1 to 64", v->name);
    if ((v->needs & NEEDS_SEQ) != 0 && r->seq < 1)
        return fault(st, RECORDER_USAGE, "%s needs --seq=N, at least 1", v->name);
    return true;
}

static bool run_verb(const struct verb *v, const struct request *r, struct status *st)
{
    AUTO(state_deinit) struct state s = STATE_INIT;

    if (!check_needs(v, r, st))
        return false;
    if ((v->needs & NEEDS_NO_STATE) == 0 && !state_open(&s, r->state, st))
        return false;
    return v->run(&s, r, st);
}

static int failed(const struct status *st)
{
    fprintf(stderr, "%s\n", st->message);
    return st->reason != 0 ? st->reason : RECORDER_USAGE;
}

int main(int argc, char **argv)
{
    struct request r = {.until = "exited", .target = "group", .limit = 100};
    const struct option options[] = {
        {"state", 0, NULL, OPTION_STRING, &r.state, "DIR",
         "Where commands are kept. " RECORDER_ROOT_STATE " for root, ~/" RECORDER_HOME_STATE
         " for others."},
        {"spec", 0, NULL, OPTION_STRING, &r.spec, "FILE",
         "A recorder.v1.SpecFile; waited for until it is whole, and removed when read."},
        {"default-user", 0, NULL, OPTION_STRING, &r.default_user, "NAME",
         "Who runs commands that name no user; kept in the state directory."},
        {"default-cwd", 0, NULL, OPTION_STRING, &r.default_cwd, "DIR",
         "Where commands run that name no directory; kept in the state directory."},
        {"id", 0, NULL, OPTION_STRING, &r.id, "ID", "The command."},
        {"sandbox", 0, NULL, OPTION_STRING, &r.sandbox, "ID",
         "The sandbox that the command must belong to, for input, signal and ack."},
        {"from", 0, NULL, OPTION_INT, &r.from, "SEQ", "The first event wanted."},
        {"until", 0, NULL, OPTION_STRING, &r.until, "POINT",
         "Where to stop: after exited, after closed, or with what is recorded now."},
        {"text", 0, NULL, OPTION_BOOL, &r.text, NULL, "Output as text instead of bytes."},
        {"no-progress-reader", 0, NULL, OPTION_BOOL, &r.no_progress, NULL,
         "The command need not wait for this reader when its journal is full."},
        {"signal", 0, NULL, OPTION_INT, &r.signal, "N", "The signal's number."},
        {"target", 0, NULL, OPTION_STRING, &r.target, "WHO",
         "Who gets the signal: process, group or tree."},
        {"seq", 0, NULL, OPTION_INT, &r.seq, "SEQ", "The event to acknowledge."},
        {"after", 0, NULL, OPTION_STRING, &r.after, "TOKEN",
         "The last command seen: its start time in ns, a colon, its id."},
        {"limit", 0, NULL, OPTION_INT, &r.limit, "N", "At most so many commands."},
        {NULL},
    };
    const struct program program = {
        .name = "recorder",
        .summary =
            "Runs commands in a sandbox and keeps what they write, for any number of readers.",
        .usage = "VERB [OPTIONS]",
        .options = options,
        .more = MORE,
    };
    const struct verb *verb = NULL;
    struct status st = STATUS_INIT;
    int args = 0;

    for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            verb = &verbs[i];
    umask(0077);
    switch (options_parse(&program, argc - (verb != NULL), argv + (verb != NULL), &args, &st)) {
    case OPTIONS_DONE:
        return RECORDER_OK;
    case OPTIONS_ERROR:
        return failed(&st);
    case OPTIONS_RUN:
        break;
    }
    if (verb == NULL || argv[1 + args] != NULL) {
        const char *word = argv[(verb != NULL) + args];

        status_set(&st, CODE_INVALID_ARGUMENT, 0, "%s%s is no verb; see recorder --help",
                   word != NULL ? word : "", word != NULL ? "" : "nothing");
        return failed(&st);
    }
    if (!run_verb(verb, &r, &st))
        return failed(&st);
    return fflush(stdout) == 0 ? RECORDER_OK : RECORDER_INTERNAL;
}
