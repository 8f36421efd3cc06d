/*
 * See request.h. A process has one command line and so one request, which the table of options
 * points into.
 */
#include "runtime/recorder/request.h"

#include "common/journal/verbs.h"

static struct request request = {
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

static const struct option options[] = {
    {"state", 0, NULL, OPTION_STRING, &request.state, "DIR",
     "Where commands are kept. " RECORDER_ROOT_STATE " for root, ~/" RECORDER_HOME_STATE
     " for others."},
    {"spec", 0, NULL, OPTION_STRING, &request.spec, "FILE",
     "A recorder.v1.SpecFile; waited for until it is whole, and removed when read."},
    {"request", 0, NULL, OPTION_STRING, &request.request, "BASE64",
     "A recorder.v1.FileSpec that needs no file of its own."},
    {"default-user", 0, NULL, OPTION_STRING, &request.default_user, "NAME",
     "Who runs commands that name no user; kept in the state directory."},
    {"default-cwd", 0, NULL, OPTION_STRING, &request.default_cwd, "DIR",
     "Where commands run that name no directory; kept in the state directory."},
    {"id", 0, NULL, OPTION_STRING, &request.id, "ID", "The command."},
    {"sandbox", 0, NULL, OPTION_STRING, &request.sandbox, "ID",
     "The sandbox that the command must belong to, for input, signal, resize and ack."},
    {"from", 0, NULL, OPTION_INT, &request.from, "SEQ", "The first event wanted."},
    {"until", 0, NULL, OPTION_STRING, &request.until, "POINT",
     "Where to stop: after exited, after closed, or with what is recorded now."},
    {"text", 0, NULL, OPTION_BOOL, &request.text, NULL, "Output as text instead of bytes."},
    {"follow", 0, NULL, OPTION_BOOL, &request.follow, NULL,
     "Goes on with what is still to come, for watch."},
    {"lines", 0, NULL, OPTION_BOOL, &request.lines, NULL, "Output in whole lines."},
    {"tail-events", 0, NULL, OPTION_INT, &request.tail_events, "N", "Only so many at the end."},
    {"tail-lines", 0, NULL, OPTION_INT, &request.tail_lines, "N", "Only so many at the end."},
    {"tail-bytes", 0, NULL, OPTION_INT, &request.tail_bytes, "N", "Only so many at the end."},
    {"since", 0, NULL, OPTION_INT, &request.since_ns, "NS",
     "Only what was recorded at this time or later, in ns since 1970."},
    {"before", 0, NULL, OPTION_INT, &request.before_ns, "NS",
     "Ends before what was recorded at this time or later."},
    {"streams", 0, NULL, OPTION_STRING, &request.streams, "LIST",
     "Output of these alone: stdout, stderr, terminal, with commas between."},
    {"limit-bytes", 0, NULL, OPTION_INT, &request.limit_bytes, "N",
     "Ends with the event that makes it so much output, or more."},
    {"no-progress-reader", 0, NULL, OPTION_BOOL, &request.no_progress, NULL,
     "The command need not wait for this reader when its journal is full."},
    {"watches", 0, NULL, OPTION_BOOL, &request.watches, NULL,
     "Watches of directories are meant, instead of commands."},
    {"path", 0, NULL, OPTION_STRING, &request.path, "DIR", "The directory, for notice."},
    {"recursive", 0, NULL, OPTION_BOOL, &request.recursive, NULL, "With all that is below it."},
    {"signal", 0, NULL, OPTION_INT, &request.signal, "N", "The signal's number."},
    {"target", 0, NULL, OPTION_STRING, &request.target, "WHO",
     "Who gets the signal: process, group or tree."},
    {"cols", 0, NULL, OPTION_INT, &request.cols, "N", "Columns of the terminal."},
    {"rows", 0, NULL, OPTION_INT, &request.rows, "N", "Rows of the terminal."},
    {"port", 0, NULL, OPTION_INT, &request.port, "N",
     "Waits until something listens on this port, for ports; the port to dial."},
    {"host", 0, NULL, OPTION_STRING, &request.host, "ADDRESS",
     "The IP address to dial; the sandbox's own if not set."},
    {"seq", 0, NULL, OPTION_INT, &request.seq, "SEQ", "The event to acknowledge."},
    {"after", 0, NULL, OPTION_STRING, &request.after, "TOKEN",
     "The last command seen: its start time in ns, a colon, its id."},
    {"limit", 0, NULL, OPTION_INT, &request.limit, "N", "At most so many commands."},
    {"in-state", 0, NULL, OPTION_STRINGS, &request.states, "NAME",
     "Only commands that are starting, running, exited or closed. May be repeated."},
    {"label", 0, NULL, OPTION_STRINGS, &request.labels, "KEY=VALUE",
     "Only commands with this label. May be repeated."},
    {"timeout-ms", 0, NULL, OPTION_INT, &request.timeout_ms, "N", "How long to wait."},
    {"max-commands", 0, NULL, OPTION_INT, &request.max_commands, "N",
     "Keep the output of so many closed commands. 0: 1000."},
    {"max-bytes", 0, NULL, OPTION_INT, &request.max_bytes, "N",
     "Keep so much of their output. 0: 1 GiB."},
    {"max-age-ms", 0, NULL, OPTION_INT, &request.max_age_ms, "N",
     "Keep none that closed longer ago. 0: no limit."},
    {"set", 0, NULL, OPTION_BOOL, &request.set, NULL, "Keep these limits from now on."},
    {NULL},
};

enum options_result request_parse(int argc, char **argv, const char *verbs,
                                  const struct request **ret, int *ret_args, struct status *st)
{
    const struct program program = {
        .name = "recorder",
        .summary =
            "Runs commands in a sandbox and keeps what they write, for any number of readers.",
        .usage = "VERB [OPTIONS]",
        .options = options,
        .more = verbs,
    };

    *ret = &request;
    return options_parse(&program, argc, argv, ret_args, st);
}
