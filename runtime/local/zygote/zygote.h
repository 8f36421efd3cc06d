/*
 * The zygote: a small single-threaded process, forked before the daemon has threads or secrets,
 * that makes sandboxes and ends them. Nothing of the daemon's memory is ever in a sandbox, and a
 * sandbox's PDEATHSIG follows a thread that lives as long as the zygote.
 *
 * The zygote outlives the daemon and has the last word on life and death. It holds each sandbox's
 * deadline and keeps it without anybody's help, and it holds a record of each: bytes of the
 * daemon's, which it never looks into and gives back to the daemon that comes next. That one finds
 * it at <data_dir>/zygote.sock and adopts what it holds. After some time without a daemon it ends
 * all sandboxes, removes what they left (cgroups, directories) and exits. When it is killed its
 * sandboxes die with it, and the next start on the data directory removes what they left.
 *
 * One sandbox is one directory of the host, <data_dir>/sandboxes/<id>/, with two sockets that its
 * agent (pid 1 inside) serves:
 *
 *   agent.sock  SOCK_STREAM; HTTP/1.1 as envd serves it on port 49983
 *   dial.sock   SOCK_SEQPACKET; reaches a TCP port inside. Any number of requests per connection,
 * each one packet of two bytes, the port in network order; the answer is one packet of one byte: 0,
 * with a connected TCP socket as SCM_RIGHTS, or errno of the attempt. 127.0.0.1 is tried, then ::1.
 * The agent is sandbox ground: check what arrives, and time out.
 *
 * All functions are for one thread of the daemon. They wait for the zygote, which answers within a
 * millisecond or two, and never for a sandbox: what takes longer is begun, and its end is an event.
 */
#pragma once

#include "common/base/status.h"
#include "runtime/local/zygote/sandbox_net.h"
#include "runtime/local/zygote/zygote_limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zygote;

/* How much isolation this machine lets us give; found by a probe that makes a sandbox. */
enum zygote_tier {
    ZYGOTE_TIER_A, /* root: a range of 65536 ids per sandbox, cgroups where the kernel has them */
    ZYGOTE_TIER_B, /* anyone: one id, limits per process, quota on the writable layer */
};

struct zygote_config {
    const char *data_dir; /* absolute; made (0711) when missing. One daemon at a time uses it. */
    const uint8_t *agent; /* the agent program; NULL: the built-in one */
    size_t agent_len;
    bool net_proxy;    /* programs use a proxy even where connections could be redirected */
    int64_t orphan_ms; /* how long sandboxes live without a daemon */
    bool own_dir;      /* nobody can come back to it: it goes with the daemon, orphan_ms is 0 */
};

struct zygote_env {
    const char *name;
    const char *value;
};

enum { ZYGOTE_ID_MAX = 64, ZYGOTE_RECORD_MAX = 1 << 20 };

enum zygote_at_deadline { ZYGOTE_DEADLINE_KILLS, ZYGOTE_DEADLINE_FREEZES };

/*
 * How long a sandbox lives, and what is known of it.
 *
 * The deadline is a moment of CLOCK_BOOTTIME: setting the host's clock moves no deadline, and the
 * time a host sleeps counts, so that what came due meanwhile ends when it wakes. The zygote acts
 * within 50 ms of it. While there is a daemon it leaves it the first ZYGOTE_COURTESY_MS of them, to
 * cut streams before the sandbox's end makes them look complete.
 */
struct zygote_life {
    const uint8_t *record; /* at most ZYGOTE_RECORD_MAX bytes; NULL: none */
    size_t record_len;
    int64_t deadline_ns; /* CLOCK_BOOTTIME; 0: none */
    enum zygote_at_deadline at_deadline;
};

enum { ZYGOTE_COURTESY_MS = 20 };

struct zygote_spec {
    const char *id;                /* [A-Za-z0-9_-]{1,64} */
    const char *template_id;       /* E2B_TEMPLATE_ID inside */
    const struct zygote_env *envs; /* defaults of every process */
    size_t n_envs;
    const char *access_token;    /* NULL: the agent is open */
    const char *default_user;    /* NULL: "user" */
    const char *default_workdir; /* NULL: the user's home */
    const char *rootfs;          /* absolute; what it sees in place of the host's system, or NULL */
    const char *start;           /* a command its default user's shell runs, NULL: none */
    const char *ready;           /* it is tried until it succeeds, then the sandbox has started, */
    int64_t start_ms;            /* for which there is so much time; 0: the usual */
    const char *from;            /* the snapshot whose files it starts with; NULL: none */
    struct zygote_limits limits;
    struct zygote_life life;
};

enum zygote_event_kind {
    ZYGOTE_STARTED, /* what zygote_create() began is over: status says how */
    ZYGOTE_ENDED,   /* without zygote_kill(), or by zygote_end(); everything of it is removed */
    ZYGOTE_FROZEN,  /* by its deadline, which is gone with it */
    ZYGOTE_SAVED,   /* what zygote_save() began is over: status says how */
};

struct zygote_event {
    enum zygote_event_kind kind;
    char id[ZYGOTE_ID_MAX + 1];
    char name[ZYGOTE_ID_MAX + 1];   /* SAVED: the snapshot */
    struct status status;           /* STARTED, SAVED; CODE_OK: its sockets take connections */
    struct sandbox_net_sockets net; /* STARTED and OK: the way out, the receiver's to close */
    int wait_status;                /* ENDED: of its agent, as waitpid() gives it */
    bool at_deadline;               /* ENDED: because its time was over */
};

/* A sandbox as the next daemon finds it. */
struct zygote_sandbox {
    char id[ZYGOTE_ID_MAX + 1];
    struct zygote_life life; /* the record is valid during the call */
    bool frozen;
    struct sandbox_net_sockets net; /* the receiver's to close */
};

/*
 * Connects to the zygote that holds the data directory, or else forks one, which probes. To be
 * called first thing in main(). NULL: FAILED_PRECONDITION says in a sentence what is missing on
 * this machine, that another daemon uses the directory, or that its zygote is of another version,
 * with which nothing can be done but to start that version again or to end it.
 */
struct zygote *zygote_start(const struct zygote_config *config, struct status *st);

/* Ends all sandboxes, waits until nothing of them is left, frees. NULL is fine. */
void zygote_stop(struct zygote *z);
/* Frees, and leaves all sandboxes to the next daemon. */
void zygote_release(struct zygote *z);

/* Whether it was there before: then there may be sandboxes to adopt. */
bool zygote_was_there(const struct zygote *z);
enum zygote_tier zygote_tier(const struct zygote *z);
/* What is enforced and how, for the ready line and GET /: "tier A: ids, memory (cgroup v1), …". */
const char *zygote_summary(const struct zygote *z);
/* Whether connections are redirected; else programs have to use SANDBOX_NET_PROXY_URL. */
bool zygote_net_redirects(const struct zygote *z);
/*
 * Writes the path of one of the sandbox's sockets, to connect to from this process; they fit
 * into sun_path. False when size is too small.
 */
bool zygote_agent_path(const struct zygote *z, const char *id, char *to, size_t size);
bool zygote_dial_path(const struct zygote *z, const char *id, char *to, size_t size);

/*
 * Calls each() for every sandbox that runs, oldest first; it may call zygote_kill(). What was still
 * being made when its daemon went is not among them: nobody knew of it, and it is gone. Before the
 * first zygote_next().
 */
bool zygote_adopt(struct zygote *z, void (*each)(void *ctx, const struct zygote_sandbox *s),
                  void *ctx, struct status *st);

/*
 * Begins to make a sandbox; there will be one ZYGOTE_STARTED for it, unless it is killed before.
 * ALREADY_EXISTS, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, INTERNAL.
 */
bool zygote_create(struct zygote *z, const struct zygote_spec *spec, struct status *st);

/*
 * Ends a sandbox. From here on it does not exist, there is no ZYGOTE_ENDED for it, and its
 * processes, cgroups and directory go within moments. NOT_FOUND.
 */
bool zygote_kill(struct zygote *z, const char *id, struct status *st);

/* The same, but there will be one ZYGOTE_ENDED once all of it is gone: then its id is free again.
 */
bool zygote_end(struct zygote *z, const char *id, struct status *st);

/* Changes deadline and record together, or neither. A record of NULL: that stays. NOT_FOUND. */
bool zygote_set(struct zygote *z, const char *id, const struct zygote_life *life,
                struct status *st);

/* Stops all its processes where they are, memory and all, or lets them go on. Its deadline stays.
 */
bool zygote_freeze(struct zygote *z, const char *id, struct status *st);
bool zygote_thaw(struct zygote *z, const char *id, struct status *st);

/*
 * Begins to write what the sandbox has in its files to <data_dir>/snapshots/<name>.tar, which is
 * there once it is whole; there will be one ZYGOTE_SAVED. The sandbox should be frozen until then.
 * The name is one of [A-Za-z0-9_-]{1,64}.
 */
bool zygote_save(struct zygote *z, const char *id, const char *name, struct status *st);

/*
 * Whether a sandbox's writable layer can be on disk (zygote_limits.on_disk). FAILED_PRECONDITION
 * says what is missing for it.
 */
bool zygote_try_disk(struct zygote *z, struct status *st);

/* Readable (poll, epoll) while zygote_next() has something to give, or the zygote is gone. */
int zygote_fd(const struct zygote *z);

enum zygote_next {
    ZYGOTE_EVENT, /* *ret is filled */
    ZYGOTE_NONE,  /* nothing for now */
    ZYGOTE_GONE,  /* the zygote died, and all sandboxes with it */
};

enum zygote_next zygote_next(struct zygote *z, struct zygote_event *ret);

/*
 * What the zygote and its agents have to say when something is badly wrong: text, readable without
 * waiting. Who does not read it misses it, nothing more.
 */
int zygote_log_fd(const struct zygote *z);
