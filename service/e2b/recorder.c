/*
 * See recorder.h. The steps only move on in two callbacks, start_done and upload_done. Where root
 * is not to be had (envd does not know that user), everything is done once more in the home of the
 * template's user; that is remembered with the sandbox's address.
 */
#include "service/e2b/recorder.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHELL_CANNOT_RUN = 126,
    SHELL_NOT_FOUND = 127,
    ABANDONED_MS = 10000,
    ANSWER_MAX = 4608, /* a machine, a user's name and a path */
};

/*
 * Taken over whole and set up, or not at all: several pods may install at the same time. A process
 * that envd forked during the upload has the file open for writing until it runs its own program:
 * so long the file is busy (126).
 */
static const char install_script[] =
    "f=$1 t=$2 n=0; shift 2; chmod 0755 \"$f\" || exit; until \"$f\" setup \"$@\"; do c=$?; "
    "n=$((n + 1)); [ $c -eq 126 ] && [ $n -lt 20 ] || exit $c; sleep 0.05; done; "
    "mv -f \"$f\" \"$t\"";

/* A recorder of another version may have run commands. */
static const char look_script[] = "test -d \"$1/cmd\"";

/* Which program fits; as the template's user, who that is and where its commands start. */
static const char ask_script[] = "uname -m && id -un && pwd";

/* Not part of the run itself: most never upload, and there may be thousands of them. */
struct recorder_upload {
    struct exchange exchange;
    struct transfer_piece piece;
    struct recorder_run *run;
};

static void next_step(struct recorder_run *run);
static void upload_done(struct exchange *x);

/* --- where things are --- */

static const char *state_dir(const struct recorder_run *run)
{
    return run->no_root ? RECORDER_HOME_STATE : RECORDER_ROOT_STATE;
}

/* Relative paths start there. */
static const char *cwd(const struct recorder_run *run)
{
    return run->no_root ? "~" : "/";
}

static char *program_path(const struct recorder_run *run)
{
    return xasprintf("%s/bin/%s", state_dir(run), run->request->e2b->recorder_name);
}

static char *program_upload_path(const struct recorder_run *run)
{
    return xasprintf("%s/bin/.upload-%s", state_dir(run), run->nonce);
}

static char *spec_path(const struct recorder_run *run)
{
    return xasprintf("%s/spec/%s", state_dir(run), run->nonce);
}

static void remember(struct recorder_run *run, bool has_recorder)
{
    run->has_recorder = has_recorder;
    address_note_recorder(run->request->e2b->addresses, run->request->scope->name, run->sandbox_id,
                          has_recorder, run->no_root);
}

static void drop_upload(struct recorder_run *run)
{
    if (run->upload != NULL)
        exchange_deinit(&run->upload->exchange);
}

/* --- ends --- */

static void end(struct recorder_run *run, const struct verdict *v)
{
    recorder_stop(run);
    run->done(run, v);
}

/* A step before the verb's own ended badly. */
static void fail_install(struct recorder_run *run)
{
    struct verdict v = VERDICT_INIT;
    struct e2b_output out;

    recorder_output(run, &out);
    status_set(&v.st, CODE_INTERNAL, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INTERNAL,
               "the recorder cannot be set up in the sandbox: exit code %d, %s", out.exit_code,
               out.err[0] != '\0' ? out.err : "without a word");
    end(run, &v);
}

/* --- what RECORDER_ASK printed --- */

enum { MACHINE_LINE, USER_LINE, CWD_LINE };

/* Owned by the caller. */
static char *answer_line(struct recorder_run *run, int line)
{
    const char *at = buf_str(&run->answer);

    while (line-- > 0)
        at += strcspn(at, "\n") + (at[strcspn(at, "\n")] == '\n');
    return xstrndup(at, strcspn(at, "\n"));
}

/* False: there is none for the sandbox's machine, and the run has ended. */
static bool choose_program(struct recorder_run *run)
{
    const struct e2b_recorder *all = run->request->e2b->config.recorders;
    AUTO_FREE char *machine = answer_line(run, MACHINE_LINE);
    struct verdict v = VERDICT_INIT;

    for (int i = 0; i < E2B_RECORDERS && all[i].machine != NULL; i++) {
        if (strcmp(all[i].machine, machine) == 0) {
            run->program = &all[i];
            return true;
        }
    }
    utf8_sanitize(machine);
    status_set(&v.st, CODE_UNIMPLEMENTED, SANDBOX__V1__ERROR_REASON__ERROR_REASON_UNSUPPORTED,
               "there is no recorder for the sandbox's machine, which is %s", machine);
    end(run, &v);
    return false;
}

/* --- once more --- */

static void run_timer(struct loop_timer *timer)
{
    next_step(container_of(timer, struct recorder_run, timer));
}

/* What was heard so far is void: it will be said again. */
static void restart(struct start *s)
{
    struct recorder_run *run = container_of(s, struct recorder_run, start);

    if (run->step == RECORDER_ASK)
        buf_clear(&run->answer); /* or two answers stand behind each other */
    else if (run->restart != NULL)
        run->restart(run);
}

static void fail_or_retry(struct recorder_run *run, const struct verdict *v)
{
    struct request *r = run->request;
    int64_t at_ns;

    if (v->remedy == REMEDY_USER && !run->no_root) {
        restart(&run->start);
        run->no_root = true;
        run->has_recorder = false;
        start_deinit(&run->start);
        drop_upload(run);
        run->looked = false;
        run->step = run->spec != NULL ? RECORDER_PROBE : RECORDER_VERB;
        next_step(run);
        return;
    }
    /* Without a spec the exchange has retried already, and where nothing was carried out too. */
    if (run->step == RECORDER_VERB && run->spec != NULL && v->again == AGAIN_IF_SAFE &&
        retry_next(&run->retry, v->again, run->idempotent && !run->committed, v->told_ms,
                   clock_monotonic_ns(), r->deadline_ns, loop_random(r->loop), &at_ns)) {
        start_deinit(&run->start);
        drop_upload(run);
        restart(&run->start);
        loop_timer_start(r->loop, &run->timer, at_ns);
        return;
    }
    end(run, v);
}

/* --- starts --- */

static bool has_room(struct start *s)
{
    struct recorder_run *run = container_of(s, struct recorder_run, start);

    return run->has_room(run);
}

static void on_stdout(struct start *s, const uint8_t *data, size_t len)
{
    struct recorder_run *run = container_of(s, struct recorder_run, start);

    if (run->step == RECORDER_VERB) {
        run->on_stdout(run, data, len);
    } else if (run->step == RECORDER_ASK) {
        buf_append(&run->answer, data, len); /* what is too long is no user and no directory */
    }
}

static void start_done(struct start *s)
{
    struct recorder_run *run = container_of(s, struct recorder_run, start);
    int code = s->process.exit_code;
    bool missing = code == SHELL_NOT_FOUND || code == SHELL_CANNOT_RUN;
    struct verdict v = s->exchange.verdict;

    if (v.st.code != CODE_OK) {
        fail_or_retry(run, &v);
        return;
    }
    if (run->step == RECORDER_VERB && !missing) {
        if (!run->has_recorder)
            remember(run, true);
        end(run, &v);
        return;
    }
    if (run->step == RECORDER_LOOK && code != 0) {
        end(run, &v); /* no recorder, and nothing recorded: the exit code says so */
        return;
    }
    if (run->step == RECORDER_VERB && missing && run->only_look && !run->installed &&
        !run->looked) {
        run->looked = true;
        run->step = RECORDER_LOOK;
    } else if (run->step == RECORDER_LOOK ||
               (missing && !run->installed && run->step != RECORDER_ASK)) {
        remember(run, false);
        run->step = RECORDER_ASK;
    } else if (run->step == RECORDER_ASK && code == 0) {
        if (!choose_program(run))
            return;
        run->step = RECORDER_UPLOAD;
    } else if (code == 0) {
        remember(run, true);
        run->step = RECORDER_VERB;
    } else {
        fail_install(run);
        return;
    }
    next_step(run);
}

static void start_as(struct recorder_run *run, const char *user, const char *dir,
                     const char *const *argv, int64_t lease_ms, bool safe)
{
    struct start *s = &run->start;

    start_deinit(s);
    *s = (struct start){
        .request = run->request,
        .sandbox_id = run->sandbox_id,
        .argv = argv,
        .cwd = dir,
        .user = user,
        .with_stdin = run->with_stdin && run->step == RECORDER_VERB,
        .lease_ms = lease_ms,
        .safe = safe,
        .has_room = run->has_room != NULL ? has_room : NULL,
        .on_stdout = on_stdout,
        .restart = restart,
        .done = start_done,
    };
    start_begin(s);
}

static void start(struct recorder_run *run, const char *const *argv, int64_t lease_ms, bool safe)
{
    start_as(run, run->no_root ? NULL : "root", cwd(run), argv, lease_ms, safe);
}

/* --- uploads --- */

static void upload(struct recorder_run *run, const char *path, const uint8_t *data, size_t len)
{
    AUTO_FREE char *escaped = url_escape(path);
    struct exchange *x;

    if (run->upload == NULL)
        run->upload = xcalloc(1, sizeof *run->upload);
    drop_upload(run);
    run->upload->run = run;
    run->upload->piece = (struct transfer_piece){data, len};
    x = &run->upload->exchange;
    *x = (struct exchange){
        .request = run->request,
        .method = "POST",
        .path = xasprintf("/files?path=%s%s", escaped, run->no_root ? "" : "&username=root"),
        .sandbox_id = xstrdup(run->sandbox_id),
        .source = SOURCE_FILES,
        .pieces = &run->upload->piece,
        .n_pieces = 1,
        .content_type = "application/octet-stream",
        .timeout_ms = run->request->e2b->config.request_timeout_ms,
        .safe = true,
        .bulk = len > 64 * 1024,
        .done = upload_done,
    };
    exchange_start(x);
}

static void upload_done(struct exchange *x)
{
    struct recorder_run *run = container_of(x, struct recorder_upload, exchange)->run;
    struct verdict v = x->verdict;

    if (v.st.code != CODE_OK) {
        fail_or_retry(run, &v);
    } else if (run->step == RECORDER_UPLOAD) {
        run->step = RECORDER_SETUP;
        next_step(run);
    }
}

/* --- steps --- */

static void ask(struct recorder_run *run)
{
    const char *argv[] = {"/bin/sh", "-c", ask_script, NULL};

    buf_deinit(&run->answer);
    buf_init(&run->answer, ANSWER_MAX);
    start_as(run, NULL, NULL, argv, run->request->e2b->config.request_timeout_ms, true);
}

static void setup(struct recorder_run *run)
{
    AUTO_FREE char *from = program_upload_path(run);
    AUTO_FREE char *to = program_path(run);
    AUTO_FREE char *own_user = answer_line(run, USER_LINE), *own_dir = answer_line(run, CWD_LINE);
    AUTO_FREE char *user = xasprintf("--default-user=%s", own_user);
    AUTO_FREE char *dir = xasprintf("--default-cwd=%s", own_dir);
    const char *argv[] = {"/bin/sh", "-c", install_script, "sh", from, to, user, dir, NULL};

    buf_deinit(&run->answer);
    if (run->no_root)
        argv[6] = NULL; /* everything is the one user's */
    run->installed = true;
    start(run, argv, run->request->e2b->config.request_timeout_ms, true);
}

static void look(struct recorder_run *run)
{
    const char *argv[] = {"/bin/sh", "-c", look_script, "sh", state_dir(run), NULL};

    start(run, argv, run->request->e2b->config.request_timeout_ms, true);
}

static void probe(struct recorder_run *run)
{
    AUTO_FREE char *program = program_path(run);
    const char *argv[] = {program, "setup", NULL};

    start(run, argv, run->request->e2b->config.request_timeout_ms, true);
}

static void verb(struct recorder_run *run)
{
    AUTO_FREE char *program = program_path(run);
    AUTO_FREE char *spec = spec_path(run);
    AUTO_FREE char *option = xasprintf("--spec=%s", spec);
    AUTO_FREE const char **argv = NULL;
    size_t n = 0;

    while (run->args[n] != NULL)
        n++;
    argv = xcalloc(n + 3, sizeof *argv);
    argv[0] = program;
    memcpy(argv + 1, run->args, n * sizeof *argv);
    if (run->spec != NULL)
        argv[n + 1] = option;
    /* A second Start would wait for a spec that the first one took: that retry is ours. */
    start(run, argv, run->lease_ms, run->idempotent && run->spec == NULL);
    if (run->spec != NULL)
        upload(run, spec, run->spec, run->spec_len);
}

static void next_step(struct recorder_run *run)
{
    if (run->step != RECORDER_SETUP) /* which takes what the upload before it named */
        e2b_nonce(run->request->loop, run->nonce);
    switch (run->step) {
    case RECORDER_LOOK:
        look(run);
        break;
    case RECORDER_PROBE:
        probe(run);
        break;
    case RECORDER_ASK:
        ask(run);
        break;
    case RECORDER_UPLOAD: {
        AUTO_FREE char *path = program_upload_path(run);

        upload(run, path, run->program->program, run->program->len);
        break;
    }
    case RECORDER_SETUP:
        setup(run);
        break;
    case RECORDER_VERB:
        verb(run);
        break;
    }
}

void recorder_init(struct recorder_run *run, struct request *request, const char *sandbox_id,
                   const char *const *args, const uint8_t *spec, size_t spec_len)
{
    size_t n = 0;

    while (args[n] != NULL)
        n++;
    *run = (struct recorder_run){.request = request};
    run->args = xcalloc(n + 1, sizeof *run->args);
    for (size_t i = 0; i < n; i++)
        run->args[i] = xstrdup(args[i]);
    run->sandbox_id = xstrdup(sandbox_id);
    run->spec = spec != NULL ? xmemdup(spec, spec_len) : NULL;
    run->spec_len = spec_len;
    run->timer.run = run_timer;
}

void recorder_begin(struct recorder_run *run)
{
    struct address a;

    if (address_lookup(run->request->e2b->addresses, run->request->scope->name, run->sandbox_id,
                       clock_monotonic_ns(), &a)) {
        run->has_recorder = a.has_recorder;
        run->no_root = a.no_root;
        address_deinit(&a);
    }
    run->step = run->spec != NULL && !run->has_recorder ? RECORDER_PROBE : RECORDER_VERB;
    next_step(run);
}

bool recorder_abort(struct recorder_run *run, const struct status *st)
{
    struct request *r = run->request;

    if (run->step == RECORDER_VERB && r->op != NULL && start_is_in_doubt(&run->start)) {
        drop_upload(run);
        start_abandon(&run->start);
        request_let_go(r, st, ABANDONED_MS);
        return true;
    }
    recorder_stop(run);
    return false;
}

void recorder_output(const struct recorder_run *run, struct e2b_output *ret)
{
    const struct process *p = &run->start.process;
    size_t len = p->err_len < sizeof ret->err ? p->err_len : sizeof ret->err - 1;

    *ret = (struct e2b_output){.exit_code = p->exit_code};
    memcpy(ret->err, p->err + p->err_len - len, len);
    while (len > 0 && (ret->err[len - 1] == '\n' || ret->err[len - 1] == '\0'))
        len--;
    ret->err[len] = '\0';
    utf8_sanitize(ret->err);
}

void recorder_stop(struct recorder_run *run)
{
    loop_timer_stop(run->request->loop, &run->timer);
    start_deinit(&run->start);
    drop_upload(run);
}

void recorder_deinit(struct recorder_run *run)
{
    free(run->upload);
    for (size_t i = 0; run->args[i] != NULL; i++)
        free(run->args[i]);
    free(run->args);
    free(run->sandbox_id);
    if (run->spec != NULL)
        explicit_bzero(run->spec, run->spec_len); /* it holds secrets */
    free(run->spec);
    buf_deinit(&run->answer);
}
