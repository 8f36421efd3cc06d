/*
 * WriteFiles and ReadFile: files that fit one message. What goes out is copied from the request,
 * because the upload outlives it. On the call's worker.
 */
#include "service/handlers/files.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/handlers/operation.h"
#include "service/handlers/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    FILES_MAX = 1000,
    MODE_MAX = 07777,
};

/* --- WriteFiles --- */

struct write {
    struct operation o;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    char user[VALIDATE_USER_MAX + 1];
    struct e2b_file *files; /* owned; path and data too */
    char **paths;           /* owned, each too: as E2B reports them */
    size_t n;
};

static void write_release(struct operation *o)
{
    struct write *k = container_of(o, struct write, o);

    for (size_t i = 0; i < k->n; i++) {
        free((void *)k->files[i].path);
        free((void *)k->files[i].data);
        free(k->paths[i]);
    }
    free(k->files);
    free(k->paths);
    free(k);
}

static void write_answer(struct operation *o)
{
    struct write *k = container_of(o, struct write, o);
    Sandbox__V1__WriteFilesResponse m = SANDBOX__V1__WRITE_FILES_RESPONSE__INIT;
    AUTO_FREE Sandbox__V1__WrittenFile *items = xcalloc(k->n, sizeof(items[0]));
    AUTO_FREE Sandbox__V1__WrittenFile **pointers = xcalloc(k->n, sizeof(pointers[0]));

    for (size_t i = 0; i < k->n; i++) {
        sandbox__v1__written_file__init(&items[i]);
        items[i].path = k->paths[i];
        items[i].size = k->files[i].len;
        pointers[i] = &items[i];
    }
    m.files = pointers;
    m.n_files = k->n;
    call_reply(o->call, &m.base);
}

static bool read_file_field(const Sandbox__V1__File *from, struct e2b_file *to, struct status *st)
{
    const uint8_t *data = NULL;

    if (!validate_path("files.path", from->path, st))
        return false;
    if (from->mode > MODE_MAX)
        return status_bad_field(st, INVALID_FIELD, "files.mode",
                                "files.mode of %.100s is %o (octal): at most %o", from->path,
                                from->mode, MODE_MAX);
    if (from->content_case == SANDBOX__V1__FILE__CONTENT_DATA) {
        data = from->data.data;
        to->len = from->data.len;
    } else if (from->content_case == SANDBOX__V1__FILE__CONTENT_TEXT) {
        data = (const uint8_t *)from->text;
        to->len = strlen(from->text);
    }
    to->path = xstrdup(from->path);
    to->data = xmemdup(data, to->len);
    to->mode = from->mode;
    return true;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool check_no_path_twice(const struct write *k, struct status *st)
{
    AUTO_FREE const char **paths = xcalloc(k->n, sizeof(paths[0]));

    for (size_t i = 0; i < k->n; i++)
        paths[i] = k->files[i].path;
    qsort(paths, k->n, sizeof(paths[0]), by_path);
    for (size_t i = 1; i < k->n; i++) {
        if (strcmp(paths[i - 1], paths[i]) == 0)
            return status_bad_field(st, INVALID_FIELD, "files.path", "%.200s is there twice",
                                    paths[i]);
    }
    return true;
}

static bool read_write(struct write *k, const Sandbox__V1__WriteFilesRequest *r, struct status *st)
{
    if (!validate_id("sandbox_id", r->sandbox_id, st) || !validate_user("user", r->user, st))
        return false;
    if (r->n_files == 0 || r->n_files > FILES_MAX)
        return status_bad_field(st, INVALID_FIELD, "files", "files has %zu entries: from 1 to %d",
                                r->n_files, FILES_MAX);
    snprintf(k->sandbox_id, sizeof(k->sandbox_id), "%s", r->sandbox_id);
    snprintf(k->user, sizeof(k->user), "%s", r->user);
    k->files = xcalloc(r->n_files, sizeof(k->files[0]));
    k->paths = xcalloc(r->n_files, sizeof(k->paths[0]));
    for (size_t i = 0; i < r->n_files; i++) {
        if (!read_file_field(r->files[i], &k->files[i], st))
            return false;
        k->n++;
    }
    return check_no_path_twice(k, st);
}

void write_files_start(struct call *c, const ProtobufCMessage *message)
{
    struct write *k = xcalloc(1, sizeof(*k));
    struct status st = STATUS_INIT;

    k->o.answer = write_answer;
    k->o.release = write_release;
    if (!read_write(k, (const Sandbox__V1__WriteFilesRequest *)message, &st)) {
        write_release(&k->o);
        call_finish(c, &st);
        return;
    }
    operation_begin(&k->o, c);
    e2b_write_files(operation_e2b(&k->o), &k->o.op, k->sandbox_id,
                    k->user[0] != '\0' ? k->user : NULL, k->files, k->n, k->paths);
}

/* --- ReadFile --- */

struct read {
    struct operation o;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    char user[VALIDATE_USER_MAX + 1];
    char path[VALIDATE_PATH_MAX + 1];
    bool text;
    uint8_t *data; /* owned */
    size_t len;
};

static void read_release(struct operation *o)
{
    struct read *k = container_of(o, struct read, o);

    free(k->data);
    free(k);
}

/* Replacing may make a text three times as long as the file. */
static bool text_fits(const struct operation *o, const char *text, struct status *st)
{
    size_t max = (size_t)((const struct app *)call_app(o->call))->config->read_file_max;

    if (strlen(text) <= max)
        return true;
    status_set(st, CODE_FAILED_PRECONDITION, SANDBOX__V1__ERROR_REASON__ERROR_REASON_FILE_TOO_LARGE,
               "as text the file is longer than %zu bytes, the most that fits one answer: read it "
               "as bytes",
               max);
    return status_detail(st, "limit_bytes", "%zu", max);
}

static void read_answer(struct operation *o)
{
    struct read *k = container_of(o, struct read, o);
    Sandbox__V1__ReadFileResponse m;
    AUTO_FREE char *text = NULL;
    struct status st;

    sandbox__v1__read_file_response__init(&m);
    m.size = k->len;
    if (k->text) {
        text = utf8_repair(k->data, k->len);
        if (!text_fits(o, text, &st)) {
            call_finish(o->call, &st);
            return;
        }
        m.content_case = SANDBOX__V1__READ_FILE_RESPONSE__CONTENT_TEXT;
        m.text = text;
    } else {
        m.content_case = SANDBOX__V1__READ_FILE_RESPONSE__CONTENT_DATA;
        m.data = (ProtobufCBinaryData){.data = k->data, .len = k->len};
    }
    call_reply(o->call, &m.base);
}

static bool read_read(struct read *k, const Sandbox__V1__ReadFileRequest *r, struct status *st)
{
    if (!validate_id("sandbox_id", r->sandbox_id, st) || !validate_path("path", r->path, st) ||
        !validate_user("user", r->user, st))
        return false;
    if (r->encoding > SANDBOX__V1__ENCODING__ENCODING_TEXT)
        return status_bad_field(st, INVALID_FIELD, "encoding", "encoding %d is not known here",
                                (int)r->encoding);
    snprintf(k->sandbox_id, sizeof(k->sandbox_id), "%s", r->sandbox_id);
    snprintf(k->path, sizeof(k->path), "%s", r->path);
    snprintf(k->user, sizeof(k->user), "%s", r->user);
    k->text = r->encoding == SANDBOX__V1__ENCODING__ENCODING_TEXT;
    return true;
}

void read_file_start(struct call *c, const ProtobufCMessage *message)
{
    struct read *k = xcalloc(1, sizeof(*k));
    struct status st = STATUS_INIT;

    k->o.answer = read_answer;
    k->o.release = read_release;
    if (!read_read(k, (const Sandbox__V1__ReadFileRequest *)message, &st)) {
        read_release(&k->o);
        call_finish(c, &st);
        return;
    }
    operation_begin(&k->o, c);
    e2b_read_file(operation_e2b(&k->o), &k->o.op, k->sandbox_id,
                  k->user[0] != '\0' ? k->user : NULL, k->path, &k->data, &k->len);
}
