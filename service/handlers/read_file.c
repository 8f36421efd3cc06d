/* ReadFile: a file that fits one message. On the call's worker. */
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

enum { INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD };

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
