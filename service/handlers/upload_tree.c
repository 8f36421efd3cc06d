/* UploadTree: an archive from the client to the sandbox, by upload.h; it is unpacked there. */
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/trees.pb-c.h"
#include "service/handlers/excludes.h"
#include "service/handlers/files.h"
#include "service/handlers/upload.h"

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { ENTRIES_DEFAULT = 1000000 };

struct tree_upload {
    struct upload u;
    char **excludes; /* owned */
    size_t n_excludes;
    uint32_t existing;
    bool skip_unsafe;
    uint64_t max_bytes, max_entries;
};

static bool take_commit(struct upload *u, const ProtobufCMessage *message, struct status *st)
{
    const Sandbox__V1__UploadTreeCommit *m = (const Sandbox__V1__UploadTreeCommit *)message;
    struct tree_upload *t = (struct tree_upload *)u;

    if (!excludes_check("commit.excludes", m->excludes, m->n_excludes, st))
        return false;
    switch (m->existing) {
    case SANDBOX__V1__UPLOAD_TREE_COMMIT__EXISTING__EXISTING_UNSPECIFIED:
    case SANDBOX__V1__UPLOAD_TREE_COMMIT__EXISTING__EXISTING_REPLACE:
    case SANDBOX__V1__UPLOAD_TREE_COMMIT__EXISTING__EXISTING_KEEP:
    case SANDBOX__V1__UPLOAD_TREE_COMMIT__EXISTING__EXISTING_FAIL:
        break;
    default:
        return status_bad_field(st, REASON(INVALID_FIELD), "commit.existing",
                                "commit.existing is %d, which this server does not know",
                                (int)m->existing);
    }
    t->excludes = excludes_copy(m->excludes, m->n_excludes);
    t->n_excludes = m->n_excludes;
    t->existing = m->existing;
    t->skip_unsafe = m->skip_unsafe;
    t->max_bytes = m->max_bytes;
    t->max_entries = m->max_entries != 0 ? m->max_entries : ENTRIES_DEFAULT;
    return true;
}

static void commit(struct upload *u, Recorder__V1__FileSpec *spec,
                   Recorder__V1__FileContent *content)
{
    const struct tree_upload *t = (const struct tree_upload *)u;

    spec->op = RECORDER__V1__FILE_SPEC__OP__OP_UNPACK;
    spec->excludes = t->excludes;
    spec->n_excludes = t->n_excludes;
    spec->existing = t->existing;
    spec->skip_unsafe = t->skip_unsafe;
    spec->max_bytes = t->max_bytes;
    spec->max_entries = t->max_entries;
}

static void destroy(struct upload *u)
{
    struct tree_upload *t = (struct tree_upload *)u;

    free_strings(t->excludes, t->n_excludes);
}

static const struct upload_kind kind = {
    .response = &sandbox__v1__upload_tree_response__descriptor,
    .is_directory = true,
    .take_commit = take_commit,
    .commit = commit,
    .destroy = destroy,
};

void upload_tree_start(struct call *c, const ProtobufCMessage *none)
{
    struct tree_upload *t = xcalloc(1, sizeof(*t));

    upload_begin(&t->u, &kind, c);
}
