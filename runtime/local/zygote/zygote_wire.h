/*
 * What is said between a daemon (zygote.c, zygote_start.c) and the zygote (sandbox_desk.c). Two
 * SOCK_SEQPACKET connections: one for requests, each with its reply before the next, and one for
 * events, which come by themselves. The zygote speaks first, with a hello; then the daemon greets,
 * and from there on it is the zygote's daemon.
 *
 * Daemon and zygote may be of different builds. They get on when their numbers of the protocol are
 * the same: to be raised when the meaning of something changes; what changes the size of something
 * is seen by itself. The first two fields of a hello stay what they are for ever.
 */
#pragma once

#include "runtime/local/zygote/zygote.h"

#include <limits.h>
#include <sys/types.h>

/* The name of the zygote's socket in the data directory. */
#define ZYGOTE_SOCKET "zygote.sock"

/* Carries the daemon's end of the event connection and the read end of the log. */
struct zygote_hello {
    uint32_t protocol;
    int32_t pid;
    struct status status; /* not OK: the zygote does not want, or cannot */
    bool was_there;
    enum zygote_tier tier;
    bool redirects;
    char summary[1024];
};

enum { HELLO_EVENTS, HELLO_LOG, HELLO_FDS };

enum zygote_op {
    ZYGOTE_GREET,  /* sets orphan_ms */
    ZYGOTE_CREATE, /* carries the agent's configuration, and a record */
    ZYGOTE_KILL,
    ZYGOTE_END, /* the same, and it is told */
    ZYGOTE_SET, /* carries a record, or none: it stays */
    ZYGOTE_FREEZE,
    ZYGOTE_THAW,
    ZYGOTE_SAVE, /* under the name */
    ZYGOTE_TRY_DISK,
    ZYGOTE_ADOPT, /* the next sandbox that runs */
    ZYGOTE_STOP,  /* has no reply: the connections are closed once all is done */
};

struct zygote_request {
    enum zygote_op op;
    char id[ZYGOTE_ID_MAX + 1];
    char name[ZYGOTE_ID_MAX + 1]; /* of a snapshot; CREATE: what it starts with, or empty */
    char rootfs[PATH_MAX];        /* CREATE: the system it sees; empty: the host's */
    int64_t start_ms;             /* CREATE: how long it may take; 0: the usual time */
    uint64_t behind;              /* a serial, or 0 */
    int64_t orphan_ms;
    struct zygote_limits limits;
    int64_t deadline_ns;
    enum zygote_at_deadline at_deadline;
};

enum { REQUEST_CONFIG, REQUEST_RECORD, REQUEST_FDS };

/* That of an adoption is NOT_FOUND behind the last sandbox. */
struct zygote_reply {
    struct status status;
    char id[ZYGOTE_ID_MAX + 1];
    uint64_t serial;
    int64_t deadline_ns;
    enum zygote_at_deadline at_deadline;
    bool frozen;
};

enum { REPLY_TCP, REPLY_DNS, REPLY_RECORD, REPLY_FDS };
enum { EVENT_TCP, EVENT_DNS, EVENT_FDS };

enum { ZYGOTE_FDS_MAX = 4 };

enum {
    ZYGOTE_PROTOCOL = 5 << 20 | (sizeof(struct zygote_hello) + sizeof(struct zygote_request) +
                                 sizeof(struct zygote_reply) + sizeof(struct zygote_event)),
};

/* A packet with n descriptors, of which those that are -1 arrive as such. False: errno. */
bool zygote_send(int to, const void *data, size_t len, const int *fds, size_t n, int flags);

/*
 * One packet of at most size bytes; its length. Fills n descriptors, which are the caller's; a
 * missing one is -1. 0: the other side is gone; -1: errno.
 */
ssize_t zygote_receive(int from, void *data, size_t size, int *fds, size_t n, int flags);
