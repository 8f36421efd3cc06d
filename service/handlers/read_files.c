/*
 * ReadFiles: one operation of the recorder, bounded so that the answer fits a message. On the
 * call's worker.
 */
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/config.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"

#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    PATHS_MAX = 1000,
    PATH_BYTES_MAX = 256 * 1024,
    MARGIN = 64 * 1024,
    RESULT_EXTRA = 128, /* a sentence, a reason, tags */
};

struct read_files {
    struct file_call f;
    bool text;
    size_t n;
    size_t room; /* for contents */
};

static void set_error(Sandbox__V1__ReadFilesResult *result, int reason, const char *message)
{
    Sandbox__V1__FileError *error = malloc(sizeof(*error));

    if (error == NULL)
        abort();
    sandbox__v1__file_error__init(error);
    error->reason = reason;
    error->message = xstrdup(message);
    result->result_case = SANDBOX__V1__READ_FILES_RESULT__RESULT_ERROR;
    result->error = error;
}

/* Replacing may make a text three times as long as the file. */
static void make_text(struct read_files *k, Sandbox__V1__ReadFilesResult *result)
{
    char *text = utf8_repair(result->data.data, result->data.len);
    size_t len = strlen(text);

    free(result->data.data);
    if (len <= k->room) {
        k->room -= len;
        result->result_case = SANDBOX__V1__READ_FILES_RESULT__RESULT_TEXT;
        result->text = text;
        return;
    }
    free(text);
    set_error(result, SANDBOX__V1__ERROR_REASON__ERROR_REASON_FILE_TOO_LARGE,
              "as text it does not fit this message");
}

static void translate(struct read_files *k, Sandbox__V1__ReadFilesResult *result)
{
    struct status st;

    if (result->result_case == SANDBOX__V1__READ_FILES_RESULT__RESULT_ERROR) {
        /* What the recorder calls a reason is one of its exit codes. */
        file_result((int)result->error->reason, result->error->message, &st);
        result->error->reason = st.reason;
    } else if (k->text) {
        make_text(k, result);
    }
}

static bool is_whole(const struct read_files *k, const Sandbox__V1__ReadFilesResponse *m)
{
    for (size_t i = 0; i < m->n_results; i++) {
        if (m->results[i]->result_case != SANDBOX__V1__READ_FILES_RESULT__RESULT_DATA &&
            m->results[i]->result_case != SANDBOX__V1__READ_FILES_RESULT__RESULT_ERROR)
            return false;
    }
    return m->n_results == k->n;
}

static void answer(struct file_call *f, ProtobufCMessage *message)
{
    struct read_files *k = container_of(f, struct read_files, f);
    Sandbox__V1__ReadFilesResponse *m = (Sandbox__V1__ReadFilesResponse *)message;
    struct status st;

    if (!is_whole(k, m)) {
        file_answer_corrupt(&st);
        call_finish(f->o.call, &st);
        return;
    }
    for (size_t i = 0; i < m->n_results; i++)
        translate(k, m->results[i]);
    call_reply(f->o.call, message);
}

static void release(struct file_call *f)
{
    free(container_of(f, struct read_files, f));
}

static bool check(const Sandbox__V1__ReadFilesRequest *r, size_t *ret_bytes, struct status *st)
{
    *ret_bytes = 0;
    if (!validate_id("sandbox_id", r->sandbox_id, st) || !validate_user("user", r->user, st))
        return false;
    if (r->n_paths == 0 || r->n_paths > PATHS_MAX)
        return status_bad_field(st, INVALID_FIELD, "paths", "paths has %zu entries: from 1 to %d",
                                r->n_paths, PATHS_MAX);
    for (size_t i = 0; i < r->n_paths; i++) {
        if (!validate_path("paths", r->paths[i], st))
            return false;
        *ret_bytes += strlen(r->paths[i]);
    }
    if (*ret_bytes > PATH_BYTES_MAX)
        return status_bad_field(st, INVALID_FIELD, "paths", "paths has %zu bytes: at most %d",
                                *ret_bytes, PATH_BYTES_MAX);
    if (r->encoding > SANDBOX__V1__ENCODING__ENCODING_TEXT)
        return status_bad_field(st, INVALID_FIELD, "encoding", "encoding %d is not known here",
                                (int)r->encoding);
    return true;
}

void read_files_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__ReadFilesRequest *r = (const Sandbox__V1__ReadFilesRequest *)message;
    const struct app *app = call_app(c);
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    struct read_files *k;
    struct status st;
    size_t bytes, max, other;

    if (!check(r, &bytes, &st)) {
        call_finish(c, &st);
        return;
    }
    /* A path is there twice when an error names it. */
    other = 2 * bytes + r->n_paths * RESULT_EXTRA;
    max = (size_t)app->config->read_file_max;
    if (max > E2B_OUTPUT_MAX - MARGIN)
        max = E2B_OUTPUT_MAX - MARGIN;
    k = xcalloc(1, sizeof(*k));
    k->f.type = &sandbox__v1__read_files_response__descriptor;
    k->f.answer = answer;
    k->f.release = release;
    k->text = r->encoding == SANDBOX__V1__ENCODING__ENCODING_TEXT;
    k->n = r->n_paths;
    k->room = max > other ? max - other : 0;
    spec.op = RECORDER__V1__FILE_SPEC__OP__OP_READ;
    spec.user = r->user;
    spec.paths = r->paths;
    spec.n_paths = r->n_paths;
    spec.limit = k->room;
    file_call_begin(&k->f, c, r->sandbox_id, &spec, true);
}
