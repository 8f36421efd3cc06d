/* filesystem.Filesystem: file names and what is known of files; contents go through files.h. */
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/entry.h"
#include "runtime/local/agent/path.h"
#include "runtime/local/agent/services.h"
#include "runtime/local/zygote/sandbox_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ENTRIES_MAX = 200000, DEPTH_MAX = 256 };

/* NULL, and the call is over, when the path means nothing. */
static char *resolve(struct rpc_call *call, const char *path)
{
    struct status st = STATUS_INIT;
    char *resolved = path_resolve(path, &call->user, call->agent->config.workdir, &st);

    if (!resolved)
        rpc_fail_status(call, &st);
    return resolved;
}

static void fail_with_errno(struct rpc_call *call, const char *what, const char *path)
{
    int error = errno;

    if (error == ENOENT || error == ENOTDIR)
        rpc_fail(call, CODE_NOT_FOUND, "file not found: %s: %s", path, strerror(error));
    else if (error == ELOOP)
        rpc_fail(call, CODE_FAILED_PRECONDITION, "%s: %s: %s", what, path, strerror(error));
    else
        rpc_fail(call, CODE_INTERNAL, "%s: %s: %s", what, path, strerror(error));
}

/* The three responses with one entry are the same on the wire and in JSON. */
static void reply_entry(struct rpc_call *call, const char *path)
{
    Filesystem__StatResponse response = FILESYSTEM__STAT_RESPONSE__INIT;
    struct entry entry;

    if (!entry_init(&entry, path)) {
        fail_with_errno(call, "error getting file info", path);
        return;
    }
    if (call->legacy)
        entry_trim(&entry);
    response.entry = &entry.info;
    rpc_reply(call, &response.base);
    entry_deinit(&entry);
}

void filesystem_rpc_stat(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Filesystem__StatRequest *request = (const Filesystem__StatRequest *)message;
    AUTO_FREE char *path = resolve(call, request->path);

    if (path)
        reply_entry(call, path);
}

/* ---- ListDir ---- */

struct listing {
    bool legacy;
    struct entry **entries; /* owned */
    size_t n;
    size_t room;
};

static void listing_deinit(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++) {
        entry_deinit(l->entries[i]);
        free(l->entries[i]);
    }
    free(l->entries);
}

/* What vanishes while we look is left out. It is told as `shown`. */
static struct entry *listing_add(struct listing *l, const char *path, const char *shown)
{
    struct entry *entry = xcalloc(1, sizeof(*entry));

    if (!entry_init(entry, path)) {
        free(entry);
        return NULL;
    }
    entry_show_as(entry, shown);
    if (l->legacy)
        entry_trim(entry);
    if (l->n == l->room) {
        l->room = l->room ? l->room * 2 : 64;
        l->entries = xrealloc(l->entries, l->room * sizeof(struct entry *));
    }
    l->entries[l->n++] = entry;
    return entry;
}

static bool is_directory(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static char *below(const char *path, const char *name)
{
    return xasprintf("%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", name);
}

/* Lexical order, each directory right before its content. */
static bool list_directory(struct listing *l, const char *path, const char *shown, uint32_t depth)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);

    if (n < 0)
        return false;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        AUTO_FREE char *child = below(path, name);
        AUTO_FREE char *shown_child = below(shown, name);

        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && l->n < ENTRIES_MAX &&
            listing_add(l, child, shown_child) && depth > 1 && is_directory(child))
            list_directory(l, child, shown_child,
                           depth - 1); /* a part that cannot be read is left out */
        free(names[i]);
    }
    free(names);
    return true;
}

static bool check_directory(struct rpc_call *call, const char *path)
{
    struct stat info;

    if (stat(path, &info) < 0) {
        fail_with_errno(call, "error getting directory info", path);
        return false;
    }
    if (S_ISDIR(info.st_mode))
        return true;
    rpc_fail(call, CODE_INVALID_ARGUMENT, "path is not a directory: %s", path);
    return false;
}

void filesystem_rpc_list_dir(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Filesystem__ListDirRequest *request = (const Filesystem__ListDirRequest *)message;
    Filesystem__ListDirResponse response = FILESYSTEM__LIST_DIR_RESPONSE__INIT;
    AUTO_FREE char *path = resolve(call, request->path);
    AUTO_FREE char *shown = path ? path_clean(path) : NULL;
    AUTO(listing_deinit) struct listing l = {.legacy = call->legacy};
    uint32_t depth = request->depth < 1 ? 1 : request->depth;

    if (!path || !check_directory(call, path))
        return;
    if (!list_directory(&l, path, shown, depth < DEPTH_MAX ? depth : DEPTH_MAX)) {
        rpc_fail(call, CODE_INTERNAL, "error reading directory: %s: %s", path, strerror(errno));
        return;
    }
    if (l.n == ENTRIES_MAX) {
        rpc_fail(call, CODE_RESOURCE_EXHAUSTED, "%s has more than %d entries: list less at a time",
                 path, ENTRIES_MAX);
        return;
    }
    response.entries = xcalloc(l.n + 1, sizeof(*response.entries));
    for (; response.n_entries < l.n; response.n_entries++)
        response.entries[response.n_entries] = &l.entries[response.n_entries]->info;
    rpc_reply(call, &response.base);
    free(response.entries);
}

/* ---- changes ---- */

void filesystem_rpc_make_dir(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Filesystem__MakeDirRequest *request = (const Filesystem__MakeDirRequest *)message;
    AUTO_FREE char *path = resolve(call, request->path);
    struct stat info;

    if (!path)
        return;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            rpc_fail(call, CODE_ALREADY_EXISTS, "directory already exists: %s", path);
        else
            rpc_fail(call, CODE_INVALID_ARGUMENT,
                     "path already exists but it is not a directory: %s", path);
        return;
    }
    if (!path_make_directory(path, &call->user)) {
        rpc_fail(call, errno == ENOSPC ? CODE_RESOURCE_EXHAUSTED : CODE_INTERNAL,
                 "error creating directory: %s: %s", path, strerror(errno));
        return;
    }
    reply_entry(call, path);
}

/* Only files are written over. */
static bool move(const char *source, const char *destination)
{
    if (strcmp(source, destination) != 0 && is_directory(destination)) {
        errno = EEXIST;
        return false;
    }
    return rename(source, destination) == 0;
}

void filesystem_rpc_move(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Filesystem__MoveRequest *request = (const Filesystem__MoveRequest *)message;
    AUTO_FREE char *source = resolve(call, request->source);
    AUTO_FREE char *destination = source ? resolve(call, request->destination) : NULL;

    if (!destination)
        return;
    if (access(source, F_OK) < 0 && errno == ENOENT && readlink(source, (char[1]){0}, 1) < 0) {
        rpc_fail(call, CODE_NOT_FOUND, "source file not found: %s", source);
        return;
    }
    if (!path_make_parents(destination, &call->user) || !move(source, destination)) {
        rpc_fail(call, CODE_INTERNAL, "error renaming: %s to %s: %s", source, destination,
                 strerror(errno));
        return;
    }
    reply_entry(call, destination);
}

void filesystem_rpc_remove(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Filesystem__RemoveRequest *request = (const Filesystem__RemoveRequest *)message;
    Filesystem__RemoveResponse response = FILESYSTEM__REMOVE_RESPONSE__INIT;
    AUTO_FREE char *path = resolve(call, request->path);

    if (!path)
        return;
    if (!sandbox_tree_remove(AT_FDCWD, path)) {
        rpc_fail(call, CODE_INTERNAL, "error removing file or directory: %s: %s", path,
                 strerror(errno));
        return;
    }
    rpc_reply(call, &response.base);
}
