/* See file_call.h. All on the call's worker. */
#include "service/handlers/file_call.h"

#include "common/base/base64.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENT_MAX = 64 * 1024 }; /* half of what the kernel takes */

/* --- exit codes --- */

struct meaning {
    enum recorder_exit exit_code;
    enum code code;
    int reason;
    const char *fallback; /* when the recorder gave no sentence */
    const char *field;    /* at fault; NULL when none is */
};

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

static const struct meaning meanings[] = {
    {RECORDER_FILE_NOT_FOUND, CODE_NOT_FOUND, REASON(FILE_NOT_FOUND), "there is no such file"},
    {RECORDER_NOT_A_FILE, CODE_FAILED_PRECONDITION, REASON(NOT_A_FILE), "it is not a file"},
    {RECORDER_NOT_A_DIRECTORY, CODE_FAILED_PRECONDITION, REASON(NOT_A_DIRECTORY),
     "it is not a directory"},
    {RECORDER_FILE_EXISTS, CODE_ALREADY_EXISTS, REASON(FILE_EXISTS), "it exists"},
    {RECORDER_NOT_EMPTY, CODE_FAILED_PRECONDITION, REASON(DIRECTORY_NOT_EMPTY),
     "the directory is not empty"},
    {RECORDER_FORBIDDEN, CODE_PERMISSION_DENIED, REASON(PERMISSION_DENIED),
     "the system does not allow it"},
    {RECORDER_NO_USER, CODE_INVALID_ARGUMENT, REASON(USER_NOT_FOUND),
     "the sandbox has no such user", "user"},
    {RECORDER_BAD_PATH, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD), "no such path can be",
     "path"},
    {RECORDER_BAD_TOKEN, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD),
     "page_token is not one that this method returned", "page_token"},
    {RECORDER_TOO_LARGE, CODE_FAILED_PRECONDITION, REASON(FILE_TOO_LARGE), "it is too large"},
    {RECORDER_FILE_CHANGED, CODE_FAILED_PRECONDITION, REASON(FILE_CHANGED),
     "the file is not the one that the precondition names"},
    {RECORDER_UPLOAD_GAP, CODE_OUT_OF_RANGE, REASON(UPLOAD_GAP), "bytes are missing"},
    {RECORDER_DIGEST, CODE_DATA_LOSS, REASON(DIGEST_MISMATCH),
     "what came is not what the digest says"},
    {RECORDER_BAD_ARCHIVE, CODE_INVALID_ARGUMENT, REASON(BAD_ARCHIVE),
     "the archive cannot be unpacked"},
    {RECORDER_BAD_OFFSET, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD),
     "the offset is beyond the file's end", "offset"},
    {RECORDER_OTHER_DEVICE, CODE_UNIMPLEMENTED, REASON(UNSUPPORTED), "it is on another filesystem"},
    {RECORDER_NO_SPACE, CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL), "the sandbox's disk is full"},
    {RECORDER_BAD_SPEC, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
     "the request did not reach the sandbox"},
    {RECORDER_USAGE, CODE_INTERNAL, REASON(INTERNAL),
     "the recorder does not know what it is asked"},
    {RECORDER_INTERNAL, CODE_INTERNAL, REASON(INTERNAL), "the recorder failed"},
};

void file_result(int exit_code, const char *says, struct status *ret)
{
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        const struct meaning *m = &meanings[i];

        if (exit_code != (int)m->exit_code)
            continue;
        status_set(ret, m->code, m->reason, "%s", says[0] != '\0' ? says : m->fallback);
        if (m->field != NULL)
            snprintf(ret->field, sizeof(ret->field), "%s", m->field);
        return;
    }
    status_set(ret, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
               "the recorder was cut short (exit %d)%s%s", exit_code, says[0] != '\0' ? ": " : "",
               says);
}

/* --- what came back --- */

static bool text_is_text(const char *s)
{
    return s == NULL || utf8_is_valid((const uint8_t *)s, strlen(s));
}

static bool one_is_text(const ProtobufCFieldDescriptor *f, const void *member)
{
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return text_is_text(*(const char *const *)member);
    return *(const ProtobufCMessage *const *)member == NULL ||
           message_is_text(*(const ProtobufCMessage *const *)member);
}

bool message_is_text(const ProtobufCMessage *m)
{
    const uint8_t *base = (const uint8_t *)m;

    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const uint8_t *member = base + f->offset;
        bool oneof = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;

        if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        /* The members of a oneof share their place: only the one that is set is there. */
        if (oneof && *(const uint32_t *)(const void *)(base + f->quantifier_offset) != f->id)
            continue;
        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            if (!one_is_text(f, member))
                return false;
            continue;
        }

        size_t n = *(const size_t *)(const void *)(base + f->quantifier_offset);
        void *const *items = *(void *const *const *)(const void *)member;

        for (size_t k = 0; k < n; k++) {
            if (!one_is_text(f, &items[k]))
                return false;
        }
    }
    return true;
}

bool file_answer_corrupt(struct status *st)
{
    return status_set(st, CODE_DATA_LOSS, REASON(JOURNAL_CORRUPT),
                      "the recorder's answer does not hold together: it was changed from inside "
                      "the sandbox");
}

static void answer(struct operation *o)
{
    struct file_call *f = container_of(o, struct file_call, o);
    ProtobufCMessage *m = NULL;
    struct status st;

    if (f->output.exit_code != RECORDER_OK) {
        file_result(f->output.exit_code, f->output.err, &st);
        call_finish(o->call, &st);
        return;
    }
    m = protobuf_c_message_unpack(f->type, NULL, f->output.out_len, f->output.out);
    if (m == NULL || !message_is_text(m)) {
        file_answer_corrupt(&st);
        call_finish(o->call, &st);
    } else if (f->answer != NULL) {
        f->answer(f, m);
    } else {
        call_reply(o->call, m);
    }
    if (m != NULL)
        protobuf_c_message_free_unpacked(m, NULL);
}

static void release(struct operation *o)
{
    struct file_call *f = container_of(o, struct file_call, o);

    free(f->output.out);
    if (f->release != NULL)
        f->release(f);
    else
        free(f);
}

/* --- what is sent --- */

char *file_verb_argument(const Recorder__V1__FileSpec *spec)
{
    static const char option[] = "--request=";
    size_t len = recorder__v1__file_spec__get_packed_size(spec);
    AUTO_FREE uint8_t *data = xmalloc(len + 1);
    char *text;

    if (base64_encoded_len(len) > ARGUMENT_MAX)
        return NULL;
    recorder__v1__file_spec__pack(spec, data);
    text = xmalloc(sizeof(option) + base64_encoded_len(len));
    strcpy(text, option);
    text[sizeof(option) - 1 + base64_encode(text + sizeof(option) - 1, data, len)] = '\0';
    return text;
}

static uint8_t *pack_file(const Recorder__V1__FileSpec *spec, size_t *ret_len)
{
    Recorder__V1__SpecFile m = RECORDER__V1__SPEC_FILE__INIT;
    uint8_t *data;

    m.spec_case = RECORDER__V1__SPEC_FILE__SPEC_FILE;
    m.file = (Recorder__V1__FileSpec *)spec;
    m.end = (char *)"end";
    data = xmalloc(recorder__v1__spec_file__get_packed_size(&m));
    *ret_len = recorder__v1__spec_file__pack(&m, data);
    return data;
}

void file_verb_run(struct operation *o, const char *sandbox_id, const Recorder__V1__FileSpec *spec,
                   bool idempotent, struct e2b_output *ret)
{
    AUTO_FREE char *argument = file_verb_argument(spec);
    AUTO_FREE uint8_t *file = NULL;
    size_t len = 0;

    if (argument == NULL)
        file = pack_file(spec, &len);
    e2b_verb(operation_e2b(o), &o->op, sandbox_id, (const char *[]){"file", argument, NULL}, file,
             len, idempotent, ret);
}

void file_call_begin(struct file_call *f, struct call *c, const char *sandbox_id,
                     const Recorder__V1__FileSpec *spec, bool idempotent)
{
    snprintf(f->sandbox_id, sizeof(f->sandbox_id), "%s", sandbox_id);
    f->o.answer = answer;
    f->o.release = release;
    operation_begin(&f->o, c);
    file_verb_run(&f->o, f->sandbox_id, spec, idempotent, &f->output);
}

void file_call_start(struct call *c, const char *sandbox_id, const Recorder__V1__FileSpec *spec,
                     bool idempotent, const ProtobufCMessageDescriptor *type)
{
    struct file_call *f = xcalloc(1, sizeof(*f));

    f->type = type;
    file_call_begin(f, c, sandbox_id, spec, idempotent);
}
