/*
 * A directory on its way out of a sandbox: frames of the recorder in, an archive out. The archive
 * is made here, header by header, of what each frame says once that is checked, so a sandbox cannot
 * have anything in it that leads out of the directory it is unpacked to, or that one tool reads
 * differently from another. Content is passed on as it comes. Pure.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/tar/tar.h"
#include "sandbox/v1/trees.pb-c.h"

#include <openssl/evp.h>

enum {
    TREE_RELAY_FULL = 64 * 1024, /* no more is taken while this much waits */
    TREE_RELAY_OUT_MAX = TREE_RELAY_FULL + 2 * TAR_HEADER_MAX,
    TREE_RELAY_VERSION_MAX = 256,
    TREE_RELAY_SKIPPED_MAX = 100,
};

struct tree_relay {
    uint64_t max_bytes, max_entries; /* 0: none */
    Sandbox__V1__TreeCounts counts;

    /* Up to where the archive has come: for the next process, and for a cursor. */
    char path[TAR_PATH_MAX + 1];              /* the last entry; "": none yet */
    char version[TREE_RELAY_VERSION_MAX + 1]; /* "": all of it was passed on */
    uint64_t offset;                          /* in its content, then */
    bool at_end;                              /* all entries were */

    struct buf head; /* a FileEntry; empty until it has come */
    bool has_head;
    Sandbox__V1__SkippedEntry *skipped[TREE_RELAY_SKIPPED_MAX]; /* owned */
    size_t n_skipped;
    EVP_MD_CTX *sha256; /* owned; NULL: the start of the archive is not known */

    bool last_is_dir; /* what path is, if it is known */
    bool resuming;    /* the next entry must be path, in this version */
    struct buf frame; /* with its length in front */
    uint64_t left;    /* of a content */
    size_t padding;   /* behind it */
    bool ended;       /* the process said so */
};

void tree_relay_init(struct tree_relay *t, uint64_t max_bytes, uint64_t max_entries);
void tree_relay_deinit(struct tree_relay *t);

/* Goes on where a cursor says. False: it is none. */
bool tree_relay_set_cursor(struct tree_relay *t, const uint8_t *data, size_t len);
/* The cursor for what was put out so far. */
bool tree_relay_add_cursor(const struct tree_relay *t, struct buf *to, uint32_t number);

/* Another process will go on. */
void tree_relay_restart(struct tree_relay *t);

/*
 * Takes some of the process's output and appends to `out` (whose cap is TREE_RELAY_OUT_MAX or more)
 * until TREE_RELAY_FULL is reached. Returns how much was taken. What does not hold together, or is
 * more than it may be, is a failure in st; out is good as far as it came.
 */
size_t tree_relay_feed(struct tree_relay *t, const uint8_t *data, size_t len, struct buf *out,
                       struct status *st);

/* The end of the archive, after the process's. False: it was not that. */
bool tree_relay_finish(struct tree_relay *t, struct buf *out, uint8_t ret_sha256[32],
                       struct status *st);
