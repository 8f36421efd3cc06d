/*
 * The writer's side of a journal: appends events to segments, keeps it within its limit, and keeps
 * it whole when the disk is full.
 */
#pragma once

#include "runtime/recorder/meta.h"
#include "runtime/recorder/segments.h"

/* How far the readers are, as the policies for a full journal need it. */
struct journal_readers {
    uint64_t acked_seq; /* OVERFLOW_BLOCK */
    uint64_t slowest;   /* the next event of the slowest reader that moves; UINT64_MAX: none */
};

enum {
    OVERFLOW_KEEP_UP = 1,
    OVERFLOW_DROP_OLDEST = 2,
    OVERFLOW_BLOCK = 3,
};

enum {
    BATCH_PAYLOADS = 6, /* events of one append at most */
    BATCH_BYTES = BATCH_PAYLOADS * JOURNAL_PAYLOAD_MAX,
};

struct journal_file {
    int dir; /* borrowed */
    int fd;  /* owned; the newest segment; -1 before the first event */
    uint32_t overflow;
    uint64_t max_bytes, segment_max;
    struct segments segments; /* the newest last; its size is where it is whole */
    uint64_t total;           /* of their sizes */
    uint64_t next_seq;
    uint64_t bytes;      /* of output, so far */
    uint64_t offsets[3]; /* of stdout, stderr, terminal */
    int64_t last_ns;
    uint64_t lost_bytes; /* of output that found no space, since the last event */
};

void journal_file_init(struct journal_file *j, int dir, const struct meta *m);
void journal_file_deinit(struct journal_file *j);

/* Goes on behind what is there (its torn tail cut off). False with errno, EBADMSG when corrupt. */
bool journal_file_resume(struct journal_file *j);

/*
 * Makes room for one append of BATCH_BYTES of output, dropping what the policy lets it. False: the
 * command has to wait for readers.
 */
bool journal_file_make_room(struct journal_file *j, const struct journal_readers *readers);

/*
 * Appends up to BATCH_BYTES of output. False: the disk is full; nothing of it was written. The
 * caller either tries again or gives the output up with journal_file_lose().
 */
bool journal_file_output(struct journal_file *j, enum journal_kind kind, const uint8_t *data,
                         size_t len);
void journal_file_lose(struct journal_file *j, enum journal_kind kind, size_t len);

/* Tries to account for what was given up; every append does so too. */
bool journal_file_flush(struct journal_file *j);

/* The other events; they are written whatever the limit. False with errno. */
bool journal_file_started(struct journal_file *j, uint32_t pid);
bool journal_file_exited(struct journal_file *j, const struct journal_exit *exit,
                         struct end_record *end);
bool journal_file_closed(struct journal_file *j, struct end_record *end);

static inline uint64_t journal_file_last_seq(const struct journal_file *j)
{
    return j->next_seq - 1;
}
