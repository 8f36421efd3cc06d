/*
 * StatFile, ListDirectory, MakeDirectory, MoveFile and RemoveFile: each is one operation of the
 * recorder, whose answer is the response. On the call's worker.
 */
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    MODE_MAX = 07777,
    DEPTH_MAX = 64,
    PAGE_MAX = 10000,
    PAGE_DEFAULT = 1000,
};

#define OP(name) RECORDER__V1__FILE_SPEC__OP__OP_##name

/* What all of them have: a sandbox, a user, a path. */
static bool check(const char *sandbox_id, const char *user, const char *field, const char *path,
                  struct status *st)
{
    return validate_id("sandbox_id", sandbox_id, st) && validate_user("user", user, st) &&
           validate_path(field, path, st);
}

void stat_file_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__StatFileRequest *r = (const Sandbox__V1__StatFileRequest *)message;
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    struct status st;

    if (!check(r->sandbox_id, r->user, "path", r->path, &st)) {
        call_finish(c, &st);
        return;
    }
    spec.op = OP(STAT);
    spec.user = r->user;
    spec.paths = (char *[]){r->path};
    spec.n_paths = 1;
    spec.follow_links = r->follow_links;
    spec.with_sha256 = r->with_sha256;
    file_call_start(c, r->sandbox_id, &spec, true, &sandbox__v1__stat_file_response__descriptor);
}

static bool check_list(const Sandbox__V1__ListDirectoryRequest *r, struct status *st)
{
    if (!check(r->sandbox_id, r->user, "path", r->path, st))
        return false;
    if (r->depth > DEPTH_MAX)
        return status_bad_field(st, INVALID_FIELD, "depth", "depth is %u: at most %d", r->depth,
                                DEPTH_MAX);
    if (r->page_size < 0 || r->page_size > PAGE_MAX)
        return status_bad_field(st, INVALID_FIELD, "page_size", "page_size must be from 0 to %d",
                                PAGE_MAX);
    return true;
}

void list_directory_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__ListDirectoryRequest *r = (const Sandbox__V1__ListDirectoryRequest *)message;
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    struct status st;

    if (!check_list(r, &st)) {
        call_finish(c, &st);
        return;
    }
    spec.op = OP(LIST);
    spec.user = r->user;
    spec.paths = (char *[]){r->path};
    spec.n_paths = 1;
    spec.depth = r->depth != 0 ? r->depth : 1;
    spec.after = r->page_token;
    spec.limit = r->page_size != 0 ? (uint64_t)r->page_size : PAGE_DEFAULT;
    file_call_start(c, r->sandbox_id, &spec, true,
                    &sandbox__v1__list_directory_response__descriptor);
}

void make_directory_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__MakeDirectoryRequest *r = (const Sandbox__V1__MakeDirectoryRequest *)message;
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    struct status st;
    bool ok = check(r->sandbox_id, r->user, "path", r->path, &st);

    if (ok && r->mode > MODE_MAX)
        ok = status_bad_field(&st, INVALID_FIELD, "mode", "mode is %o (octal): at most %o", r->mode,
                              MODE_MAX);
    if (!ok) {
        call_finish(c, &st);
        return;
    }
    spec.op = OP(MAKE);
    spec.user = r->user;
    spec.paths = (char *[]){r->path};
    spec.n_paths = 1;
    spec.mode = r->mode;
    spec.parents = r->parents;
    spec.tolerant = r->allow_existing;
    /* A second one would find what the first one made. */
    file_call_start(c, r->sandbox_id, &spec, r->allow_existing,
                    &sandbox__v1__make_directory_response__descriptor);
}

void move_file_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__MoveFileRequest *r = (const Sandbox__V1__MoveFileRequest *)message;
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    struct status st;

    if (!check(r->sandbox_id, r->user, "source", r->source, &st) ||
        !validate_path("destination", r->destination, &st)) {
        call_finish(c, &st);
        return;
    }
    spec.op = OP(MOVE);
    spec.user = r->user;
    spec.paths = (char *[]){r->source, r->destination};
    spec.n_paths = 2;
    spec.parents = r->parents;
    spec.tolerant = r->overwrite;
    file_call_start(c, r->sandbox_id, &spec, false, &sandbox__v1__move_file_response__descriptor);
}

void remove_file_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__RemoveFileRequest *r = (const Sandbox__V1__RemoveFileRequest *)message;
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    struct status st;

    if (!check(r->sandbox_id, r->user, "path", r->path, &st)) {
        call_finish(c, &st);
        return;
    }
    spec.op = OP(REMOVE);
    spec.user = r->user;
    spec.paths = (char *[]){r->path};
    spec.n_paths = 1;
    spec.recursive = r->recursive;
    spec.tolerant = r->allow_missing;
    file_call_start(c, r->sandbox_id, &spec, r->allow_missing,
                    &sandbox__v1__remove_file_response__descriptor);
}
