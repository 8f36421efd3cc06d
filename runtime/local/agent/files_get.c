/*
 * GET /files. The head is made from one fstat(); the content follows as the client takes it. A file
 * that shrinks meanwhile cuts the response, which the client sees.
 */
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/files.h"
#include "runtime/local/agent/reply.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 128 << 10, PIECES_PER_ROUND = 8, SNIFFED = 512 };

struct download {
    struct http_exchange *x; /* borrowed */
    struct loop *loop;       /* borrowed */
    int fd;                  /* owned */
    int64_t left;            /* HTTP_LENGTH_UNKNOWN: to the end */
    struct loop_timer again; /* a turn for the others */
};

static void download_free(struct download *d)
{
    loop_timer_cancel(d->loop, &d->again);
    close(d->fd);
    free(d);
}

/* Sends until the client is slower, or it is another's turn. */
static void download_step(struct download *d)
{
    static uint8_t piece[PIECE];

    for (int i = 0; i < PIECES_PER_ROUND && d->left != 0; i++) {
        size_t wanted = d->left > 0 && d->left < PIECE ? (size_t)d->left : PIECE;
        ssize_t n = read(d->fd, piece, wanted);

        if (n == 0 && d->left == HTTP_LENGTH_UNKNOWN) {
            d->left = 0;
            break;
        }
        if (n <= 0) {
            http_abort(d->x);
            download_free(d);
            return;
        }
        if (d->left > 0)
            d->left -= n;
        if (!http_write(d->x, piece, (size_t)n))
            return; /* until writable() */
    }
    if (d->left != 0) {
        loop_timer_after(d->loop, &d->again, 0);
        return;
    }
    http_end(d->x);
    download_free(d);
}

static void on_again(struct loop_timer *timer)
{
    download_step(container_of(timer, struct download, again));
}

static void on_writable(struct http_exchange *x)
{
    download_step(http_user(x));
}

static void on_gone(struct http_exchange *x)
{
    download_free(http_user(x));
}

static const struct {
    const char *extension;
    const char *type;
} types[] = {
    {"css", "text/css; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"htm", "text/html; charset=utf-8"},
    {"html", "text/html; charset=utf-8"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"md", "text/markdown; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"txt", "text/plain; charset=utf-8"},
    {"wasm", "application/wasm"},
    {"webp", "image/webp"},
    {"xml", "text/xml; charset=utf-8"},
    {"zip", "application/zip"},
};

static const char *content_type(const char *path, int fd)
{
    const char *dot = strrchr(path, '.');
    uint8_t start[SNIFFED];
    ssize_t n;

    for (size_t i = 0; dot && i < sizeof(types) / sizeof(*types); i++)
        if (strcasecmp(dot + 1, types[i].extension) == 0)
            return types[i].type;
    n = pread(fd, start, sizeof(start), 0);
    if (n <= 0)
        return "text/plain; charset=utf-8";
    /* A character may be cut where we stopped looking. */
    for (int cut = 0; cut < 4 && n > cut; cut++)
        if (!memchr(start, '\0', (size_t)n) && utf8_is_valid(start, (size_t)(n - cut)))
            return "text/plain; charset=utf-8";
    return "application/octet-stream";
}

/* As RFC 2183 wants it: plain where possible, else percent-encoded. */
static void put_disposition(struct http_exchange *x, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    AUTO(buf_deinit) struct buf coded = BUF_INIT(4096);
    bool plain = true;

    for (const char *c = name; *c; c++) {
        bool safe = (*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') ||
                    (*c >= 'a' && *c <= 'z') || strchr("._-", *c);

        plain = plain && safe;
        buf_printf(&coded, safe ? "%c" : "%%%02X", (unsigned char)*c);
    }
    http_fieldf(x, "Content-Disposition",
                plain ? "inline; filename=%s" : "inline; filename*=utf-8''%s", buf_str(&coded));
}

static void put_date(struct http_exchange *x, const char *name, time_t time)
{
    char text[40];
    struct tm tm;

    if (gmtime_r(&time, &tm) && strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
        http_field(x, name, text);
}

static bool is_unchanged(const struct http_head *head, time_t modified)
{
    const char *since = http_header(head, "If-Modified-Since");
    struct tm tm = {0};

    return since && strptime(since, "%a, %d %b %Y %H:%M:%S GMT", &tm) && modified <= timegm(&tm);
}

/* Files of procfs and the like have no size until they are read. */
static bool has_no_size(int fd, const struct stat *info)
{
    struct statfs fs;

    return info->st_size == 0 && fstatfs(fd, &fs) == 0 &&
           (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC);
}

static void put_fields(struct http_exchange *x, const char *path, int fd, const struct stat *info)
{
    put_disposition(x, path);
    http_field(x, "Vary", "Accept-Encoding");
    http_field(x, "Content-Type", content_type(path, fd));
    http_field(x, "Accept-Ranges", "bytes");
    put_date(x, "Last-Modified", info->st_mtim.tv_sec);
}

/* Takes fd. */
static void send_file(struct agent *agent, struct http_exchange *x, const char *path, int fd,
                      const struct stat *info)
{
    static const struct http_exchange_ops ops = {.writable = on_writable, .gone = on_gone};
    struct range range = {0, has_no_size(fd, info) ? HTTP_LENGTH_UNKNOWN : info->st_size};
    enum range_result ranged = RANGE_NONE;
    struct download *d;

    if (range.len >= 0)
        ranged = range_parse(http_header(http_request(x), "Range"), info->st_size, &range);
    if (ranged == RANGE_IMPOSSIBLE) {
        reply_begin(x, 416);
        http_fieldf(x, "Content-Range", "bytes */%lld", (long long)info->st_size);
        http_start(x, 0);
        http_end(x);
        close(fd);
        return;
    }
    reply_begin(x, ranged == RANGE_ONE ? 206 : 200);
    put_fields(x, path, fd, info);
    if (ranged == RANGE_ONE)
        http_fieldf(x, "Content-Range", "bytes %lld-%lld/%lld", (long long)range.first,
                    (long long)(range.first + range.len - 1), (long long)info->st_size);
    http_start(x, range.len);
    lseek(fd, range.first, SEEK_SET);
    d = xcalloc(1, sizeof(*d));
    *d = (struct download){
        .x = x, .loop = &agent->loop, .fd = fd, .left = range.len, .again.fire = on_again};
    if (http_method_is(http_request(x), "HEAD"))
        d->left = 0;
    http_attach(x, &ops, d);
    download_step(d);
}

static void open_and_send(struct agent *agent, struct http_exchange *x, const char *path)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat info;

    if (fd < 0 || fstat(fd, &info) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            reply_error(x, 404, "path '%s' does not exist", path);
        else
            reply_error(x, 500, "error opening file '%s': %s", path, strerror(errno));
    } else if (S_ISDIR(info.st_mode)) {
        reply_error(x, 400, "path '%s' is a directory", path);
    } else if (!S_ISREG(info.st_mode)) {
        reply_error(x, 400, "path '%s' is no regular file", path);
    } else if (is_unchanged(http_request(x), info.st_mtim.tv_sec)) {
        reply_empty(x, 304);
    } else {
        send_file(agent, x, path, take_fd(&fd), &info);
    }
}

void files_get(struct agent *agent, struct http_exchange *x)
{
    struct files_request request;

    if (!files_begin(agent, x, "read", &request))
        return;
    if (!request.path)
        request.path = xstrdup(request.user.home);
    open_and_send(agent, x, request.path);
    free(request.path);
}
