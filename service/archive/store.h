/*
 * Where an archive keeps its objects: a directory, or a bucket. Objects are small (they are read
 * and written whole), never changed, and named by what is in them (proto/archive/v1), so that any
 * number of pods may write the same one at the same time.
 *
 * Everything here may wait for a disk or a network, on the caller's thread, which therefore is one
 * of the archive's own (jobs.h). Safe to be used by several of them at once.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STORE_NAME_MAX = 255,     /* one element of a name, as directories have it */
    STORE_KEY_MAX = 1024,     /* a whole name, as S3 has it */
    STORE_LIST_MAX = 1 << 17, /* objects in one listing */
};

/* The last elements of names, sorted by their bytes. */
struct store_names {
    char **at; /* owned */
    size_t n;
};

void store_names_add(struct store_names *l, const char *name, size_t len);
void store_names_sort(struct store_names *l);
void store_names_deinit(struct store_names *l);

struct store {
    /* A name that exists keeps what it has. until_ns: monotonic. */
    bool (*put)(struct store *s, const char *key, const uint8_t *data, size_t len, int64_t until_ns,
                struct status *st);
    /* Appends to to. NOT_FOUND: there is no such object; DATA_LOSS: it has more than fits to. */
    bool (*get)(struct store *s, const char *key, struct buf *to, int64_t until_ns,
                struct status *st);
    /* What has a name of one more element below prefix (which ends without a slash). Nothing there
     * is an empty list. */
    bool (*list)(struct store *s, const char *prefix, struct store_names *ret, int64_t until_ns,
                 struct status *st);
    void (*free)(struct store *s);
};

/* path: of a directory that exists. */
bool store_dir_new(const char *path, struct store **ret, struct status *st);

struct store_s3_config {
    const char *bucket;
    const char *prefix;        /* "", or ends without a slash */
    const char *endpoint;      /* NULL: AWS's own of the region, named by the bucket */
    const char *region;        /* NULL: us-east-1 */
    const char *access_key_id; /* secrets: none of the three is ever part of a message */
    const char *secret_access_key;
    const char *session_token; /* NULL: none */
    int64_t request_timeout_ms;
};

/* Copies what it is given. */
bool store_s3_new(const struct store_s3_config *config, struct store **ret, struct status *st);

/* ARCHIVE_UNAVAILABLE with a sentence; always false. */
bool store_unavailable(struct status *st, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
