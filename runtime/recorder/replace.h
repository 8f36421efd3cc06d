/*
 * Contents that are to stand at paths: whether they do already, whether they may, and giving files
 * that were uploaded beside those paths their names. Answers are recorder.v1.FileReport.
 */
#pragma once

#include "runtime/recorder/place.h"

#include "common/base/buf.h"
#include "common/base/sha256.h"

#include <stddef.h>
#include <stdint.h>

struct content {
    char *path, *staged; /* owned; as sent, then absolute */
    uint64_t size;
    uint32_t mode; /* 0: no matter */
    uint8_t sha256[SHA256_LEN], if_sha256[SHA256_LEN];
    bool create_only, conditional; /* if_sha256 is set */
};

void content_deinit(struct content *c);

/* A FileContent. False: it is none. */
bool content_parse(const uint8_t *data, size_t len, struct content *ret);

bool replace_check(const struct state *s, const struct place *p, struct content *list, size_t n,
                   struct buf *out, struct status *st);

/* All or, where a precondition fails, none. No staged file is left. */
bool replace_commit(const struct state *s, const struct place *p, struct content *list, size_t n,
                    struct buf *out, struct status *st);

bool replace_discard(const struct place *p, struct content *list, size_t n, struct status *st);
