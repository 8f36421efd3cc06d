/*
 * POST /files: one raw body, or a multipart form with a file in every part named "file". Bytes go
 * from the connection through gzip (when the request says so) and the multipart parser to the file
 * that is open at the moment; nothing is gathered.
 */
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/connect/json.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/entry.h"
#include "runtime/local/agent/files.h"
#include "runtime/local/agent/gzip.h"
#include "runtime/local/agent/multipart.h"
#include "runtime/local/agent/path.h"
#include "runtime/local/agent/reply.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    METADATA_KEY_MAX = 246,
    METADATA_SIZE_MAX = 4096,
    METADATA_OVERHEAD = 9, /* "user.e2b." */
    FILES_MAX = 10000,     /* in one request */
    ANSWER_MAX = 64 << 20,
};

struct upload {
    struct agent *agent;
    struct files_request request;
    bool is_form;
    bool is_gzip;
    struct multipart form;
    struct gzip gzip;
    int fd;       /* owned; -1: no file is open */
    char **paths; /* owned: the files of this request */
    size_t n_paths;
    struct metadata_pair metadata[ENTRY_METADATA_MAX];
    size_t n_metadata;
    int error; /* HTTP status; 0: none so far */
    char message[512];
};

static void upload_free(struct upload *u)
{
    if (u->fd >= 0)
        close(u->fd);
    multipart_deinit(&u->form);
    gzip_deinit(&u->gzip);
    for (size_t i = 0; i < u->n_paths; i++)
        free(u->paths[i]);
    free(u->paths);
    for (size_t i = 0; i < u->n_metadata; i++) {
        free(u->metadata[i].key);
        free(u->metadata[i].value);
    }
    free(u->request.path);
    free(u);
}

/* Always false. The first error is the one that is told. */
static bool fail(struct upload *u, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static bool fail(struct upload *u, int status, const char *fmt, ...)
{
    va_list args;

    if (u->error)
        return false;
    u->error = status;
    va_start(args, fmt);
    vsnprintf(u->message, sizeof(u->message), fmt, args);
    va_end(args);
    return false;
}

static bool fail_with_errno(struct upload *u, const char *what, const char *path)
{
    int error = errno;

    if (error == ENOSPC || error == EDQUOT)
        return fail(u, 507, "not enough disk space available: %s '%s'", what, path);
    return fail(u, 500, "error %s '%s': %s", what, path, strerror(error));
}

/* ---- files ---- */

static bool add_path(struct upload *u, char *path)
{
    for (size_t i = 0; i < u->n_paths; i++) {
        if (strcmp(u->paths[i], path) == 0) {
            fail(u, 400,
                 "you cannot upload multiple files to the same path '%s' in one upload "
                 "request, only the first specified file was uploaded",
                 path);
            free(path);
            return false;
        }
    }
    if (u->n_paths == FILES_MAX) {
        fail(u, 400, "more than %d files in one request", FILES_MAX);
        free(path);
        return false;
    }
    u->paths = xrealloc(u->paths, (u->n_paths + 1) * sizeof(*u->paths));
    u->paths[u->n_paths++] = path;
    return true;
}

/* In place: what was there is gone, its owner changes. Takes path. */
static bool open_file(struct upload *u, char *path)
{
    struct stat info;

    if (!add_path(u, path))
        return false;
    if (!path_make_parents(path, &u->request.user))
        return fail_with_errno(u, "creating the directories of", path);
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return fail(u, 400, "path is a directory: %s", path);
    u->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    if (u->fd < 0)
        return fail_with_errno(u, "opening file", path);
    if (!path_own(u->fd, &u->request.user) && errno != EPERM)
        return fail_with_errno(u, "changing the owner of", path);
    if (!entry_set_metadata(u->fd, u->metadata, u->n_metadata))
        return fail_with_errno(u, "writing the metadata of", path);
    return true;
}

static bool write_file(struct upload *u, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(u->fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_with_errno(u, "writing file", u->paths[u->n_paths - 1]);
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static void close_file(struct upload *u)
{
    if (u->fd >= 0)
        close(u->fd);
    u->fd = -1;
}

/* ---- the body ---- */

static bool begin_part(struct upload *u)
{
    struct status st = STATUS_INIT;
    char *path;

    if (!u->form.name || strcmp(u->form.name, "file") != 0)
        return true; /* not for us */
    if (u->request.path)
        return open_file(u, xstrdup(u->request.path));
    if (!u->form.filename || !*u->form.filename)
        return fail(u, 400, "a part named 'file' has no filename, and the query no path");
    path = path_resolve(u->form.filename, &u->request.user, u->agent->config.workdir, &st);
    return path ? open_file(u, path) : fail(u, 400, "%s", st.message);
}

/* What comes out of gzip, or right from the connection. */
static bool take_plain(void *ctx, const uint8_t *data, size_t len)
{
    struct upload *u = ctx;
    enum multipart_event event;
    const uint8_t *piece;
    size_t piece_len;

    if (!u->is_form)
        return write_file(u, data, len);
    while ((event = multipart_next(&u->form, &data, &len, &piece, &piece_len)) != MULTIPART_MORE) {
        switch (event) {
        case MULTIPART_PART:
            if (!begin_part(u))
                return false;
            break;
        case MULTIPART_DATA:
            if (u->fd >= 0 && !write_file(u, piece, piece_len))
                return false;
            break;
        case MULTIPART_END:
            close_file(u);
            break;
        case MULTIPART_ERROR:
            return fail(u, 500, "error reading form: malformed");
        case MULTIPART_DONE:
        case MULTIPART_MORE:
            break;
        }
    }
    return true;
}

static bool take_body(struct upload *u, const uint8_t *data, size_t len)
{
    if (!u->is_gzip)
        return take_plain(u, data, len);
    return gzip_next(&u->gzip, data, len, take_plain, u) || fail(u, 400, "the body is no gzip");
}

static bool check_end(struct upload *u)
{
    if (u->is_gzip && !gzip_is_complete(&u->gzip))
        return fail(u, 500, "the gzip body is cut");
    if (u->is_form && u->form.state != MULTIPART_IS_DONE)
        return fail(u, 500, "error reading form: unexpected EOF");
    return true;
}

/* ---- the answer ---- */

static void append_metadata(struct buf *json, const struct upload *u)
{
    buf_append_str(json, ",\"metadata\":{");
    for (size_t i = 0; i < u->n_metadata; i++) {
        if (i > 0)
            buf_append_byte(json, ',');
        json_append_string(json, u->metadata[i].key, strlen(u->metadata[i].key));
        buf_append_byte(json, ':');
        json_append_string(json, u->metadata[i].value, strlen(u->metadata[i].value));
    }
    buf_append_byte(json, '}');
}

static bool append_file(struct buf *json, const struct upload *u, const char *path)
{
    const char *name = strrchr(path, '/') + 1;

    buf_append_str(json, "{\"path\":");
    if (!json_append_string(json, path, strlen(path)))
        return false;
    buf_append_str(json, ",\"name\":");
    if (!json_append_string(json, name, strlen(name)))
        return false;
    buf_append_str(json, ",\"type\":\"file\"");
    if (u->n_metadata > 0)
        append_metadata(json, u);
    return buf_append_byte(json, '}');
}

static void answer(struct upload *u, struct http_exchange *x)
{
    AUTO(buf_deinit) struct buf json = BUF_INIT(ANSWER_MAX);

    buf_append_byte(&json, '[');
    for (size_t i = 0; i < u->n_paths && !u->error; i++) {
        if (i > 0)
            buf_append_byte(&json, ',');
        if (!append_file(&json, u, u->paths[i]))
            fail(u, 400, "the path of a file is no UTF-8");
    }
    buf_append_byte(&json, ']');
    if (u->error)
        reply_error(x, u->error, "%s", u->message);
    else
        reply_json(x, 200, buf_str(&json), buf_len(&json));
    upload_free(u);
}

static void on_body(struct http_exchange *x, const uint8_t *data, size_t len)
{
    struct upload *u = http_user(x);

    if (!take_body(u, data, len))
        answer(u, x);
}

static void on_body_end(struct http_exchange *x)
{
    struct upload *u = http_user(x);

    check_end(u);
    answer(u, x);
}

static void on_gone(struct http_exchange *x)
{
    upload_free(http_user(x));
}

/* ---- the head ---- */

static bool is_printable(const char *s)
{
    for (; *s; s++)
        if (*s < 0x20 || *s > 0x7e)
            return false;
    return true;
}

/* X-Metadata-<key>: <value>; of several with the same key the first. */
static bool read_metadata(struct upload *u, const struct http_head *head)
{
    static const char prefix[] = "X-Metadata-";
    size_t size = 0;

    for (size_t i = 0; i < head->n_headers; i++) {
        const char *key = head->headers[i].name + strlen(prefix);
        const char *value = head->headers[i].value;
        struct metadata_pair *pair = &u->metadata[u->n_metadata];
        bool seen = false;

        if (strncasecmp(head->headers[i].name, prefix, strlen(prefix)) != 0)
            continue;
        for (size_t j = 0; j < u->n_metadata; j++)
            seen = seen || strcasecmp(u->metadata[j].key, key) == 0;
        if (seen)
            continue;
        size += METADATA_OVERHEAD + strlen(key) + strlen(value);
        if (!*key || strlen(key) > METADATA_KEY_MAX || !is_printable(key) || !is_printable(value))
            return fail(u, 400,
                        "invalid metadata '%s': keys have 1 to %d characters, keys and values "
                        "are printable ASCII",
                        key, METADATA_KEY_MAX);
        if (size > METADATA_SIZE_MAX || u->n_metadata == ENTRY_METADATA_MAX)
            return fail(u, 400, "metadata is larger than %d bytes", METADATA_SIZE_MAX);
        pair->key = xstrdup(key);
        pair->value = xstrdup(value);
        for (char *c = pair->key; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        u->n_metadata++;
    }
    return true;
}

static bool read_encoding(struct upload *u, const struct http_head *head)
{
    const char *coding = http_header(head, "Content-Encoding");

    if (!coding || strcasecmp(coding, "identity") == 0)
        return true;
    if (strcasecmp(coding, "gzip") != 0)
        return fail(u, 400, "unsupported Content-Encoding: %s", coding);
    u->is_gzip = true;
    gzip_init(&u->gzip);
    return true;
}

static bool read_type(struct upload *u, const struct http_head *head)
{
    const char *type = http_header(head, "Content-Type");

    if (type && strncasecmp(type, "multipart/", 10) == 0) {
        u->is_form = true;
        return multipart_init(&u->form, type) ||
               fail(u, 500, "error parsing multipart form: no usable boundary");
    }
    if (!type || strncasecmp(type, "application/octet-stream", 24) != 0)
        return fail(u, 400,
                    "unsupported Content-Type: %s: multipart/form-data or "
                    "application/octet-stream are expected",
                    type ? type : "none");
    if (!u->request.path)
        return fail(u, 400, "a raw body needs the path in the query");
    return open_file(u, xstrdup(u->request.path));
}

void files_post(struct agent *agent, struct http_exchange *x)
{
    static const struct http_exchange_ops ops = {
        .body = on_body, .body_end = on_body_end, .gone = on_gone};
    const struct http_head *head = http_request(x);
    struct files_request request;
    struct upload *u;

    if (!files_begin(agent, x, "write", &request))
        return;
    u = xcalloc(1, sizeof(*u));
    u->agent = agent;
    u->request = request;
    u->fd = -1;
    if (read_encoding(u, head) && read_metadata(u, head) && read_type(u, head))
        http_attach(x, &ops, u);
    else
        answer(u, x);
}
