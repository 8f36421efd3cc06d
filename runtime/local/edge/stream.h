/*
 * One end of a relay: a connected socket with bounded output, on the loop's thread.
 *
 * Callbacks come from the loop only, never from inside a call; each may close the stream.
 */
#pragma once

#include "common/base/buf.h"
#include "common/http/loop.h"

#include <sys/uio.h>

enum { STREAM_CHUNK = 256 << 10 }; /* one read; and how much output may wait, if not said */

struct stream {
    struct loop *loop; /* borrowed; NULL: not open */
    struct loop_fd io;
    struct buf out; /* not yet sent */
    size_t high;    /* how much of that is enough; 0: STREAM_CHUNK. Set before it is opened */
    bool reading;   /* wanted */
    bool turn;      /* reading is next, if both are possible */
    bool full;      /* stream_send() has returned false */
    bool ending;    /* our side is closed when all is sent */
    bool broken;    /* sending failed; what the peer sent before can still be read */
    void (*readable)(struct stream *s); /* bytes, the end, or an error: to be found by reading */
    void (*drained)(struct stream *s);  /* there is room again */
    void (*sent)(struct stream *s);     /* all is sent behind stream_finish() */
    void (*hung_up)(struct stream *s);  /* the peer is gone while nobody reads */
};

/* Takes the descriptor. The callbacks are set by the owner before; all but readable() may be NULL.
 */
void stream_open(struct stream *s, struct loop *l, int fd);
void stream_close(struct stream *s); /* may be called twice */
/* Closed, but for the descriptor, which is the caller's. */
int stream_release(struct stream *s);

/* Switches readable() on and off. */
void stream_read(struct stream *s, bool on);
/* Takes all of it. False: enough is waiting, stop until drained(). */
bool stream_send(struct stream *s, const struct iovec *v, int n);
bool stream_send_bytes(struct stream *s, const void *data, size_t len);
/* Nothing more will be sent. */
void stream_finish(struct stream *s);
