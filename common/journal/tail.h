/*
 * Where the last events, lines or bytes of a journal start. A place in a journal is one for each
 * stream, because a line of one may have begun before the last lines of another.
 */
#pragma once

#include "common/journal/parts.h"

enum { TAIL_STREAMS = 3, TAIL_ALL_STREAMS = 7 };

enum tail_unit { TAIL_NONE, TAIL_EVENTS, TAIL_LINES, TAIL_BYTES };

struct tail_options {
    enum tail_unit unit;
    uint64_t amount;
    /* What counts. */
    unsigned streams;            /* a bit for each, from stdout on */
    int64_t since_ns, before_ns; /* 0: no bound */
};

struct tail_place {
    uint64_t first_seq;           /* nothing before it is wanted */
    uint64_t whole_seq;           /* from this event on everything is */
    uint64_t begin[TAIL_STREAMS]; /* output before these offsets is not */
};

void tail_find(struct parts *p, const struct tail_options *o, struct tail_place *ret);
