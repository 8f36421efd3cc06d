/*
 * The zygote: a small single-threaded process, forked before the daemon has threads or secrets,
 * that makes sandboxes and ends them. Nothing of the daemon's memory is ever in a sandbox, and a
 * sandbox's PDEATHSIG follows a thread that lives as long as the zygote.
 *
 * When the daemon goes away, however it does, the zygote sees its socket close, ends all sandboxes,
 * removes what they left (cgroups, directories) and exits. When the zygote dies, its sandboxes die.
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
 * All functions are for one thread of the daemon. They block: zygote_create() about 3 ms.
 */
#pragma once

#include "common/base/status.h"
#include "runtime/local/sandbox_net.h"

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
    bool net_proxy; /* programs use a proxy even where connections could be redirected */
};

/* 0 stands for the default in every field. */
struct zygote_limits {
    int64_t memory_bytes; /* 1 GiB; of all processes (tier B: of each) */
    int64_t disk_bytes;   /* 2 GiB; the writable layer. It is in memory, and counts on top */
    int64_t files;        /* 200,000; its inodes */
    int64_t pids;         /* 512 */
    int64_t cpu_millis;   /* 2000; CPU time per second, in thousandths (tier B: not limited) */
};

struct zygote_env {
    const char *name;
    const char *value;
};

struct zygote_spec {
    const char *id;                /* [A-Za-z0-9_-]{1,64} */
    const char *template_id;       /* E2B_TEMPLATE_ID inside */
    const struct zygote_env *envs; /* defaults of every process */
    size_t n_envs;
    const char *access_token;    /* NULL: the agent is open */
    const char *default_user;    /* NULL: "user" */
    const char *default_workdir; /* NULL: the user's home */
    struct zygote_limits limits;
};

enum { ZYGOTE_ID_MAX = 64 };

/* A sandbox that ended without zygote_kill(); everything of it is already removed. */
struct zygote_exit {
    char id[ZYGOTE_ID_MAX + 1];
    int wait_status; /* of its agent, as waitpid() gives it */
};

/*
 * Forks the zygote and probes. To be called first thing in main(). NULL when this machine gives
 * neither tier; st then says in a sentence what is missing.
 */
struct zygote *zygote_start(const struct zygote_config *config, struct status *st);

/* Ends all sandboxes, waits until nothing of them is left, frees. NULL is fine. */
void zygote_stop(struct zygote *z);

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
 * On success both sockets take connections, and *ret_net is the way out, which is the caller's.
 * ALREADY_EXISTS, RESOURCE_EXHAUSTED, INTERNAL.
 */
bool zygote_create(struct zygote *z, const struct zygote_spec *spec,
                   struct sandbox_net_sockets *ret_net, struct status *st);

/*
 * Ends every process of the sandbox and removes its mounts, cgroups and directory; all done when it
 * returns. NOT_FOUND when there is no such sandbox. There is no zygote_exit for it afterwards.
 */
bool zygote_kill(struct zygote *z, const char *id, struct status *st);

/* Readable (poll, epoll) while zygote_next_exit() has something to give, or the zygote is gone. */
int zygote_fd(const struct zygote *z);

enum zygote_next {
    ZYGOTE_EXIT, /* *ret is filled */
    ZYGOTE_NONE, /* nothing for now */
    ZYGOTE_GONE, /* the zygote died, and all sandboxes with it */
};

enum zygote_next zygote_next_exit(struct zygote *z, struct zygote_exit *ret);
