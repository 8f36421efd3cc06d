/*
 * All sandboxes of a zygote, from the moment they are asked for until nothing is left of them: who
 * starts, who runs until when, who ends. Nothing here waits for a sandbox.
 */
#pragma once

#include "common/base/list.h"
#include "common/http/loop.h"
#include "runtime/local/zygote/sandbox_spawn.h"

struct sandbox_lives {
    struct loop *loop;         /* borrowed */
    struct sandbox_host *host; /* borrowed */
    struct list all;           /* oldest first */
    struct list savings;       /* sandboxes whose files are being saved */
    uint64_t last_serial;
    struct loop_fd clock; /* fires at the first deadline */
    int64_t courtesy_ns;  /* how long behind it we wait for the daemon to act */
    /* Something that a daemon wants to know; the descriptors in it stay ours. */
    void (*tell)(void *ctx, const struct zygote_event *e);
    void *ctx;
};

/* tell and ctx are the caller's to set. */
bool sandbox_lives_init(struct sandbox_lives *l, struct loop *loop, struct sandbox_host *host,
                        struct status *st);
/* Ends all and waits until nothing is left. */
void sandbox_lives_deinit(struct sandbox_lives *l);

/* Begins to make one, which has no deadline yet. NULL: st says why. */
struct sandbox *sandbox_lives_create(struct sandbox_lives *l, const char *id,
                                     const struct sandbox_order *order, struct status *st);

/* One that starts or runs; NULL, and st says so, when there is none. */
struct sandbox *sandbox_lives_find(const struct sandbox_lives *l, const char *id,
                                   struct status *st);
/* The next of those that run behind that serial; NULL when there are no more. */
struct sandbox *sandbox_lives_behind(const struct sandbox_lives *l, uint64_t serial);

/* Takes the record's descriptor; -1: it keeps the one it has. */
void sandbox_lives_set(struct sandbox *s, int64_t deadline_ns, enum zygote_at_deadline at_deadline,
                       int take_record_fd);
/* Stops it where it is, or lets it go on. */
bool sandbox_lives_freeze(struct sandbox *s, bool frozen, struct status *st);
/* Begins to save its files under a name; that it is done will be told. It should stand still. */
bool sandbox_lives_save(struct sandbox *s, const char *name, struct status *st);
/* Ends it. told: when nothing is left of it; else nobody hears of it any more. */
void sandbox_lives_kill(struct sandbox *s, bool told);

/* The daemon is there, or it has gone, and then what it had begun to make is ended. */
void sandbox_lives_attend(struct sandbox_lives *l, bool daemon);
