/* UploadFile: a file of any size from the client to the sandbox, by upload.h. */
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/handlers/files.h"
#include "service/handlers/upload.h"

#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { MODE_MAX = 07777 };

struct file_upload {
    struct upload u;
    uint32_t mode;
    bool create_only, conditional; /* if_sha256 is set */
    uint8_t if_sha256[UPLOAD_SHA256_LEN];
};

static bool take_commit(struct upload *u, const ProtobufCMessage *message, struct status *st)
{
    const Sandbox__V1__UploadCommit *m = (const Sandbox__V1__UploadCommit *)message;
    struct file_upload *f = (struct file_upload *)u;

    if (m->if_sha256.len != 0 && m->if_sha256.len != UPLOAD_SHA256_LEN)
        return status_bad_field(st, REASON(INVALID_FIELD), "commit.if_sha256",
                                "commit.if_sha256 has %zu bytes: SHA-256 has %d", m->if_sha256.len,
                                UPLOAD_SHA256_LEN);
    if (m->mode > MODE_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "commit.mode",
                                "commit.mode is %o (octal): at most %o", m->mode, MODE_MAX);
    f->mode = m->mode;
    f->create_only = m->create_only;
    f->conditional = m->if_sha256.len > 0;
    if (f->conditional)
        memcpy(f->if_sha256, m->if_sha256.data, UPLOAD_SHA256_LEN);
    return true;
}

static void commit(struct upload *u, Recorder__V1__FileSpec *spec,
                   Recorder__V1__FileContent *content)
{
    struct file_upload *f = (struct file_upload *)u;

    spec->op = RECORDER__V1__FILE_SPEC__OP__OP_ASSEMBLE;
    content->mode = f->mode;
    content->create_only = f->create_only;
    if (f->conditional)
        content->if_sha256 = (ProtobufCBinaryData){UPLOAD_SHA256_LEN, f->if_sha256};
}

static const struct upload_kind kind = {
    .response = &sandbox__v1__upload_file_response__descriptor,
    .take_commit = take_commit,
    .commit = commit,
};

void upload_file_start(struct call *c, const ProtobufCMessage *none)
{
    struct file_upload *f = xcalloc(1, sizeof(*f));

    upload_begin(&f->u, &kind, c);
}
