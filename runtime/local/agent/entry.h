/* What is told about a file. */
#pragma once

#include "envd/filesystem/filesystem.pb-c.h"
#include "runtime/local/agent/users.h"

#include <limits.h>
#include <stdbool.h>

enum { ENTRY_METADATA_MAX = 64, ENTRY_MODE_SIZE = 16 };

/* An EntryInfo with all it points to. Init, use, deinit. */
struct entry {
    Filesystem__EntryInfo info;
    Google__Protobuf__Timestamp modified;
    char permissions[ENTRY_MODE_SIZE];
    char owner[USER_NAME_MAX];
    char group[USER_NAME_MAX];
    char *path;                                     /* owned */
    char *name;                                     /* owned */
    char *link;                                     /* owned; NULL: it is none */
    Filesystem__EntryInfo__MetadataEntry *metadata; /* owned */
    size_t n_metadata;
};

/* Looks at path, which is told as it is. False: errno is set, and there is nothing to deinit. */
bool entry_init(struct entry *e, const char *path);
void entry_deinit(struct entry *e);
/* Tells another path for it. */
void entry_show_as(struct entry *e, const char *path);
/* Leaves name, type and path, which is all that the first SDKs can read. */
void entry_trim(struct entry *e);

/* Replaces all metadata of a file; keys without their prefix. What the file system lacks is
 * skipped. */
struct metadata_pair {
    char *key;
    char *value;
};
bool entry_set_metadata(int fd, const struct metadata_pair *pairs, size_t n);

/* "drwxr-xr-x", as Go writes modes. Pure. */
void entry_format_mode(unsigned mode, char to[ENTRY_MODE_SIZE]);
