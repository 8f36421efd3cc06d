/* See entry.h. */
#include "runtime/local/agent/entry.h"

#include "common/base/mem.h"
#include "common/base/utf8.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PREFIX "user.e2b."

enum { NAMES_SIZE = 8192, VALUE_SIZE = 4096 };

void entry_format_mode(unsigned mode, char to[ENTRY_MODE_SIZE])
{
    static const char letters[] = "rwxrwxrwx";
    char kind = '-';
    size_t n = 0;

    if (S_ISDIR(mode))
        kind = 'd';
    else if (S_ISLNK(mode))
        kind = 'L';
    else if (S_ISBLK(mode) || S_ISCHR(mode))
        kind = 'D';
    else if (S_ISFIFO(mode))
        kind = 'p';
    else if (S_ISSOCK(mode))
        kind = 'S';
    if (kind != '-')
        to[n++] = kind;
    if (mode & S_ISUID)
        to[n++] = 'u';
    if (mode & S_ISGID)
        to[n++] = 'g';
    if (S_ISCHR(mode))
        to[n++] = 'c';
    if (mode & S_ISVTX)
        to[n++] = 't';
    if (n == 0)
        to[n++] = '-';
    for (int i = 0; i < 9; i++)
        to[n++] = (mode & (0400u >> i)) ? letters[i] : '-';
    to[n] = '\0';
}

static Filesystem__FileType type_of(mode_t mode)
{
    if (S_ISREG(mode))
        return FILESYSTEM__FILE_TYPE__FILE_TYPE_FILE;
    if (S_ISDIR(mode))
        return FILESYSTEM__FILE_TYPE__FILE_TYPE_DIRECTORY;
    return FILESYSTEM__FILE_TYPE__FILE_TYPE_UNSPECIFIED;
}

/* A name that is no text is told as well as it can be, so that one does not hide all others. */
static void repair(char **name)
{
    size_t len = strlen(*name);
    char *repaired;

    if (utf8_is_valid((const uint8_t *)*name, len))
        return;
    repaired = utf8_repair((const uint8_t *)*name, len);
    free(*name);
    *name = repaired;
}

static void fill_link(struct entry *e, const char *path)
{
    struct stat target;

    e->link = realpath(path, NULL);
    if (!e->link)
        e->link = xstrdup(path);
    repair(&e->link);
    e->info.symlink_target = e->link;
    /* The type and mode of a link are those of what it leads to. */
    if (stat(path, &target) == 0) {
        e->info.type = type_of(target.st_mode);
        e->info.mode = target.st_mode & 0777;
    } else {
        e->info.type = FILESYSTEM__FILE_TYPE__FILE_TYPE_UNSPECIFIED;
        e->info.mode = 0;
    }
}

static void fill_metadata(struct entry *e, const char *path)
{
    char names[NAMES_SIZE], value[VALUE_SIZE];
    ssize_t len = llistxattr(path, names, sizeof(names));

    for (char *name = names; len > 0 && name < names + len; name += strlen(name) + 1) {
        Filesystem__EntryInfo__MetadataEntry *entry;
        ssize_t n;

        if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 || e->n_metadata == ENTRY_METADATA_MAX)
            continue;
        n = lgetxattr(path, name, value, sizeof(value) - 1);
        if (n < 0)
            continue;
        value[n] = '\0';
        if (!e->metadata) {
            e->metadata = xcalloc(ENTRY_METADATA_MAX, sizeof(*e->metadata));
            e->info.metadata = xcalloc(ENTRY_METADATA_MAX, sizeof(*e->info.metadata));
        }
        entry = &e->metadata[e->n_metadata++];
        filesystem__entry_info__metadata_entry__init(entry);
        entry->key = xstrdup(name + strlen(PREFIX));
        entry->value = xstrdup(value);
        e->info.metadata[e->info.n_metadata++] = entry;
    }
}

static char *base_name(const char *path)
{
    size_t end = strlen(path);
    size_t start;

    while (end > 1 && path[end - 1] == '/')
        end--;
    start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return start == end ? xstrdup("/") : xstrndup(path + start, end - start);
}

bool entry_init(struct entry *e, const char *path)
{
    struct stat info;

    if (lstat(path, &info) < 0)
        return false;
    memset(e, 0, sizeof(*e));
    filesystem__entry_info__init(&e->info);
    google__protobuf__timestamp__init(&e->modified);
    e->path = xstrdup(path);
    e->name = base_name(path);
    repair(&e->path);
    repair(&e->name);
    e->info.path = e->path;
    e->info.name = e->name;
    e->info.type = type_of(info.st_mode);
    e->info.size = info.st_size;
    e->info.mode = info.st_mode & 0777;
    entry_format_mode(info.st_mode, e->permissions);
    e->info.permissions = e->permissions;
    user_name_of(info.st_uid, e->owner);
    e->info.owner = e->owner;
    group_name_of(info.st_gid, e->group);
    e->info.group = e->group;
    e->modified.seconds = info.st_mtim.tv_sec;
    e->modified.nanos = (int32_t)info.st_mtim.tv_nsec;
    e->info.modified_time = &e->modified;
    if (S_ISLNK(info.st_mode))
        fill_link(e, path);
    fill_metadata(e, path);
    return true;
}

void entry_deinit(struct entry *e)
{
    for (size_t i = 0; i < e->n_metadata; i++) {
        free(e->metadata[i].key);
        free(e->metadata[i].value);
    }
    free(e->metadata);
    free(e->info.metadata);
    free(e->path);
    free(e->name);
    free(e->link);
    memset(e, 0, sizeof(*e));
}

void entry_show_as(struct entry *e, const char *path)
{
    free(e->path);
    e->path = xstrdup(path);
    repair(&e->path);
    e->info.path = e->path;
}

void entry_trim(struct entry *e)
{
    Filesystem__EntryInfo all = e->info;

    filesystem__entry_info__init(&e->info);
    e->info.name = all.name;
    e->info.type = all.type;
    e->info.path = all.path;
    e->info.metadata = all.metadata; /* none of them is told; entry_deinit() frees them */
}

static bool is_unsupported(void)
{
    return errno == ENOTSUP || errno == EPERM || errno == ENOSYS;
}

bool entry_set_metadata(int fd, const struct metadata_pair *pairs, size_t n)
{
    char names[NAMES_SIZE], name[XATTR_NAME_MAX + 1];
    ssize_t len = flistxattr(fd, names, sizeof(names));

    for (char *old = names; len > 0 && old < names + len; old += strlen(old) + 1)
        if (strncmp(old, PREFIX, strlen(PREFIX)) == 0)
            fremovexattr(fd, old);
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof(name), PREFIX "%s", pairs[i].key);
        if (fsetxattr(fd, name, pairs[i].value, strlen(pairs[i].value), 0) < 0)
            return is_unsupported();
    }
    return true;
}
