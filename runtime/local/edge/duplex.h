/*
 * Two sockets joined: what one sends, the other gets, until both have said all. Each side is read
 * only while the other has room. On the loop's thread; embedded in its owner.
 */
#pragma once

#include "runtime/local/edge/stream.h"

struct duplex {
    struct stream side[2];
    bool ended[2];    /* this side has sent all it will */
    uint8_t *scratch; /* borrowed; for one read */
    size_t chunk;     /* its size */
    /* What side 0 sent, to be handed on by the owner. NULL: it is handed on as it is. False: cut.
     */
    bool (*pass)(struct duplex *d, const uint8_t *data, size_t len);
    /* All is said and got; or else one side failed. From the loop only; may free the duplex. */
    void (*done)(struct duplex *d, bool complete);
};

/* Sets the callbacks of both sides, which may be open already and hold output. */
void duplex_init(struct duplex *d);
/* Begins to read both, as far as there is room. */
void duplex_start(struct duplex *d);
void duplex_close(struct duplex *d); /* may be called twice */
