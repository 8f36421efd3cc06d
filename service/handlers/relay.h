/*
 * From the follower's bytes to response messages, without decoding or copying the events: finds the
 * frame boundaries, checks every frame and the sequence (the bytes come out of the sandbox and are
 * hostile), takes the follower's marks out (common/journal/verbs.h), and puts last_seq (and the
 * command, where asked) in front. Pure: no I/O, and no allocation but the rest of a cut frame.
 */
#pragma once

#include "common/journal/journal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In front of the frames: last_seq (a tag and a varint), command_id (a tag, a length, an id). */
enum { RELAY_ID_MAX = 64, RELAY_PREFIX_MAX = 11 + 2 + RELAY_ID_MAX };

struct relay {
    struct journal_check check; /* last_seq is the resume point */
    bool changes;               /* output is to be a FileChange per event: of a watch */
    uint64_t output;            /* bytes of output that passed */
    uint64_t gaps;              /* events that said others are gone */
    bool complete;              /* the follower said that it is at its end */
    uint8_t *rest;              /* owned; a frame whose end has not arrived */
    size_t rest_len;
};

/* from_seq: the first event that will come; 0 counts as 1. */
void relay_init(struct relay *r, uint64_t from_seq);
void relay_deinit(struct relay *r);

/* Bytes that must be free in front of the next block. */
size_t relay_headroom(const struct relay *r);

enum relay_result {
    RELAY_MESSAGE, /* *ret_start and *ret_len are a message within the block */
    RELAY_NOTHING, /* no whole frame; what was left out may have moved last_seq on */
    RELAY_CORRUPT, /* the journal does not hold together; the relay must not be used any more */
};

/* block: relay_headroom() free bytes, then len new ones. command_id: what the message is to name;
 * NULL for nothing. */
enum relay_result relay_feed(struct relay *r, uint8_t *block, size_t len, const char *command_id,
                             uint8_t **ret_start, size_t *ret_len);

/* The follower is gone, maybe in the middle of a frame: the next one starts at last_seq + 1. */
void relay_cut(struct relay *r);
