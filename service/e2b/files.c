/*
 * Files of a sandbox through envd's /files. Writing: all files whose paths fit a multipart header
 * go in one request, the others one by one after it; then modes are set, because an upload cannot.
 */
#include "service/e2b/process.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/json.h"
#include "service/e2b/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHMOD_BYTES_MAX = 64 * 1024, /* of paths in one argument list */
    CHMOD_LEASE_MS = 30000,
    PATH_REPORTED_MAX = 8192,
};

/* --- reading --- */

struct read {
    struct request request;
    struct exchange exchange;
    char *sandbox_id, *user, *path; /* owned */
    uint8_t **ret_data;             /* the caller's */
    size_t *ret_len;
    struct buf data;
    bool too_large;
    bool second; /* the answer was empty, and gzip is tried */
};

static void start_read(struct request *r);

static void destroy_read(struct request *r)
{
    struct read *f = container_of(r, struct read, request);

    exchange_deinit(&f->exchange);
    buf_deinit(&f->data);
    free(f->sandbox_id);
    free(f->user);
    free(f->path);
    free(f);
}

static enum transfer_taken take_file(struct transfer *t, const uint8_t *data, size_t len)
{
    struct read *f = container_of(t, struct read, exchange.transfer);
    int64_t whole = transfer_response_length(t);

    f->too_large = whole > (int64_t)f->data.cap || !buf_append(&f->data, data, len);
    return f->too_large ? TRANSFER_ABORT : TRANSFER_TAKEN;
}

static void prepare_read(struct exchange *x)
{
    buf_clear(&container_of(x, struct read, exchange)->data);
}

static bool judge_read(struct exchange *x, struct verdict *v)
{
    struct read *f = container_of(x, struct read, exchange);

    if (f->too_large) {
        status_set(&v->st, CODE_FAILED_PRECONDITION,
                   SANDBOX__V1__ERROR_REASON__ERROR_REASON_FILE_TOO_LARGE,
                   "%s is larger than %zu bytes, which is the most that fits one answer", f->path,
                   f->data.cap);
        status_detail(&v->st, "limit_bytes", "%zu", f->data.cap);
        return false;
    }
    if (x->transfer.result == CURLE_OK)
        return true;
    errors_lookup(SOURCE_CURL, x->transfer.result, transfer_error(&x->transfer), v);
    return false;
}

static void done_read(struct exchange *x)
{
    struct read *f = container_of(x, struct read, exchange);
    bool ok = x->verdict.st.code == CODE_OK;

    /* Files of the kernel (/proc, /sys) look empty to envd unless it compresses. */
    if (ok && buf_len(&f->data) == 0 && !f->second) {
        f->second = true;
        exchange_deinit(x);
        start_read(&f->request);
        return;
    }
    if (ok) {
        *f->ret_len = buf_len(&f->data);
        *f->ret_data = (uint8_t *)buf_take_str(&f->data);
    }
    request_finish(&f->request, &x->verdict.st);
}

static char *files_path(const char *path, const char *user)
{
    AUTO_FREE char *p = path != NULL ? url_escape(path) : NULL;
    AUTO_FREE char *u = url_escape(user);

    return xasprintf("/files?%s%s%s%s", p != NULL ? "path=" : "", p != NULL ? p : "",
                     u[0] != '\0' ? "&username=" : "", u);
}

static void start_read(struct request *r)
{
    struct read *f = container_of(r, struct read, request);

    f->exchange = (struct exchange){
        .request = r,
        .method = "GET",
        .path = files_path(f->path, f->user),
        .sandbox_id = xstrdup(f->sandbox_id),
        .source = SOURCE_FILES,
        .timeout_ms = r->e2b->config.request_timeout_ms,
        .max_response = E2B_ERROR_MAX,
        .safe = true,
        .bulk = true,
        .accept_gzip = f->second,
        .on_data = take_file,
        .prepare = prepare_read,
        .judge = judge_read,
        .done = done_read,
    };
    exchange_start(&f->exchange);
}

void e2b_read_file(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                   const char *path, uint8_t **ret_data, size_t *ret_len)
{
    struct read *f = xcalloc(1, sizeof *f);

    buf_init(&f->data, e->config.read_file_max_bytes);
    f->sandbox_id = xstrdup(sandbox_id);
    f->user = xstrdup(user != NULL ? user : "");
    f->path = xstrdup(path);
    f->ret_data = ret_data;
    f->ret_len = ret_len;
    *ret_data = NULL;
    f->request.start = start_read;
    f->request.destroy = destroy_read;
    request_submit(&f->request, e, op, sandbox_id);
}

/* --- writing --- */

struct write {
    struct request request;
    struct exchange exchange;
    struct start chmod;
    char *sandbox_id, *user;      /* owned */
    const struct e2b_file *files; /* the caller's, like paths_out */
    size_t n;
    char **paths_out;
    bool *together; /* owned; the files that go in the multipart request */
    size_t n_together;
    size_t alone;    /* the next file to look at for the others */
    bool *mode_done; /* owned */

    char boundary[64];
    char *content_type;            /* owned */
    struct transfer_piece *pieces; /* owned; their heads too */
    char **heads;
    size_t n_pieces;
};

static void next_write(struct write *w);

static void free_body(struct write *w)
{
    for (size_t i = 0; w->heads != NULL && w->heads[i] != NULL; i++)
        free(w->heads[i]);
    free(w->heads);
    free(w->pieces);
    w->heads = NULL;
    w->pieces = NULL;
}

static void destroy_write(struct request *r)
{
    struct write *w = container_of(r, struct write, request);

    exchange_deinit(&w->exchange);
    start_deinit(&w->chmod);
    free_body(w);
    free(w->sandbox_id);
    free(w->user);
    free(w->together);
    free(w->mode_done);
    free(w->content_type);
    free(w);
}

static void finish_write(struct write *w, const struct status *st)
{
    start_deinit(&w->chmod);
    for (size_t i = 0; st->code != CODE_OK && i < w->n; i++) {
        free(w->paths_out[i]);
        w->paths_out[i] = NULL;
    }
    request_finish(&w->request, st);
}

static bool abort_write(struct request *r, const struct status *st)
{
    struct write *w = container_of(r, struct write, request);

    finish_write(w, st);
    return true;
}

/* Whether a path survives the quotes of a header, whoever reads it. */
static bool fits_header(const char *path)
{
    for (; *path != '\0'; path++) {
        if ((unsigned char)*path < ' ' || strchr("\"\\%\x7f", *path) != NULL)
            return false;
    }
    return true;
}

/* The next file that is, or is not, in the multipart request, from i on; n when there is none. */
static size_t next_file(const struct write *w, size_t i, bool together)
{
    while (i < w->n && w->together[i] != together)
        i++;
    return i;
}

/* envd answers with the files it wrote, in the order sent. */
static bool take_paths(struct write *w, struct json_object *o, size_t first, bool together)
{
    size_t n, i = first;

    if (!json_object_is_type(o, json_type_array))
        return false;
    n = json_object_array_length(o);
    for (size_t k = 0; k < n; k++, i++) {
        const char *path = json_text(json_object_array_get_idx(o, k), "path", PATH_REPORTED_MAX);

        i = next_file(w, i, together);
        if (i == w->n || path == NULL || path[0] != '/')
            return false;
        free(w->paths_out[i]); /* of an attempt before */
        w->paths_out[i] = xstrdup(path);
    }
    return n == (together ? w->n_together : 1);
}

static bool judge_write(struct exchange *x, struct verdict *v)
{
    struct write *w = container_of(x, struct write, exchange);
    AUTO_JSON struct json_object *o =
        json_parse(buf_data(&x->transfer.body), buf_len(&x->transfer.body));
    bool together = w->content_type != NULL;

    if (take_paths(w, o, together ? 0 : w->alone, together))
        return true;
    errors_garbage(SOURCE_FILES, "not the list of the files written", v);
    return false;
}

static void done_write(struct exchange *x)
{
    struct write *w = container_of(x, struct write, exchange);

    if (x->verdict.st.code != CODE_OK) {
        if (w->content_type == NULL)
            status_prefix(&x->verdict.st, "%s: ", w->files[w->alone].path);
        finish_write(w, &x->verdict.st);
        return;
    }
    if (w->content_type == NULL)
        w->alone++;
    free(w->content_type);
    w->content_type = NULL;
    next_write(w);
}

static void begin_write(struct write *w, char *path, const char *content_type)
{
    struct exchange *x = &w->exchange;

    exchange_deinit(x);
    *x = (struct exchange){
        .request = &w->request,
        .method = "POST",
        .path = path,
        .sandbox_id = xstrdup(w->sandbox_id),
        .source = SOURCE_FILES,
        .pieces = w->pieces,
        .n_pieces = w->n_pieces,
        .content_type = content_type,
        .timeout_ms = w->request.e2b->config.request_timeout_ms,
        .max_response = E2B_LIST_MAX,
        .safe = true, /* writes the same again */
        .bulk = true,
        .judge = judge_write,
        .done = done_write,
    };
    exchange_start(x);
}

static void write_together(struct write *w)
{
    size_t n = 0;
    char nonce[33];

    e2b_nonce(w->request.loop, nonce);
    snprintf(w->boundary, sizeof w->boundary, "sandboxd-%s", nonce);
    w->content_type = xasprintf("multipart/form-data; boundary=%s", w->boundary);
    w->heads = xcalloc(w->n_together + 2, sizeof *w->heads);
    w->pieces = xcalloc(2 * w->n_together + 1, sizeof *w->pieces);
    w->n_pieces = 0;
    for (size_t i = next_file(w, 0, true); i < w->n; i = next_file(w, i + 1, true)) {
        const struct e2b_file *f = &w->files[i];
        char *head = xasprintf("%s--%s\r\nContent-Disposition: form-data; name=\"file\"; "
                               "filename=\"%s\"\r\nContent-Type: application/octet-stream\r\n\r\n",
                               n > 0 ? "\r\n" : "", w->boundary, f->path);

        w->heads[n++] = head;
        w->pieces[w->n_pieces++] = (struct transfer_piece){(uint8_t *)head, strlen(head)};
        w->pieces[w->n_pieces++] = (struct transfer_piece){f->data, f->len};
    }
    w->heads[n] = xasprintf("\r\n--%s--\r\n", w->boundary);
    w->pieces[w->n_pieces++] = (struct transfer_piece){(uint8_t *)w->heads[n], strlen(w->heads[n])};
    begin_write(w, files_path(NULL, w->user), w->content_type);
}

static void write_alone(struct write *w)
{
    const struct e2b_file *f = &w->files[w->alone];

    w->pieces = xcalloc(1, sizeof *w->pieces);
    w->pieces[0] = (struct transfer_piece){f->data, f->len};
    w->n_pieces = 1;
    begin_write(w, files_path(f->path, w->user), "application/octet-stream");
}

/* --- modes --- */

static void no_stdout(struct start *s, const uint8_t *data, size_t len) {}

static void done_chmod(struct start *s)
{
    struct write *w = container_of(s, struct write, chmod);
    struct verdict v = s->exchange.verdict;
    int err_len = (int)s->process.err_len;

    if (v.st.code == CODE_OK && s->process.exit_code != 0)
        status_set(
            &v.st, CODE_FAILED_PRECONDITION, SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_REJECTED,
            "the files are written, but their mode cannot be set: %.*s", err_len, s->process.err);
    if (v.st.code != CODE_OK) {
        finish_write(w, &v.st);
        return;
    }
    next_write(w);
}

/* One chmod for files of the same mode, as many as fit an argument list. */
static void set_modes(struct write *w, size_t first)
{
    uint32_t mode = w->files[first].mode;
    AUTO_FREE const char **argv = xcalloc(w->n + 4, sizeof *argv);
    char octal[8];
    size_t n = 0, bytes = 0;

    snprintf(octal, sizeof octal, "%04o", mode & 07777u);
    argv[n++] = "/bin/chmod";
    argv[n++] = octal;
    argv[n++] = "--";
    for (size_t i = first; i < w->n && bytes < CHMOD_BYTES_MAX; i++) {
        if (w->mode_done[i] || w->files[i].mode != mode)
            continue;
        argv[n++] = w->paths_out[i];
        bytes += strlen(w->paths_out[i]);
        w->mode_done[i] = true;
    }
    start_deinit(&w->chmod);
    w->chmod = (struct start){
        .request = &w->request,
        .sandbox_id = w->sandbox_id,
        .argv = argv,
        .cwd = "/",
        .user = w->user[0] != '\0' ? w->user : NULL,
        .lease_ms = CHMOD_LEASE_MS,
        .safe = true,
        .on_stdout = no_stdout,
        .done = done_chmod,
    };
    start_begin(&w->chmod);
}

static void next_write(struct write *w)
{
    size_t i = 0;

    free_body(w);
    w->alone = next_file(w, w->alone, false);
    if (w->alone < w->n) {
        write_alone(w);
        return;
    }
    while (i < w->n && (w->mode_done[i] || w->files[i].mode == 0))
        i++;
    if (i < w->n)
        set_modes(w, i);
    else
        finish_write(w, &STATUS_INIT);
}

static void start_write(struct request *r)
{
    struct write *w = container_of(r, struct write, request);

    if (w->n_together > 0)
        write_together(w);
    else
        next_write(w);
}

void e2b_write_files(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                     const struct e2b_file *files, size_t n, char **paths_out)
{
    struct write *w = xcalloc(1, sizeof *w);

    w->sandbox_id = xstrdup(sandbox_id);
    w->user = xstrdup(user != NULL ? user : "");
    w->files = files;
    w->n = n;
    w->paths_out = paths_out;
    w->together = xcalloc(n + 1, sizeof *w->together);
    w->mode_done = xcalloc(n + 1, sizeof *w->mode_done);
    for (size_t i = 0; i < n; i++) {
        paths_out[i] = NULL;
        w->together[i] = n > 1 && fits_header(files[i].path);
        w->n_together += w->together[i];
    }
    w->request.start = start_write;
    w->request.aborted = abort_write;
    w->request.destroy = destroy_write;
    request_submit(&w->request, e, op, sandbox_id);
}
