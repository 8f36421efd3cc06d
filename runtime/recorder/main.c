/*
 * recorder: runs commands in a sandbox, keeps what they write, and lets any number of readers
 * follow. One short-lived process per verb; see common/journal/verbs.h, which is the contract.
 */
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/options.h"
#include "common/base/version.h"
#include "runtime/recorder/claim.h"
#include "runtime/recorder/defaults.h"
#include "runtime/recorder/dial.h"
#include "runtime/recorder/drive.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/file.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/follower.h"
#include "runtime/recorder/ports.h"
#include "runtime/recorder/request.h"
#include "runtime/recorder/retention.h"
#include "runtime/recorder/show.h"
#include "runtime/recorder/wait.h"
#include "runtime/recorder/watch.h"
#include "runtime/recorder/writer.h"

#include <string.h>
#include <sys/stat.h>

/* --- run and follow --- */

/* A list of streams, with commas between; NULL: all. */
static bool streams_of(const char *list, unsigned *ret, struct status *st)
{
    static const char *const names[] = {"stdout", "stderr", "terminal"};
    unsigned found = 0;

    while (list != NULL && *list != '\0') {
        size_t len = strcspn(list, ","), i = 0;

        while (i < 3 && (strlen(names[i]) != len || strncmp(list, names[i], len) != 0))
            i++;
        if (i == 3)
            return fault(st, RECORDER_USAGE, "--streams has stdout, stderr and terminal");
        found |= 1u << i;
        list += len + (list[len] == ',');
    }
    *ret = found != 0 ? found : TAIL_ALL_STREAMS;
    return true;
}

static bool view_options(const struct request *r, struct view_options *ret, struct status *st)
{
    *ret = (struct view_options){
        .text = r->text,
        .lines = r->lines,
        .since_ns = r->since_ns,
        .before_ns = r->before_ns,
        .limit_bytes = (uint64_t)r->limit_bytes,
    };
    return streams_of(r->streams, &ret->streams, st);
}

static void set_tail(const struct request *r, struct follow_options *to)
{
    const int64_t amounts[] = {r->tail_events, r->tail_lines, r->tail_bytes};

    for (int i = 0; i < 3; i++) {
        if (amounts[i] < 0)
            continue;
        to->tail = (enum tail_unit)(TAIL_EVENTS + i);
        to->tail_amount = (uint64_t)amounts[i];
    }
}

static bool follow_options(const struct request *r, struct follow_options *ret, struct status *st)
{
    *ret = (struct follow_options){
        .from = r->from > 0 ? (uint64_t)r->from : 1,
        .progress = !r->no_progress,
    };
    set_tail(r, ret);
    if (!view_options(r, &ret->view, st))
        return false;
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
    options.attached = true;
    return claim_and_start(s, r, &dir, st) && follow(dir, &options, st);
}

/* --- looking --- */

static bool do_show(const struct state *s, const struct request *r, struct status *st)
{
    AUTO(buf_deinit) struct buf frame = BUF_INIT(SHOW_MAX + 64);

    if (!show_command(s, r->id, &frame, st))
        return false;
    return fd_write_all(STDOUT_FILENO, buf_data(&frame), buf_len(&frame)) ||
           fault_errno(st, "the command cannot be written");
}

static bool do_list(const struct state *s, const struct request *r, struct status *st)
{
    const struct show_filter filter = {
        .states = r->states.at,
        .n_states = r->states.n,
        .labels = r->labels.at,
        .n_labels = r->labels.n,
    };

    return show_list(s, r->after, (size_t)r->limit, &filter, st);
}

static bool do_wait(const struct state *s, const struct request *r, struct status *st)
{
    bool closed = strcmp(r->until, "closed") == 0;
    AUTO_CLOSE int dir = -1;

    if (!closed && strcmp(r->until, "exited") != 0)
        return fault(st, RECORDER_USAGE, "--until is exited or closed");
    return state_open_command(s, r->id, &dir, st) && wait_for_end(dir, closed, r->timeout_ms, st) &&
           do_show(s, r, st);
}

static bool do_watch(const struct state *s, const struct request *r, struct status *st)
{
    AUTO(watch_spec_deinit) struct watch_spec spec = {0};
    struct watch_options options = {.follow = r->follow};

    return spec_read_watch(r->spec, &spec, st) && view_options(r, &options.view, st) &&
           watch(s, &options, &spec.cursor, st);
}

static bool do_prune(const struct state *s, const struct request *r, struct status *st)
{
    struct retention_result done;
    struct retention keep;

    retention_read(s, &keep);
    if (r->max_commands >= 0)
        keep.max_commands = (uint64_t)r->max_commands;
    if (r->max_bytes >= 0)
        keep.max_bytes = (uint64_t)r->max_bytes;
    if (r->max_age_ms >= 0)
        keep.max_age_ms = r->max_age_ms;
    if (r->set && !retention_write(s, &keep, st))
        return false;
    retention_apply(s, &keep, NULL, &done);
    printf("%llu %llu\n", (unsigned long long)done.removed, (unsigned long long)done.freed_bytes);
    return true;
}

static bool do_ports(const struct state *s, const struct request *r, struct status *st)
{
    if (r->port < 0 || r->port > UINT16_MAX)
        return fault(st, RECORDER_USAGE, "--port=N is from 1 to 65535");
    return ports_list(s, (uint16_t)r->port, r->timeout_ms, st);
}

static bool do_dial(const struct state *s, const struct request *r, struct status *st)
{
    if (r->port < 1 || r->port > UINT16_MAX)
        return fault(st, RECORDER_USAGE, "--port=N is from 1 to 65535");
    return dial(r->host, (uint16_t)r->port, r->timeout_ms, st);
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

enum { EDGE_MAX = 1000 }; /* of a terminal */

enum needs {
    NEEDS_SPEC = 1,
    NEEDS_ID = 2,
    NEEDS_SIGNAL = 4,
    NEEDS_SEQ = 8,
    NEEDS_SIZE = 16,
    NEEDS_NO_STATE = 32,
};

struct verb {
    const char *name;
    bool (*run)(const struct state *s, const struct request *r, struct status *st);
    unsigned needs;
};

static const struct verb verbs[] = {
    {"setup", do_setup, 0},
    {"run", do_run, NEEDS_SPEC},
    {"follow", do_follow, NEEDS_ID},
    {"watch", do_watch, NEEDS_SPEC},
    {"input", drive_input, NEEDS_ID | NEEDS_SPEC},
    {"signal", drive_signal, NEEDS_ID | NEEDS_SIGNAL},
    {"resize", drive_resize, NEEDS_ID | NEEDS_SIZE},
    {"ack", drive_ack, NEEDS_ID | NEEDS_SEQ},
    {"show", do_show, NEEDS_ID},
    {"list", do_list, 0},
    {"wait", do_wait, NEEDS_ID},
    {"prune", do_prune, 0},
    {"file", file_verb, 0},
    {"ports", do_ports, 0},
    {"dial", do_dial, NEEDS_NO_STATE},
    {"version", do_version, NEEDS_NO_STATE},
};

static const char MORE[] =
    "Verbs:\n"
    "  setup    make the state directory\n"
    "  run      start the command of --spec unless its id exists, and follow it\n"
    "  follow   write the events of --id to stdout, from --from on\n"
    "  watch    write the events of all commands to stdout, from the cursor of --spec on\n"
    "  input    write the input of --spec to the stdin of --id\n"
    "  signal   send --signal to the --target of --id\n"
    "  resize   give the terminal of --id another size\n"
    "  ack      acknowledge the events of --id up to --seq\n"
    "  show     print what is known of --id, as a sandbox.v1.Command\n"
    "  list     the same for all commands, oldest first\n"
    "  wait     wait for the end of --id, then show it\n"
    "  prune    remove the output of closed commands, the oldest first\n"
    "  file     do what --request or --spec says to files, and print the answer\n"
    "  ports    print what listens, as a sandbox.v1.ListPortsResponse\n"
    "  dial     carry stdin and stdout to and from --port\n"
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
    if ((v->needs & NEEDS_SIZE) != 0 &&
        (r->cols < 1 || r->cols > EDGE_MAX || r->rows < 1 || r->rows > EDGE_MAX))
        return fault(st, RECORDER_USAGE, "%s needs --cols=N and --rows=N, from 1 to %d", v->name,
                     EDGE_MAX);
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
    struct request r = {
        .until = "exited",
        .target = "group",
        .limit = 100,
        .tail_events = -1,
        .tail_lines = -1,
        .tail_bytes = -1,
        .max_commands = -1,
        .max_bytes = -1,
        .max_age_ms = -1,
    };
    const struct option options[] = {
        {"state", 0, NULL, OPTION_STRING, &r.state, "DIR",
         "Where commands are kept. " RECORDER_ROOT_STATE " for root, ~/" RECORDER_HOME_STATE
         " for others."},
        {"spec", 0, NULL, OPTION_STRING, &r.spec, "FILE",
         "A recorder.v1.SpecFile; waited for until it is whole, and removed when read."},
        {"request", 0, NULL, OPTION_STRING, &r.request, "BASE64",
         "A recorder.v1.FileSpec that needs no file of its own."},
        {"default-user", 0, NULL, OPTION_STRING, &r.default_user, "NAME",
         "Who runs commands that name no user; kept in the state directory."},
        {"default-cwd", 0, NULL, OPTION_STRING, &r.default_cwd, "DIR",
         "Where commands run that name no directory; kept in the state directory."},
        {"id", 0, NULL, OPTION_STRING, &r.id, "ID", "The command."},
        {"sandbox", 0, NULL, OPTION_STRING, &r.sandbox, "ID",
         "The sandbox that the command must belong to, for input, signal, resize and ack."},
        {"from", 0, NULL, OPTION_INT, &r.from, "SEQ", "The first event wanted."},
        {"until", 0, NULL, OPTION_STRING, &r.until, "POINT",
         "Where to stop: after exited, after closed, or with what is recorded now."},
        {"text", 0, NULL, OPTION_BOOL, &r.text, NULL, "Output as text instead of bytes."},
        {"follow", 0, NULL, OPTION_BOOL, &r.follow, NULL,
         "Goes on with what is still to come, for watch."},
        {"lines", 0, NULL, OPTION_BOOL, &r.lines, NULL, "Output in whole lines."},
        {"tail-events", 0, NULL, OPTION_INT, &r.tail_events, "N", "Only so many at the end."},
        {"tail-lines", 0, NULL, OPTION_INT, &r.tail_lines, "N", "Only so many at the end."},
        {"tail-bytes", 0, NULL, OPTION_INT, &r.tail_bytes, "N", "Only so many at the end."},
        {"since", 0, NULL, OPTION_INT, &r.since_ns, "NS",
         "Only what was recorded at this time or later, in ns since 1970."},
        {"before", 0, NULL, OPTION_INT, &r.before_ns, "NS",
         "Ends before what was recorded at this time or later."},
        {"streams", 0, NULL, OPTION_STRING, &r.streams, "LIST",
         "Output of these alone: stdout, stderr, terminal, with commas between."},
        {"limit-bytes", 0, NULL, OPTION_INT, &r.limit_bytes, "N",
         "Ends with the event that makes it so much output, or more."},
        {"no-progress-reader", 0, NULL, OPTION_BOOL, &r.no_progress, NULL,
         "The command need not wait for this reader when its journal is full."},
        {"signal", 0, NULL, OPTION_INT, &r.signal, "N", "The signal's number."},
        {"target", 0, NULL, OPTION_STRING, &r.target, "WHO",
         "Who gets the signal: process, group or tree."},
        {"cols", 0, NULL, OPTION_INT, &r.cols, "N", "Columns of the terminal."},
        {"rows", 0, NULL, OPTION_INT, &r.rows, "N", "Rows of the terminal."},
        {"port", 0, NULL, OPTION_INT, &r.port, "N",
         "Waits until something listens on this port, for ports; the port to dial."},
        {"host", 0, NULL, OPTION_STRING, &r.host, "ADDRESS",
         "The IP address to dial; the sandbox's own if not set."},
        {"seq", 0, NULL, OPTION_INT, &r.seq, "SEQ", "The event to acknowledge."},
        {"after", 0, NULL, OPTION_STRING, &r.after, "TOKEN",
         "The last command seen: its start time in ns, a colon, its id."},
        {"limit", 0, NULL, OPTION_INT, &r.limit, "N", "At most so many commands."},
        {"in-state", 0, NULL, OPTION_STRINGS, &r.states, "NAME",
         "Only commands that are starting, running, exited or closed. May be repeated."},
        {"label", 0, NULL, OPTION_STRINGS, &r.labels, "KEY=VALUE",
         "Only commands with this label. May be repeated."},
        {"timeout-ms", 0, NULL, OPTION_INT, &r.timeout_ms, "N", "How long to wait."},
        {"max-commands", 0, NULL, OPTION_INT, &r.max_commands, "N",
         "Keep the output of so many closed commands. 0: 1000."},
        {"max-bytes", 0, NULL, OPTION_INT, &r.max_bytes, "N",
         "Keep so much of their output. 0: 1 GiB."},
        {"max-age-ms", 0, NULL, OPTION_INT, &r.max_age_ms, "N",
         "Keep none that closed longer ago. 0: no limit."},
        {"set", 0, NULL, OPTION_BOOL, &r.set, NULL, "Keep these limits from now on."},
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
