/*
 * What sandboxd and the recorder agree on besides the journal itself: where the recorder lives in a
 * sandbox, its verbs, and what its exit codes mean. Used by both sides.
 *
 * The state directory is /var/lib/sandboxd where the recorder runs as root, $HOME/.sandboxd where
 * it does not. Below it:
 *
 *   bin/recorder-<sha>      the recorder, by the first 16 hex digits of its SHA-256
 *   spec/<nonce>            root-only; SpecFile messages on their way (proto/recorder/v1)
 *   watch/<watch_id>/       the same, of directories that are watched; --watches says that these
 * are meant, for run, follow and all else that names a command cmd/<command_id>/       meta,
 * control, lock, segments journal.<first seq>.<bytes before>; the rest is the recorder's own
 * (runtime/recorder/meta.h, gone.h)
 *
 * Verbs (all take --state=DIR, for tests):
 *
 *   setup                   makes the directories, spec/ with mode 0700
 *     --default-user=NAME --default-cwd=DIR
 *                           keeps who runs, and where, when a specification does not say (both or
 *                           none); only E2B's agent knows, so sandboxd asks it at installation
 *   run --spec=FILE         waits until FILE is whole (10 s), unlinks it, starts the command unless
 *                           its id exists, then follows it, with the options of `follow`
 *   follow --id=ID          writes events to stdout, whole frames only (journal.h)
 *     --from=SEQ            the first event wanted; 0 and 1: from the start
 *     --until=exited|closed|now
 *                           where to stop: after `exited` (default), after `closed`, or after
 *                           what is recorded at this moment
 *     --text                output events as Text instead of bytes
 *     --lines               output in whole lines (sandbox.v1.LogsRequest.whole_lines)
 *     --tail-events=N, --tail-lines=N, --tail-bytes=N
 *                           starts so much before the end; 0: at the end. The later of this and
 *                           --from counts
 *     --since=NS            only events of this time (ns since 1970) or later
 *     --before=NS           ends before the first event of this time or later
 *     --streams=LIST        output of these alone: stdout, stderr, terminal, with commas between
 *     --limit-bytes=N       ends with the event that makes it so much output, or more
 *     --no-progress-reader  does not count as a reader that KEEP_UP waits for
 *     With any of tail, since and streams there are gaps in the sequence. Between frames there may
 *     be marks, see FOLLOW_MARK_SEEN; every follower that comes to its own end writes
 *     FOLLOW_MARK_END last.
 *   watch --spec=FILE [--follow] [--text] [--lines] [--streams] [--since] [--before]
 *                           all commands: those recorded merged by time, then as they come. Writes
 *                           frames that hold a sandbox.v1.LogsResponse each: events of one command
 *                           with command_id and last_seq, and the cursor behind them; --limit-bytes
 *                           as above. Ends with FOLLOW_MARK_END
 *   wait --id=ID --until=exited|closed --timeout-ms=N
 *                           waits, then prints what `show` does
 *   input --id=ID --spec=FILE
 *                           writes an InputSpec to the command's stdin or terminal; prints the
 *                           offset (decimal), also with INPUT_GAP and STDIN_FULL
 *   signal --id=ID --signal=N --target=process|group|tree
 *   resize --id=ID --cols=N --rows=N
 *   ack --id=ID --seq=N     prints the highest acknowledged event (decimal)
 *   input, signal, resize and ack also take --sandbox=ID, the sandbox they mean: a command of
 *   another one is then refused (RECORDER_FOREIGN). Without it they take any.
 *
 *   show --id=ID            prints one frame holding a sandbox.v1.Command
 *   list [--after=TOKEN] [--limit=N] [--in-state=NAME]… [--label=KEY=VALUE]…
 *                           prints one such frame per command, oldest first. The order is by start
 *                           time, then id; TOKEN is "<start time ns>:<id>" of the last one seen;
 *                           args and env_names are cut after RECORDER_LIST_ROOM bytes each, so that
 *                           a page is small. NAME: starting, running, exited, closed
 *   prune [--max-commands=N] [--max-bytes=N] [--max-age-ms=N] [--set]
 *                           removes the output of closed commands, oldest first, until it is within
 *                           what is given, or else was set; prints how many, a space, how many
 *                           bytes. --set keeps the limits in the state directory
 *   file --request=BASE64 | --spec=FILE
 *                           does what a FileSpec says (proto/recorder/v1) and prints the response
 *                           message of its RPC (StatFileResponse …), unframed
 *   ports [--port=N --timeout-ms=N]
 *                           prints a sandbox.v1.ListPortsResponse, unframed; with --port only when
 *                           something listens there, or the time is over
 *   dial --port=N [--host=ADDRESS] [--timeout-ms=N]
 *                           connects to a TCP port and carries stdin and stdout to and from it, in
 *                           the frames of dial.h. Ends when it hears nothing for so long (75 s)
 *   notice --path=DIR [--recursive]
 *                           writes a sandbox.v1.FileChange per change, one write() each: the
 *                           command that `run` makes of a watch
 *   version                 prints the version and the journal format version
 *
 * Every verb that fails writes one sentence in UTF-8 to stderr.
 */
#pragma once

#define RECORDER_ROOT_STATE "/var/lib/sandboxd"
#define RECORDER_HOME_STATE ".sandboxd" /* below $HOME */

enum recorder_exit {
    RECORDER_OK = 0,
    RECORDER_INTERNAL = 1,  /* a fault of the recorder or the sandbox */
    RECORDER_USAGE = 2,     /* wrong arguments */
    RECORDER_NOT_FOUND = 3, /* no such command */
    RECORDER_MISMATCH = 4,  /* the id exists with another digest; stderr is that digest in hex, then
                               a newline and the sentence */
    RECORDER_DATA_LOSS = 5, /* the journal does not hold together */
    RECORDER_ENDED = 6,     /* the command has ended: no input, no signal */
    RECORDER_STDIN_CLOSED = 7,  /* it has no stdin, or not any more */
    RECORDER_STDIN_FULL = 8,    /* it did not read its stdin for 5 s */
    RECORDER_BAD_SPEC = 9,      /* the spec did not arrive whole, or is not one */
    RECORDER_NO_SPACE = 10,     /* the disk is full */
    RECORDER_OUT_OF_RANGE = 11, /* ack beyond the last event */
    RECORDER_FOREIGN = 12,   /* the id belongs to the sandbox this one was made from: it can be read
                                (follow, show) but neither joined nor driven */
    RECORDER_INPUT_GAP = 13, /* input beyond what was written so far */
    RECORDER_EXPIRED = 14,   /* its output was removed */
    RECORDER_NO_TERMINAL = 15, /* it has none to be resized */
    RECORDER_NEWER = 16,       /* it was recorded by a newer recorder, which this one cannot read */
    /* Of `file`: */
    RECORDER_FILE_NOT_FOUND = 17,
    RECORDER_NOT_A_FILE = 18,
    RECORDER_NOT_A_DIRECTORY = 19,
    RECORDER_FILE_EXISTS = 20,
    RECORDER_NOT_EMPTY = 21,    /* the directory, and it was not to be emptied */
    RECORDER_FORBIDDEN = 22,    /* by the system */
    RECORDER_NO_USER = 23,      /* of that name */
    RECORDER_BAD_PATH = 24,     /* one that cannot be, for what is asked */
    RECORDER_TOO_LARGE = 25,    /* more than the limit */
    RECORDER_OTHER_DEVICE = 26, /* a directory cannot be moved to another filesystem */
    RECORDER_BAD_TOKEN = 27,    /* none that this verb printed */
    RECORDER_FILE_CHANGED = 28, /* not the content that the precondition names */
    RECORDER_UPLOAD_GAP = 29,   /* bytes are missing */
    RECORDER_DIGEST = 30,       /* the content is not what its digest says */
    RECORDER_BAD_OFFSET = 31,   /* beyond the file's end */
    RECORDER_BAD_ARCHIVE = 35,  /* none, or one that could do harm */
    /* Of `dial`: */
    RECORDER_PORT_CLOSED = 32,     /* nothing listens there */
    RECORDER_UNREACHABLE = 33,     /* the address does not answer */
    RECORDER_CONNECTION_LOST = 34, /* it broke */
    /* 126 and 127 are the shell's: the recorder is not installed, or cannot run. */
};

/* What `list` shows of args and of env_names, each; in bytes. */
enum { RECORDER_LIST_ROOM = 4096 };

/*
 * What stands between a follower's frames, each a protobuf field of its own, so that the bytes stay
 * a valid message: a tag, then a varint.
 */
enum {
    FOLLOW_MARK_SEEN = 0x10, /* the last event considered, left out or not (last_seq) */
    FOLLOW_MARK_END = 0x78,  /* 1: the view is complete */
};
