/*
 * The sandboxes there are: what the control plane knows of each, found by id, listed in the order
 * of their start. Pure memory: time, ids and tokens come from the caller.
 */
#pragma once

#include "common/base/list.h"
#include "common/http/loop.h"
#include "runtime/local/daemon/blueprint.h"
#include "runtime/local/daemon/creation_key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* E2B's ids: "i" and 20 of [a-z0-9]. */
enum { SANDBOX_ID_LEN = 21, SANDBOX_TOKEN_LEN = 64 };

struct daemon;
struct egress;
struct history;
struct observer;

struct sandbox {
    struct daemon *daemon; /* borrowed: the owner of the registry */
    char id[SANDBOX_ID_LEN + 1];
    struct list by_start;
    struct sandbox *next_in_bucket;
    char *template_id;                        /* owned */
    struct blueprint blueprint;               /* of that template, as it was */
    char access_token[SANDBOX_TOKEN_LEN + 1]; /* empty: the sandbox is open */
    struct pairs metadata;
    struct pairs envs; /* defaults of all its processes; needed when it starts again */
    struct creation_key creation;
    bool internet;       /* allow_internet_access */
    int64_t start_ns;    /* wall clock, whole microseconds, no two the same */
    int64_t end_ns;      /* wall clock */
    int64_t start_at_ns; /* the same moments in CLOCK_BOOTTIME, */
    int64_t end_at_ns;   /* which is what expiry goes by */
    int64_t timeout_s;   /* what create asked for */
    bool auto_pause;     /* at its end it is paused, not killed, */
    bool keeps_memory;   /* with its memory */
    bool auto_resume;    /* and resumed when somebody comes by */
    bool paused;         /* it stands still, and has no end */
    bool stored;         /* paused, and its files are all that there is of it */
    bool busy;           /* it is being paused, resumed or saved; see daemon_pause.c */
    struct list waiting; /* those who want it when it is not */
    struct loop_timer expiry;
    struct list streams; /* the proxy's, to be cut when the sandbox ends */
    struct list idle;    /* the proxy's connections to the agent between requests */

    struct history *history;   /* borrowed: the daemon's; its log and metrics */
    struct observer *observer; /* the daemon's: what fills them; gone before the sandbox is */

    struct egress *egress;                     /* the daemon's; gone before the sandbox is */
    char *network;                             /* owned; see network.h; NULL: none was given */
    char *mask_host;                           /* owned; see network.h */
    char traffic_token[SANDBOX_TOKEN_LEN + 1]; /* empty: its ports are for everybody */
};

struct registry {
    struct list by_start;     /* oldest first */
    struct sandbox **buckets; /* owned */
    size_t n_sandboxes;
    int64_t last_start_ns;
};

void registry_init(struct registry *r);
/* Frees the sandboxes too. */
void registry_deinit(struct registry *r);

bool sandbox_id_is_valid(const char *id, size_t len);
/* Makes an id of 20 random bytes. */
void sandbox_id_make(const uint8_t random[static 20], char id[static SANDBOX_ID_LEN + 1]);

/* A sandbox that is in no registry yet. The caller owns it. */
struct sandbox *registry_make(const char *id);
void registry_unmake(struct sandbox *s); /* frees what was never in one; NULL is fine */
/* Puts it in. It starts now and lives for lifetime_ns. The id must be new. */
void registry_add(struct registry *r, struct sandbox *take, int64_t wall_ns, int64_t boottime_ns,
                  int64_t lifetime_ns);
/* Puts in one that has its times already. */
void registry_restore(struct registry *r, struct sandbox *take);
/* One that is in it starts again: now, and for lifetime_ns. Lists show it in its new place. */
void registry_restart(struct registry *r, struct sandbox *s, int64_t wall_ns, int64_t boottime_ns,
                      int64_t lifetime_ns);
/* NULL when there is none. */
struct sandbox *registry_find(const struct registry *r, const char *id);
/* Takes it out and frees it. Its timer and lists are the caller's to empty before. */
void registry_remove(struct registry *r, struct sandbox *s);

/* Moves the end to so much after now. */
void sandbox_set_end(struct sandbox *s, int64_t wall_ns, int64_t boottime_ns, int64_t left_ns);
