/*
 * See local_runtime.h. Called by main; one thread passes on what the runtime logs. The key travels
 * in the environment, not in the arguments, which other users of the machine can read. When we are
 * killed, the kernel tells the runtime (PDEATHSIG), and it ends its sandboxes.
 */
#include "service/local_runtime.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    READY_TIMEOUT_MS = 30 * 1000,
    STOP_TIMEOUT_MS = 15 * 1000,
    READ_MAX = 4096,
    LINE_MAX_BYTES = 64 * 1024, /* of its log: longer lines are cut in two */
    EXIT_NOT_RUN = 127,
};

/* --- its log --- */

static void copy_text(json_object *o, const char *key, const char *before, char *to, size_t size)
{
    json_object *text;

    if (json_object_object_get_ex(o, key, &text) && json_object_is_type(text, json_type_string))
        snprintf(to, size, "%s%s", before, json_object_get_string(text));
}

/* Whether the line says that the runtime is ready; then what else it says is kept. */
static bool take_ready_line(struct local_runtime *r, const char *line)
{
    json_object *o = json_tokener_parse(line);
    char msg[16] = "";

    copy_text(o, "msg", "", msg, sizeof(msg));
    if (strcmp(msg, "ready") == 0) {
        copy_text(o, "listen", "http://", r->url, sizeof(r->url));
        copy_text(o, "isolation", "", r->isolation, sizeof(r->isolation));
        r->ready = true;
    }
    json_object_put(o);
    return r->ready;
}

/* Whole lines go on, so that they do not mix with ours; but not the ready line: there is one. */
static void take_lines(struct local_runtime *r)
{
    uint8_t *end;

    while (buf_len(&r->log) > 0 && (end = memchr(buf_data(&r->log), '\n', buf_len(&r->log)))) {
        uint8_t *line = buf_data(&r->log);
        size_t len = (size_t)(end - line) + 1;

        *end = '\0';
        if (r->ready || !take_ready_line(r, (const char *)line)) {
            *end = '\n';
            fd_write_all(STDERR_FILENO, line, len);
        }
        buf_consume(&r->log, len);
    }
}

/* Reads what there is. False at the end. */
static bool read_log(struct local_runtime *r)
{
    uint8_t *to = buf_reserve(&r->log, READ_MAX);
    ssize_t n;

    if (to == NULL) {
        fd_write_all(STDERR_FILENO, buf_data(&r->log), buf_len(&r->log));
        buf_clear(&r->log);
        to = buf_reserve(&r->log, READ_MAX);
    }
    n = read(r->log_fd, to, READ_MAX);
    if (n <= 0)
        return n < 0 && errno == EINTR;
    buf_commit(&r->log, (size_t)n);
    take_lines(r);
    return true;
}

/* Waits for the log or for the end. The log goes first: it says why it ended. False: no more log.
 * The pipe's end alone would not do: what the runtime left behind may hold it open. */
static bool wait_for_log(struct local_runtime *r, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = r->log_fd, .events = POLLIN}, {.fd = r->pidfd, .events = POLLIN}};

    return poll(fds, 2, timeout_ms) > 0 && fds[0].revents != 0;
}

static void *relay_main(void *arg)
{
    struct local_runtime *r = arg;

    pthread_setname_np(pthread_self(), "local-log");
    while (wait_for_log(r, -1) && read_log(r))
        ;
    return NULL;
}

/* --- starting --- */

/* Beside this program, where an installation or the build puts it; else what PATH has. */
static char *find_program(void)
{
    static const char *const places[] = {"e2b-local", "../runtime/local/e2b-local"};
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (len > 0) {
        self[len] = '\0';
        *(strrchr(self, '/') + 1) = '\0';
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            AUTO_FREE char *path = xasprintf("%s%s", self, places[i]);

            if (access(path, X_OK) == 0)
                return TAKE(path);
        }
    }
    return xstrdup("e2b-local");
}

static bool make_key(char key[LOCAL_KEY_LEN + 1], struct status *st)
{
    uint8_t random[(LOCAL_KEY_LEN - 4) / 2];

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return status_set(st, CODE_INTERNAL, 0, "no random numbers: %s", strerror(errno));
    strcpy(key, "e2b_");
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(key + 4 + 2 * i, 3, "%02x", random[i]);
    return true;
}

/* The child's half. */
static _Noreturn void run_program(const char *path, const char *key, const char *data_dir,
                                  int log_fd, pid_t parent)
{
    sigset_t none;

    /* What we do with signals is not for it, nor for the sandboxes it makes. */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    /* A Ctrl-C at the terminal is ours to pass on, when our own calls have ended. */
    setpgid(0, 0);
    /* Asking for the parent after PDEATHSIG is set: it may have ended before. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent ||
        setenv("E2B_LOCAL_API_KEY", key, 1) != 0 ||
        (data_dir != NULL && setenv("E2B_LOCAL_DATA_DIR", data_dir, 1) != 0) ||
        dup2(log_fd, STDERR_FILENO) < 0)
        _exit(EXIT_FAILURE);
    execlp(path, "e2b-local", "--listen=127.0.0.1:0", (char *)NULL);
    _exit(EXIT_NOT_RUN);
}

static bool spawn(struct local_runtime *r, const char *path, const char *data_dir,
                  struct status *st)
{
    pid_t parent = getpid();
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        return status_set(st, CODE_INTERNAL, 0, "no pipe: %s", strerror(errno));
    r->pid = fork();
    if (r->pid == 0)
        run_program(path, r->api_key, data_dir, fds[1], parent);
    close(fds[1]);
    r->log_fd = fds[0];
    if (r->pid < 0) {
        r->pid = 0;
        return status_set(st, CODE_INTERNAL, 0, "cannot fork: %s", strerror(errno));
    }
    r->pidfd = pidfd_open(r->pid, 0);
    return r->pidfd >= 0 || status_set(st, CODE_INTERNAL, 0, "no pidfd: %s", strerror(errno));
}

static bool wait_until_ready(struct local_runtime *r, const char *path, struct status *st)
{
    int64_t end_ns = clock_monotonic_ns() + READY_TIMEOUT_MS * NS_PER_MS;
    siginfo_t info = {0};

    while (!r->ready) {
        int64_t left_ms = (end_ns - clock_monotonic_ns()) / NS_PER_MS;

        if (!wait_for_log(r, left_ms > 0 ? (int)left_ms : 0) || !read_log(r))
            break;
    }
    if (r->ready)
        return true;
    /* Its log may end a moment before it does. */
    poll(&(struct pollfd){.fd = r->pidfd, .events = POLLIN}, 1, 1000);
    if (waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_code == CLD_EXITED && info.si_status == EXIT_NOT_RUN)
        return status_set(st, CODE_UNAVAILABLE, 0,
                          "cannot run %s: name the local runtime's program with --local-runtime",
                          path);
    return status_set(st, CODE_UNAVAILABLE, 0,
                      "the local runtime (%s) %s ready; what it logged says why", path,
                      info.si_pid != 0 ? "ended before it was" : "did not become");
}

bool local_runtime_start(struct local_runtime *r, const char *path, const char *data_dir,
                         struct status *st)
{
    AUTO_FREE char *program = path == NULL ? find_program() : xstrdup(path);
    int error;

    buf_init(&r->log, LINE_MAX_BYTES);
    if (!make_key(r->api_key, st) || !spawn(r, program, data_dir, st) ||
        !wait_until_ready(r, program, st))
        return false;
    error = pthread_create(&r->relay, NULL, relay_main, r);
    r->relaying = error == 0;
    return r->relaying ||
           status_set(st, CODE_INTERNAL, 0, "cannot start a thread: %s", strerror(error));
}

/* --- stopping --- */

static void end_process(struct local_runtime *r)
{
    struct pollfd end = {.fd = r->pidfd, .events = POLLIN};

    kill(r->pid, SIGTERM);
    if (r->pidfd < 0 || poll(&end, 1, STOP_TIMEOUT_MS) == 0)
        kill(r->pid, SIGKILL);
    /* The relay sees the end by the pidfd, which stays readable after this. */
    while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    r->pid = 0;
}

void local_runtime_stop(struct local_runtime *r)
{
    if (r->pid > 0)
        end_process(r);
    if (r->relaying)
        pthread_join(r->relay, NULL);
    r->relaying = false;
    if (r->log_fd >= 0)
        close(take_fd(&r->log_fd));
    if (r->pidfd >= 0)
        close(take_fd(&r->pidfd));
    buf_deinit(&r->log);
}
