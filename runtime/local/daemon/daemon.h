/*
 * The daemon's whole state, and what can be done to a sandbox. All on the loop's thread, but for
 * the calls to the zygote, which the keeper makes.
 *
 * A sandbox lives as long as its entry in the registry: it is added once its agent answers, and
 * removed when it was killed, by request, by its timer or because its processes died.
 */
#pragma once

#include "common/base/options.h"
#include "common/http/loop.h"
#include "common/http/server.h"
#include "runtime/local/api/rate.h"
#include "runtime/local/daemon/history.h"
#include "runtime/local/daemon/keeper.h"
#include "runtime/local/daemon/registry.h"
#include "runtime/local/daemon/snapshots.h"
#include "runtime/local/daemon/template.h"
#include "runtime/local/daemon/token.h"
#include "runtime/local/egress/egress.h"
#include "runtime/local/egress/network.h"

struct tls_server;

enum {
    API_ROUTES_MAX = 64,
    NETWORK_TEXT_MAX = 256 << 10, /* so much of a record is left for what an update may bring */
};

struct daemon_config {
    const char *listen;
    const char *data_dir; /* NULL: a directory of our own, gone at exit */
    const char *api_key;  /* NULL: any key of E2B's format */
    const char *domain;   /* NULL: localhost; once it serves: none is told to clients */
    int64_t max_lifetime_ms;
    int64_t max_sandboxes;
    const char *template_dir;          /* NULL: there is no template but "base" */
    struct zygote_limits limits;       /* where a template has none; 0: the default */
    int64_t rate_limit;                /* requests per second and route; 0: any number */
    bool tls;                          /* HTTPS too, on the same port */
    const char *name_servers;          /* of egress_resolver_new() */
    struct option_strings egress_open; /* of egress_server_init() */
    bool egress_proxy;                 /* of zygote_config */
    int64_t orphan_ms;                 /* of zygote_config */
};

struct daemon {
    struct daemon_config config;
    struct loop loop;
    struct http_server *server;
    struct tls_server *tls; /* owned; NULL: HTTP alone */
    char address[80];       /* where it listens */
    char domain[32];        /* "localhost:PORT" */
    struct zygote *zygote;  /* owned by main; NULL in tests of what needs none */
    struct keeper keeper;
    struct loop_fd signal_io;
    struct rate rates[API_ROUTES_MAX]; /* by route */
    struct registry registry;
    struct histories histories;
    struct egress_server egress;
    uint8_t seed[TOKEN_SEED_LEN]; /* of the access tokens */
    struct list creations;        /* sandboxes that are being made */
    int64_t starting;             /* how many */
    struct list endings;          /* daemon_end.c's: sandboxes of which there is still something */
    struct list keyed;            /* those of them that have an Idempotency-Key: api_create's */
    bool failed;                  /* the zygote died: nothing works any more */
    struct list changes;          /* daemon_pause.c's: what is going on with busy sandboxes */
    struct snapshots snapshots;
    struct templates templates;
    struct status no_disk; /* why there is no writable layer on disk; OK: there is */
    bool letting_go;       /* it ends, its sandboxes do not */
    bool stopping;         /* what comes back from the keeper is of no interest any more */
    uint8_t *scratch;      /* owned; one read of the proxy */
};

/* What create asked for, checked. */
struct sandbox_request {
    int64_t timeout_s;
    char *from;        /* owned; the snapshot to start with, NULL: none */
    char *template_id; /* owned */
    struct blueprint blueprint;
    bool auto_pause, keeps_memory, auto_resume;
    bool secure;
    bool internet;
    struct pairs metadata;
    struct pairs envs;
    struct network network;
    struct creation_key key;
};

void sandbox_request_deinit(struct sandbox_request *r);

/* s is NULL, and st says why, when there is no sandbox. RESOURCE_EXHAUSTED: too many there are. */
typedef void daemon_created(void *ctx, struct sandbox *s, const struct status *st);

/* Makes a sandbox of what it takes from the request; done is called from the loop, mostly later. */
void daemon_create(struct daemon *d, struct sandbox_request *take, daemon_created *done, void *ctx);
/*
 * The same as s in all that is not files and processes, with those of a snapshot. id: s's own, to
 * take its place, or NULL for one of its own.
 */
void daemon_create_like(struct daemon *d, const struct sandbox *s, const char *id, const char *from,
                        int64_t timeout_s, daemon_created *done, void *ctx);
/*
 * Ends it and cuts everything that goes on with it. s is gone afterwards, its processes soon: then,
 * unless it is NULL, runs on the loop once nothing of it is left.
 */
void daemon_end(struct daemon *d, struct sandbox *s, const char *why, struct task *then);
/* The zygote has ended it. True: that is what daemon_end() wanted. */
bool daemon_take_end(struct daemon *d, const char *id);
/* Nobody waits for ends any more. Behind the keeper's and the server's stop. */
void daemon_drop_endings(struct daemon *d);
/* Takes it out of the registry, and what belongs to it there. */
void daemon_forget(struct daemon *d, struct sandbox *s);
/* An entry of its log, by us. why: more to say, or NULL. */
void daemon_note(struct sandbox *s, enum note_level level, const char *message, const char *why);
/* It begins to be used, or is not any more: what watches it and ends it. */
void daemon_wake(struct daemon *d, struct sandbox *s);
void daemon_rest(struct daemon *d, struct sandbox *s);
/* Moves its end to left_ms from now. */
void daemon_set_timeout(struct daemon *d, struct sandbox *s, int64_t left_ms);
/* Replaces what it may reach and who may reach it; what is not permitted any more is cut. */
bool daemon_set_network(struct daemon *d, struct sandbox *s, struct network *take, bool internet,
                        struct status *st);
/* The same for what a network is besides its policy, which take keeps. */
bool daemon_take_network(struct daemon *d, struct sandbox *s, struct network *take, bool internet,
                         struct status *st);
/* How long it may still live at most, whatever is asked for; 0 when that is used up. */
int64_t daemon_max_left_ms(const struct daemon *d, const struct sandbox *s);

/* What the zygote does at the sandbox's end while we are not there. */
enum zygote_at_deadline daemon_at_deadline(const struct sandbox *s);
/* Gives the zygote the sandbox's record and deadline: to be called whenever they have changed. */
void daemon_keep(struct daemon *d, const struct sandbox *s);
/* Runs the task on the loop once all is done that the zygote has been asked for until now. */
void daemon_then(struct daemon *d, struct task *task);
/* Takes over what an earlier daemon left with the zygote. Before the keeper's start. */
bool daemon_adopt(struct daemon *d, struct status *st);
/* For daemon_adopt(): one that is in the registry begins to be served; takes sockets and policy. */
void daemon_enter(struct daemon *d, struct sandbox *s, const struct sandbox_net_sockets *net,
                  struct egress_policy *policy);

/* Reads the templates. Before the keeper's start. */
bool daemon_start_templates(struct daemon *d, struct status *st);
/* Reads them anew. False: they stay as they were. */
bool daemon_read_templates(struct daemon *d, struct status *st);

/* Takes in what the zygote tells: the keeper's event(). */
void daemon_on_event(void *daemon, const struct zygote_event *e);
/* For daemon_on_event(): the zygote has started it, or could not. Takes the event's sockets. */
void daemon_take_started(struct daemon *d, struct zygote_event *e);
/* Nothing that is being made will come any more. Behind the keeper's stop. */
void daemon_drop_creations(struct daemon *d);
