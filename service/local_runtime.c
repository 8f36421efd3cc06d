/*
 * See local_runtime.h. The key travels in the environment, not in the arguments, which other users
 * of the machine can read. PDEATHSIG ends it when we are killed.
 */
#include "service/local_runtime.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <openssl/rand.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_TIMEOUT_MS = 30000, LOG_MAX = 256 * 1024 };

/* Beside this program, where an installation or a build puts it; else whatever PATH has. */
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

static void make_key(char key[LOCAL_KEY_LEN + 1])
{
    uint8_t random[20];

    if (RAND_bytes(random, sizeof(random)) != 1)
        abort();
    strcpy(key, "e2b_");
    for (size_t i = 0; i < sizeof(random); i++)
        sprintf(key + 4 + 2 * i, "%02x", random[i]);
}

/* In the child. */
static void run_program(const char *path, const char *key, const char *data_dir, int log_fd,
                        pid_t parent)
{
    sigset_t none;

    /* What we do with signals is not for it, nor for the sandboxes it makes. */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent ||
        setenv("E2B_LOCAL_API_KEY", key, 1) != 0 ||
        (data_dir != NULL && setenv("E2B_LOCAL_DATA_DIR", data_dir, 1) != 0) ||
        dup2(log_fd, STDERR_FILENO) < 0)
        _exit(126);
    /* A Ctrl-C at the terminal is ours to pass on, when our own calls have ended. */
    setpgid(0, 0);
    execlp(path, "e2b-local", "--listen=127.0.0.1:0", (char *)NULL);
    dprintf(STDERR_FILENO, "cannot run %s: %s\n", path, strerror(errno));
    _exit(127);
}

/* The value of "listen" when the line is the ready line. */
static bool is_ready_line(const char *line, char url[LOCAL_URL_MAX])
{
    json_object *o = json_tokener_parse(line), *msg, *listen;
    bool ready = json_object_object_get_ex(o, "msg", &msg) &&
                 json_object_object_get_ex(o, "listen", &listen) &&
                 strcmp(json_object_get_string(msg), "ready") == 0;

    if (ready)
        snprintf(url, LOCAL_URL_MAX, "http://%s", json_object_get_string(listen));
    json_object_put(o);
    return ready;
}

/* Looks at whole lines in log; the last other one is kept as the reason of a failure. */
static bool take_lines(struct buf *log, char *last, size_t last_size, char url[LOCAL_URL_MAX])
{
    char *end;

    while ((end = memchr(buf_data(log), '\n', buf_len(log))) != NULL) {
        size_t len = (size_t)(end - (char *)buf_data(log));

        *end = '\0';
        if (is_ready_line((const char *)buf_data(log), url)) {
            buf_consume(log, len + 1);
            return true;
        }
        snprintf(last, last_size, "%s", (const char *)buf_data(log));
        buf_consume(log, len + 1);
    }
    return false;
}

static bool wait_until_ready(struct local_runtime *r, struct status *st)
{
    AUTO(buf_deinit) struct buf log = BUF_INIT(LOG_MAX);
    struct pollfd fd = {.fd = r->log_fd, .events = POLLIN};
    char last[300] = "it said nothing";

    for (;;) {
        uint8_t *to = buf_reserve(&log, 4096);
        int ready = poll(&fd, 1, READY_TIMEOUT_MS);
        ssize_t n = ready > 0 && to != NULL ? read(r->log_fd, to, 4096) : -1;

        if (n <= 0)
            return status_set(st, CODE_UNAVAILABLE, 0, "e2b-local did not start: %s", last);
        buf_commit(&log, (size_t)n);
        if (take_lines(&log, last, sizeof(last), r->url))
            return true;
    }
}

bool local_runtime_start(struct local_runtime *r, const char *path, const char *data_dir,
                         struct status *st)
{
    AUTO_FREE char *found = path == NULL ? find_program() : xstrdup(path);
    pid_t parent = getpid();
    int fds[2];

    make_key(r->api_key);
    if (pipe2(fds, O_CLOEXEC) != 0)
        return status_set(st, CODE_INTERNAL, 0, "no pipe: %s", strerror(errno));
    r->pid = fork();
    if (r->pid == 0)
        run_program(found, r->api_key, data_dir, fds[1], parent);
    close(fds[1]);
    r->log_fd = fds[0];
    if (r->pid > 0 && wait_until_ready(r, st))
        return true;
    if (r->pid < 0)
        status_set(st, CODE_INTERNAL, 0, "cannot fork: %s", strerror(errno));
    else
        local_runtime_stop(r);
    return false;
}

void *local_runtime_relay(void *arg)
{
    struct local_runtime *r = arg;
    char bytes[4096];
    ssize_t n;

    while ((n = read(r->log_fd, bytes, sizeof(bytes))) > 0) {
        if (write(STDERR_FILENO, bytes, (size_t)n) < 0)
            break;
    }
    return NULL;
}

void local_runtime_stop(struct local_runtime *r)
{
    if (r->pid <= 0)
        return;
    kill(r->pid, SIGTERM);
    while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    r->pid = 0;
}
