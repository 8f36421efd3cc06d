/*
 * POST /files/compose: puts files together, in order, as one. It is written beside its place and
 * moved there when it is whole, and only then the parts are removed. Copying is done in turns: a
 * part may be large, and everybody else waits meanwhile.
 */
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/connect/json.h"
#include "common/http/body.h"
#include "runtime/local/agent/access.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/body.h"
#include "runtime/local/agent/files.h"
#include "runtime/local/agent/path.h"
#include "runtime/local/agent/reply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BODY_MAX = 8 << 20, TURN = 8 << 20, PIECE = 128 << 10, MESSAGE_SIZE = 8192 };

struct compose {
    struct agent *agent;     /* borrowed */
    struct http_exchange *x; /* borrowed */
    struct user user;
    char **sources; /* owned, and so are its strings */
    size_t n_sources;
    size_t at;         /* the source that is being copied */
    char *destination; /* owned */
    char *temporary;   /* owned; NULL: there is none (any more) */
    int in;            /* owned; -1: none is open */
    int out;           /* owned */
    struct loop_timer again;
};

static void compose_free(struct compose *c)
{
    loop_timer_cancel(&c->agent->loop, &c->again);
    if (c->temporary)
        unlink(c->temporary);
    cleanup_close(&c->in);
    cleanup_close(&c->out);
    for (size_t i = 0; i < c->n_sources; i++)
        free(c->sources[i]);
    free(c->sources);
    free(c->destination);
    free(c->temporary);
    free(c);
}

static void fail_with_errno(struct compose *c, const char *what, const char *path)
{
    int error = errno;

    if (error == ENOSPC || error == EDQUOT)
        reply_error(c->x, 507, "not enough disk space available");
    else
        reply_error(c->x, 500, "error %s %s: %s", what, path, strerror(error));
    compose_free(c);
}

static void answer(struct compose *c)
{
    AUTO(buf_deinit) struct buf json = BUF_INIT(BODY_MAX * 6);
    const char *name = strrchr(c->destination, '/') + 1;

    buf_append_str(&json, "{\"path\":");
    json_append_string(&json, c->destination, strlen(c->destination));
    buf_append_str(&json, ",\"name\":");
    json_append_string(&json, name, strlen(name));
    buf_append_str(&json, ",\"type\":\"file\"}");
    reply_json(c->x, 200, buf_str(&json), buf_len(&json));
    compose_free(c);
}

static void finish(struct compose *c)
{
    if (rename(c->temporary, c->destination) < 0) {
        fail_with_errno(c, "finalizing compose of", c->destination);
        return;
    }
    free(c->temporary);
    c->temporary = NULL;
    for (size_t i = 0; i < c->n_sources; i++)
        unlink(c->sources[i]);
    answer(c);
}

/* Bytes copied, 0 at the end of the source, -1 with errno. */
static ssize_t copy_some(struct compose *c)
{
    static uint8_t piece[PIECE];
    ssize_t n = copy_file_range(c->in, NULL, c->out, NULL, TURN, 0);

    if (n > 0)
        return n;
    /* Some file systems refuse, and some say 0 for files that have no size until they are read. */
    n = read(c->in, piece, sizeof(piece));
    return n > 0 && !fd_write_all(c->out, piece, (size_t)n) ? -1 : n;
}

static void step(struct loop_timer *timer)
{
    struct compose *c = container_of(timer, struct compose, again);
    ssize_t n = 1;

    for (size_t copied = 0; c->at < c->n_sources && copied < TURN; copied += (size_t)n) {
        if (c->in < 0)
            c->in = open(c->sources[c->at], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (c->in < 0 || (n = copy_some(c)) < 0) {
            fail_with_errno(c, "composing source", c->sources[c->at]);
            return;
        }
        if (n == 0) {
            close(take_fd(&c->in));
            c->at++;
        }
    }
    if (c->at == c->n_sources)
        finish(c);
    else
        loop_timer_after(&c->agent->loop, &c->again, 0);
}

static bool open_temporary(struct compose *c)
{
    static unsigned long n;

    do {
        free(c->temporary);
        c->temporary = xasprintf("%s.compose.%lu.tmp", c->destination, n++);
        c->out = open(c->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (c->out < 0 && errno == EEXIST);
    if (c->out >= 0)
        return path_own(c->out, &c->user) || errno == EPERM;
    free(c->temporary);
    c->temporary = NULL;
    return false;
}

static void on_gone(struct http_exchange *x)
{
    compose_free(http_user(x));
}

static void begin(struct compose *c)
{
    static const struct http_exchange_ops ops = {.gone = on_gone};

    if (!path_make_parents(c->destination, &c->user)) {
        fail_with_errno(c, "ensuring directories of", c->destination);
        return;
    }
    if (!open_temporary(c)) {
        fail_with_errno(c, "creating destination file", c->destination);
        return;
    }
    http_attach(c->x, &ops, c);
    step(&c->again);
}

/* ---- the request ---- */

/* Always false: answers, and the composition is over. */
static bool refuse(struct compose *c, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static bool refuse(struct compose *c, int status, const char *fmt, ...)
{
    char message[MESSAGE_SIZE];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    reply_error(c->x, status, "%s", message);
    compose_free(c);
    return false;
}

static bool add_source(struct compose *c, const char *source)
{
    struct status st = STATUS_INIT;
    char *path = path_resolve(source, &c->user, c->agent->config.workdir, &st);
    struct stat info;

    if (!path)
        return refuse(c, 400, "%s", st.message);
    c->sources[c->n_sources++] = path;
    if (strcmp(path, c->destination) == 0)
        return refuse(c, 400, "source path \"%s\" cannot be the same as destination", source);
    if (stat(path, &info) < 0)
        return refuse(c, 404, "source file not found: %s", source);
    if (!S_ISREG(info.st_mode))
        return refuse(c, 400, "source path is not a regular file: %s", source);
    return true;
}

static bool read_request(struct compose *c, json_object *body)
{
    json_object *sources = body_array(body, "source_paths");
    const char *destination = body_string(body, "destination");
    const char *name = body_string(body, "username");
    size_t n = sources ? json_object_array_length(sources) : 0;
    struct status st = STATUS_INIT;

    if (n == 0)
        return refuse(c, 400, "source_paths must not be empty");
    if (!destination || !*destination)
        return refuse(c, 400, "destination is required");
    if (!access_user(&c->agent->config, name ? name : c->agent->config.user, &c->user, &st))
        return refuse(c, 401, "%s", st.message);
    c->destination = path_resolve(destination, &c->user, c->agent->config.workdir, &st);
    if (!c->destination)
        return refuse(c, 400, "%s", st.message);
    c->sources = xcalloc(n, sizeof(char *));
    for (size_t i = 0; i < n; i++) {
        json_object *source = json_object_array_get_idx(sources, i);

        if (!json_object_is_type(source, json_type_string))
            return refuse(c, 400, "invalid request body: source_paths are strings");
        if (!add_source(c, json_object_get_string(source)))
            return false;
    }
    return true;
}

static void on_body(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len)
{
    struct compose *c = xcalloc(1, sizeof(*c));
    json_object *body = body_parse(data, len);

    *c = (struct compose){.agent = ctx, .x = x, .in = -1, .out = -1, .again.fire = step};
    if (!body)
        refuse(c, 400, "invalid request body: it is no JSON object");
    else if (read_request(c, body))
        begin(c);
    json_object_put(body);
}

void files_compose(struct agent *agent, struct http_exchange *x)
{
    http_collect(x, BODY_MAX, on_body, agent);
}
