/*
 * What to do when a call or a stream breaks, and which events of a stream are new. Pure: time,
 * chance and outcomes are passed in, decisions come out; follow.c and unary.c act on them.
 */
#pragma once

#include "client/include/sandbox.h"

#include <stdbool.h>
#include <stdint.h>

struct resume_policy {
    unsigned n_addresses; /* at least 1 */
    int64_t give_up_ms;
    int64_t backoff_min_ms;
    int64_t backoff_max_ms;
};

/* Attempts at something that goes from address to address. */
struct resume {
    struct resume_policy policy;
    unsigned address;         /* in use, below n_addresses */
    unsigned n_failed;        /* attempts in a row that brought nothing */
    int64_t failing_since_ms; /* when the first of them was made; -1: it goes well */
};

enum resume_what {
    RESUME_AGAIN,   /* at .address, after .wait_ms */
    RESUME_GIVE_UP, /* the error stands */
};

struct resume_step {
    enum resume_what what;
    int64_t wait_ms;
};

void resume_init(struct resume *r, const struct resume_policy *policy, unsigned address);

/* The attempt in hand brought something (an event, or an answer after a while): all is well. */
void resume_progress(struct resume *r);

/*
 * The attempt in hand failed at now_ms for a passing reason. Moves on to the next address. The
 * first failure after progress costs no wait where there is another address; after that the wait
 * doubles from backoff_min_ms to backoff_max_ms, cut by chance (any number) to between half and all
 * of itself. Never less than the server asked for. A wait that would end beyond give_up_ms is not
 * begun.
 */
struct resume_step resume_failed(struct resume *r, const struct sandbox_error *why, int64_t now_ms,
                                 uint32_t chance);

/* The order of a command's events. */
struct sequence {
    uint64_t first_seq; /* the first one asked for, at least 1 */
    uint64_t last_seq;  /* the last one accepted; starts at first_seq - 1 */
    bool any;           /* one was accepted */
    bool sparse;        /* events are left out between those that come: gaps are none */
    bool partial;       /* the view may end before the command does */
    bool exited;        /* the exit was */
    bool closed;        /* the very last one was */
};

enum sequence_verdict {
    SEQUENCE_NEW,      /* deliver it */
    SEQUENCE_REPEATED, /* it was delivered before: drop it */
    SEQUENCE_GAP,      /* something is missing in front of it */
};

void sequence_init(struct sequence *s, uint64_t from_seq);

/* The next event of a stream. Accepts it when it is new. */
enum sequence_verdict sequence_event(struct sequence *s, const Sandbox__V1__CommandEvent *event);

/* last_seq of a message whose events were all seen. False: it speaks of events that never came. */
bool sequence_claim(struct sequence *s, uint64_t last_seq);

/* Whether a stream that followed the command and ended without error did so at its proper end. */
bool sequence_is_complete(const struct sequence *s, Sandbox__V1__Until until);
