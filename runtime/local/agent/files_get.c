/*
 * GET /files. The head is made from one fstat(); the content follows as the client takes it. A file
 * that shrinks meanwhile cuts the response, which the client sees.
 */
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/content_type.h"
#include "runtime/local/agent/encoding.h"
#include "runtime/local/agent/files.h"
#include "runtime/local/agent/gzip.h"
#include "runtime/local/agent/reply.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 128 << 10, PIECES_PER_ROUND = 8 };

struct download {
    struct http_exchange *x; /* borrowed */
    struct loop *loop;       /* borrowed */
    int fd;                  /* owned */
    int64_t left;            /* HTTP_LENGTH_UNKNOWN: to the end */
    bool compressed;
    bool full; /* the client is slower */
    struct gzip_out gzip;
    struct loop_timer again; /* a turn for the others */
};

static void download_free(struct download *d)
{
    loop_timer_cancel(d->loop, &d->again);
    gzip_out_deinit(&d->gzip);
    close(d->fd);
    free(d);
}

static void on_compressed(void *ctx, const uint8_t *data, size_t len)
{
    struct download *d = ctx;

    d->full = !http_write(d->x, data, len);
}

static void send_piece(struct download *d, const uint8_t *data, size_t len)
{
    d->full = false;
    if (d->compressed)
        gzip_out_next(&d->gzip, data, len, false, on_compressed, d);
    else
        d->full = !http_write(d->x, data, len);
}

static void download_end(struct download *d)
{
    if (d->compressed)
        gzip_out_next(&d->gzip, NULL, 0, true, on_compressed, d);
    http_end(d->x);
    download_free(d);
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
        send_piece(d, piece, (size_t)n);
        if (d->full)
            return; /* until writable() */
    }
    if (d->left == 0)
        download_end(d);
    else
        loop_timer_after(d->loop, &d->again, 0);
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

/* The head is written; sends len bytes from where fd is, which it takes. */
static void download_begin(struct agent *agent, struct http_exchange *x, int fd, int64_t len,
                           bool compressed)
{
    static const struct http_exchange_ops ops = {.writable = on_writable, .gone = on_gone};
    struct download *d = xcalloc(1, sizeof(*d));

    *d = (struct download){.x = x,
                           .loop = &agent->loop,
                           .fd = fd,
                           .left = len,
                           .compressed = compressed,
                           .again.fire = on_again};
    if (compressed)
        gzip_out_init(&d->gzip);
    if (http_method_is(http_request(x), "HEAD"))
        d->left = 0;
    http_attach(x, &ops, d);
    download_step(d);
}

static const char *content_type(const char *path, int fd)
{
    const char *type = content_type_of_name(path);
    uint8_t start[CONTENT_TYPE_SNIFFED];
    ssize_t n;

    if (type)
        return type;
    n = pread(fd, start, sizeof(start), 0);
    return content_type_of_bytes(start, n > 0 ? (size_t)n : 0);
}

static bool is_token(char c)
{
    return c > 0x20 && c < 0x7f && !strchr("()<>@,;:\\\"/[]?=", c);
}

/* Bare where that can be, else quoted, and percent-encoded (RFC 8187) when it is not ASCII. */
static void put_disposition(struct http_exchange *x, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    AUTO(buf_deinit) struct buf coded = BUF_INIT(4096);
    AUTO(buf_deinit) struct buf quoted = BUF_INIT(4096);
    bool token = *name, ascii = true;

    for (const char *c = name; *c; c++) {
        token = token && is_token(*c);
        ascii = ascii && *c >= 0x20 && *c < 0x7f;
        buf_printf(&coded, is_token(*c) && !strchr("*'%", *c) ? "%c" : "%%%02X", (unsigned char)*c);
        buf_printf(&quoted, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    }
    if (!ascii)
        http_fieldf(x, "Content-Disposition", "inline; filename*=utf-8''%s", buf_str(&coded));
    else
        http_fieldf(x, "Content-Disposition",
                    token ? "inline; filename=%s" : "inline; filename=\"%s\"", buf_str(&quoted));
}

static void put_date(struct http_exchange *x, const char *name, time_t time)
{
    char text[40];
    struct tm tm;

    if (gmtime_r(&time, &tm) && strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
        http_field(x, name, text);
}

/* False: there is no such field, or no date in it. */
static bool read_date(const struct http_head *head, const char *name, time_t *ret)
{
    const char *text = http_header(head, name);
    struct tm tm = {0};

    if (!text || !strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        return false;
    *ret = timegm(&tm);
    return true;
}

/* The status that conditions lead to; 0: the file is to be sent. There are no entity tags. */
static int check_conditions(const struct http_head *head, time_t modified)
{
    time_t date;

    if (read_date(head, "If-Unmodified-Since", &date) && modified > date)
        return 412;
    if (read_date(head, "If-Modified-Since", &date) && modified <= date)
        return 304;
    return 0;
}

/* The Range header, unless it is of another version of the file. */
static const char *wanted_range(const struct http_head *head, time_t modified)
{
    time_t date;

    if (http_header(head, "If-Range") && (!read_date(head, "If-Range", &date) || date != modified))
        return NULL;
    return http_header(head, "Range");
}

static bool must_be_identity(const struct http_head *head)
{
    return http_header(head, "Range") || http_header(head, "If-Range") ||
           http_header(head, "If-Modified-Since") || http_header(head, "If-None-Match");
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
    struct range range = {0, has_no_size(fd, info) ? HTTP_LENGTH_UNKNOWN : info->st_size};
    enum range_result ranged = RANGE_NONE;

    if (range.len >= 0)
        ranged =
            range_parse(wanted_range(http_request(x), info->st_mtim.tv_sec), info->st_size, &range);
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
    download_begin(agent, x, fd, range.len, false);
}

/* The same without what depends on its size. Takes fd. */
static void send_compressed(struct agent *agent, struct http_exchange *x, const char *path, int fd)
{
    const char *type = content_type_of_name(path);

    reply_begin(x, 200);
    put_disposition(x, path);
    http_field(x, "Vary", "Accept-Encoding");
    http_field(x, "Content-Encoding", "gzip");
    http_field(x, "Content-Type", type ? type : "application/octet-stream");
    http_start(x, HTTP_LENGTH_UNKNOWN);
    download_begin(agent, x, fd, HTTP_LENGTH_UNKNOWN, true);
}

/* Takes fd. */
static void send_acceptably(struct agent *agent, struct http_exchange *x, const char *path, int fd,
                            const struct stat *info)
{
    const struct http_head *head = http_request(x);
    enum encoding encoding =
        encoding_choose(http_header(head, "Accept-Encoding"), must_be_identity(head));
    int status = check_conditions(head, info->st_mtim.tv_sec);

    if (encoding == ENCODING_GZIP) {
        send_compressed(agent, x, path, fd);
        return;
    }
    if (encoding == ENCODING_IDENTITY && !status) {
        send_file(agent, x, path, fd, info);
        return;
    }
    close(fd);
    if (encoding == ENCODING_NONE)
        reply_error(x, 406, "error parsing Accept-Encoding: only gzip and identity are offered");
    else
        reply_empty(x, status);
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
    } else {
        send_acceptably(agent, x, path, take_fd(&fd), &info);
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
