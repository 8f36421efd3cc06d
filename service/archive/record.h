/*
 * The objects of an archive: their names, and the Record of a command (proto/archive/v1). What is
 * read back is checked: an archive is trusted as little as a sandbox. Pure.
 */
#pragma once

#include "archive/v1/archive.pb-c.h"
#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/journal/parts.h"
#include "service/archive/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RECORD_ID_MAX = 64,
    RECORD_OWNER_MAX = 200,
    RECORD_SHA_LEN = 32,
    RECORD_PIECE_MAX = 1024 * 1024, /* of whole frames */
    RECORD_PIECES_MAX = 2048,
    RECORD_MAX = 8 * 1024 * 1024, /* what a Record may have; a command's arguments dominate it */
};

/*
 * Whose sandbox it is: a tenant's, else of who has a key of their own (NULL: neither), as the
 * operations of service/e2b have it. False: the tenant's name is too long.
 */
bool record_owner(const char *tenant, const char *api_key, char ret[RECORD_OWNER_MAX + 1]);

/* --- names --- */

/* What a Record's name says. */
struct record_name {
    int64_t start_ns;
    char command_id[RECORD_ID_MAX + 1];
    uint64_t last_seq;
    uint8_t sha[RECORD_SHA_LEN];
};

/* The oldest command first, as in ListCommands. */
int record_name_compare(const struct record_name *a, const struct record_name *b);

/* Owned by the caller. */
char *record_prefix(const char *owner, const char *sandbox_id);
char *record_key(const char *owner, const char *sandbox_id, const struct record_name *n);
char *record_piece_key(const char *owner, const char *sandbox_id, const char *command_id,
                       uint64_t first_seq, const uint8_t sha[RECORD_SHA_LEN]);

/* Of each command of a listing the newest Record, in order; names of other forms are none of ours.
 * The list is owned by the caller. */
size_t record_names(const struct store_names *l, struct record_name **ret);

/* --- contents --- */

void record_sha(const void *data, size_t len, uint8_t ret[RECORD_SHA_LEN]);
/* 2 * RECORD_SHA_LEN digits and a NUL. */
void record_hex(char *to, const uint8_t sha[RECORD_SHA_LEN]);

/* When a command began; 0: that is no time. */
int64_t record_start_ns(const Sandbox__V1__Command *c);

/* Reads and checks. *ret is to be freed with archive__v1__record__free_unpacked(). */
bool record_read(const struct buf *object, const struct record_name *name,
                 Archive__V1__Record **ret, struct status *st);

/* The pieces as parts of a journal; owned by the caller. */
struct segment *record_segments(const Archive__V1__Record *r);

/* DATA_LOSS; always false. What is archived of the command does not hold together … */
bool record_corrupt(const char *command_id, struct status *st);
/* … or was not all of it. */
bool record_cut_short(const char *command_id, uint64_t last_seq, struct status *st);
