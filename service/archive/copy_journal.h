/*
 * One journal on its way into an archive: what a follower writes goes in as it comes, checked; what
 * comes out are pieces of whole frames, and what the frames say of the command's end. Pure.
 */
#pragma once

#include "common/base/buf.h"
#include "common/journal/journal.h"
#include "service/archive/record.h"

struct copy_journal {
    struct buf in;    /* the start of a frame whose rest has not come */
    struct buf piece; /* whole frames */
    struct journal_check check;
    uint64_t piece_first;        /* of what is in piece */
    uint64_t piece_bytes_before; /* output ahead of it */
    uint64_t bytes;              /* output so far */
    bool complete;               /* the follower said that it is at its end */
    uint64_t exited_seq;         /* 0: not yet */
    int64_t exited_ns;
    uint8_t exited[JOURNAL_EXITED_MAX + 1024]; /* a sandbox.v1.Exited */
    size_t exited_len;
};

enum copy_journal_result {
    COPY_MORE,    /* all of it was taken */
    COPY_PIECE,   /* piece is full: take it, copy_journal_next_piece(), and feed no bytes at all */
    COPY_CORRUPT, /* no journal; what came before stands */
};

void copy_journal_init(struct copy_journal *j);
void copy_journal_deinit(struct copy_journal *j);

/* len: at most COPY_BLOCK_MAX; 0 after COPY_PIECE. */
enum { COPY_BLOCK_MAX = 64 * 1024 };
enum copy_journal_result copy_journal_feed(struct copy_journal *j, const uint8_t *data, size_t len);
void copy_journal_next_piece(struct copy_journal *j);
