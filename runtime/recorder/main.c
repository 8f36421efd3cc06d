/*
 * recorder: runs commands in a sandbox, keeps what they write, and lets any number of readers
 * follow. One short-lived process per verb; see common/journal/verbs.h, which is the contract.
 */
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
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
#include "runtime/recorder/notice.h"
#include "runtime/recorder/place.h"
#include "runtime/recorder/ports.h"
#include "runtime/recorder/request.h"
#include "runtime/recorder/retention.h"
#include "runtime/recorder/show.h"
#include "runtime/recorder/wait.h"
#include "runtime/recorder/watch.h"
#include "runtime/recorder/writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#ifdef __GLIBC__
#include <nss.h>
#endif

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

/* A watch of a directory is a command too: this program, with the verb `notice`. */
static bool fill_in_watch(const struct state *s, struct command_spec *spec, struct status *st)
{
    AUTO(place_deinit) struct place place = {.home = NULL};
    AUTO_CLOSE int known = -1;
    AUTO_FREE char *path = NULL;
    struct stat info;
    struct status ignored;

    if (!place_init(&place, s, spec->meta.user, st) ||
        !place_resolve(&place, spec->watch_path, &path, st))
        return false;
    /* One that exists can be read to its end when its directory is gone. */
    if (!state_open_command(s, spec->meta.command_id, &known, &ignored)) {
        if (stat(path, &info) != 0)
            return place_fault(st, path);
        if (!S_ISDIR(info.st_mode)) {
            errno = ENOTDIR;
            return place_fault(st, path);
        }
    }
    free(spec->meta.user);
    spec->meta.user = command_own_user();
    strings_add(&spec->meta.args, "/proc/self/exe", strlen("/proc/self/exe"));
    strings_add(&spec->meta.args, "notice", strlen("notice"));
    if (spec->watch_recursive)
        strings_add(&spec->meta.args, "--recursive", strlen("--recursive"));

    AUTO_FREE char *option = xasprintf("--path=%s", path);

    strings_add(&spec->meta.args, option, strlen(option));
    return true;
}

/* Starts the command, or finds it. *ret_dir is its directory. */
static bool claim_and_start(const struct state *s, const struct request *r, int *ret_dir,
                            struct status *st)
{
    AUTO(command_spec_deinit) struct command_spec spec = {.grace_ms = 0};
    AUTO(claim_deinit) struct claim claim = CLAIM_INIT;

    if (!spec_read_command(r->spec, &spec, st))
        return false;
    if (spec.watch_path != NULL && !fill_in_watch(s, &spec, st))
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

static bool do_notice(const struct state *s, const struct request *r, struct status *st)
{
    if (r->path == NULL)
        return fault(st, RECORDER_USAGE, "notice needs --path=DIR");
    return notice(r->path, r->recursive, st);
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
    const char *summary;
};

static const struct verb verbs[] = {
    {"setup", do_setup, 0, "make the state directory"},
    {"run", do_run, NEEDS_SPEC, "start the command of --spec unless its id exists, and follow it"},
    {"follow", do_follow, NEEDS_ID, "write the events of --id to stdout, from --from on"},
    {"watch", do_watch, NEEDS_SPEC,
     "write the events of all commands to stdout, from the cursor of --spec on"},
    {"input", drive_input, NEEDS_ID | NEEDS_SPEC, "write the input of --spec to the stdin of --id"},
    {"signal", drive_signal, NEEDS_ID | NEEDS_SIGNAL, "send --signal to the --target of --id"},
    {"resize", drive_resize, NEEDS_ID | NEEDS_SIZE, "give the terminal of --id another size"},
    {"ack", drive_ack, NEEDS_ID | NEEDS_SEQ, "acknowledge the events of --id up to --seq"},
    {"show", do_show, NEEDS_ID, "print what is known of --id, as a sandbox.v1.Command"},
    {"list", do_list, 0, "the same for all commands, oldest first"},
    {"wait", do_wait, NEEDS_ID, "wait for the end of --id, then show it"},
    {"prune", do_prune, 0, "remove the output of closed commands, the oldest first"},
    {"file", file_verb, 0, "do what --request or --spec says to files, and print the answer"},
    {"ports", do_ports, 0, "print what listens, as a sandbox.v1.ListPortsResponse"},
    {"dial", do_dial, NEEDS_NO_STATE, "carry stdin and stdout to and from --port"},
    {"notice", do_notice, NEEDS_NO_STATE, "write what changes in the directory --path to stdout"},
    {"version", do_version, NEEDS_NO_STATE, "print the version, and that of the journal"},
};

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
    if ((v->needs & NEEDS_NO_STATE) == 0 && !state_open(&s, r->state, r->watches, st))
        return false;
    return v->run(&s, r, st);
}

static int failed(const struct status *st)
{
    fprintf(stderr, "%s\n", st->message);
    return st->reason != 0 ? st->reason : RECORDER_USAGE;
}

/*
 * Users and groups are those of /etc, as they are with musl anyway: glibc would load the sandbox's
 * own name services into this program, which is static and of another version.
 */
static void look_up_in_files(void)
{
#ifdef __GLIBC__
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
    __nss_configure_lookup("initgroups", "files");
#endif
}

static const struct verb *find_verb(const char *word)
{
    for (size_t i = 0; word != NULL && i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(word, verbs[i].name) == 0)
            return &verbs[i];
    return NULL;
}

static const char *describe_verbs(struct buf *to)
{
    buf_append_str(to, "Verbs:\n");
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        buf_printf(to, "  %-7s  %s\n", verbs[i].name, verbs[i].summary);
    return buf_str(to);
}

int main(int argc, char **argv)
{
    AUTO(buf_deinit) struct buf help = BUF_INIT(4096);
    const struct verb *verb = find_verb(argc > 1 ? argv[1] : NULL);
    const struct request *r;
    struct status st = STATUS_INIT;
    int args = 0;

    umask(0077);
    look_up_in_files();
    if (verb != NULL) {
        argc--;
        argv++;
    }
    switch (request_parse(argc, argv, describe_verbs(&help), &r, &args, &st)) {
    case OPTIONS_DONE:
        return RECORDER_OK;
    case OPTIONS_ERROR:
        return failed(&st);
    case OPTIONS_RUN:
        break;
    }
    if (verb == NULL || argv[args] != NULL) {
        status_set(&st, CODE_INVALID_ARGUMENT, 0, "%s is no verb; see recorder --help",
                   argv[args] != NULL ? argv[args] : "nothing");
        return failed(&st);
    }
    if (!run_verb(verb, r, &st))
        return failed(&st);
    return fflush(stdout) == 0 ? RECORDER_OK : RECORDER_INTERNAL;
}
