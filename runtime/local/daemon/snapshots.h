/*
 * What is kept of sandboxes' files, in <data_dir>/snapshots: <name>.tar has the files (the zygote
 * writes it) and <name>.json says what they are. A snapshot is there when both are. The record of a
 * paused sandbox of which only the files are left stands there in the same way.
 */
#pragma once

#include "common/base/list.h"
#include "common/base/status.h"
#include "runtime/local/daemon/registry.h"

enum { SNAPSHOT_NAME_MAX = 64, SNAPSHOT_LABEL_MAX = 128 };

struct snapshot {
    struct list node;                    /* oldest first */
    char name[SNAPSHOT_NAME_MAX + 1];    /* of its files: 20 of [a-z0-9] */
    char label[SNAPSHOT_LABEL_MAX + 1];  /* "local/NAME"; empty: it has none */
    char tag[SNAPSHOT_LABEL_MAX + 1];    /* "default" */
    char sandbox_id[SANDBOX_ID_LEN + 1]; /* what it was taken of */
    int64_t created_ns;                  /* wall clock */
    struct blueprint blueprint;          /* of the sandbox it was taken of */
};

struct snapshots {
    char *dir; /* owned */
    struct list all;
};

/* Reads what is there; what is only half there goes. */
void snapshots_init(struct snapshots *s, const char *data_dir);
void snapshots_deinit(struct snapshots *s);

/* A name for new files. */
bool snapshots_make_name(char to[static SNAPSHOT_NAME_MAX + 1], struct status *st);
/* The name of the files that are left of a paused sandbox. */
void snapshots_own_name(const char *sandbox_id, char to[static SNAPSHOT_NAME_MAX + 1]);

/*
 * Adds one whose files are there. label: what the client called it, [namespace/]name[:tag], or
 * NULL; an older one of that label and tag is gone then. NULL: st says why, and the files are gone.
 */
const struct snapshot *snapshots_add(struct snapshots *s, const char *name, const char *label,
                                     const struct sandbox *of, struct status *st);
/* Whether a client may call one so. */
bool snapshots_label_is_valid(const char *label);
/* By what clients name it: its id, with or without the tag, or its label. NULL: there is none. */
const struct snapshot *snapshots_find(const struct snapshots *s, const char *reference);
void snapshots_remove(struct snapshots *s, const struct snapshot *which);
void snapshots_drop_files(struct snapshots *s, const char *name);

/* The id as clients see it: "<name>:default", "local/NAME:TAG". */
void snapshot_id(const struct snapshot *s, char *to, size_t size);

/* Keeps the record of a sandbox whose files are saved under its own name; and forgets both. */
void snapshots_store(struct snapshots *s, const struct sandbox *sandbox);
void snapshots_unstore(struct snapshots *s, const char *sandbox_id);
void snapshots_each_stored(struct snapshots *s,
                           void (*each)(void *ctx, const char *id, const uint8_t *record,
                                        size_t len),
                           void *ctx);
