/*
 * The daemon's whole state, and what can be done to a sandbox. One thread, the loop's.
 *
 * A sandbox lives as long as its entry in the registry: it is added once its agent answers, and
 * removed when it was killed, by request, by its timer or because its processes died.
 */
#pragma once

#include "common/http/loop.h"
#include "common/http/server.h"
#include "runtime/local/registry.h"
#include "runtime/local/zygote.h"

struct daemon_config {
    const char *listen;
    const char *data_dir; /* NULL: a directory of our own, gone at exit */
    const char *api_key;  /* NULL: any key of E2B's format */
    const char *domain;   /* NULL: none is told to clients */
    int64_t max_lifetime_ms;
    int64_t max_sandboxes;
};

struct daemon {
    struct daemon_config config;
    struct loop loop;
    struct http_server *server;
    char address[80];      /* where it listens */
    struct zygote *zygote; /* NULL in tests of what needs none */
    struct loop_fd zygote_io;
    struct loop_fd signal_io;
    struct registry registry;
    uint8_t seed[32]; /* of the access tokens */
    bool failed;      /* the zygote died: nothing works any more */
    uint8_t *scratch; /* owned; one read of the proxy */
};

/* What create asked for, checked. */
struct sandbox_request {
    int64_t timeout_s;
    bool secure;
    bool internet;
    struct pairs metadata;
    struct pairs envs;
};

void sandbox_request_deinit(struct sandbox_request *r);

/* Makes a sandbox. RESOURCE_EXHAUSTED: there are too many; anything else: it did not start. */
struct sandbox *daemon_create(struct daemon *d, struct sandbox_request *take, struct status *st);
/* Ends it and cuts everything that goes on with it. s is gone afterwards. */
void daemon_kill(struct daemon *d, struct sandbox *s, const char *why);
/* Moves its end to left_ms from now. */
void daemon_set_timeout(struct daemon *d, struct sandbox *s, int64_t left_ms);
/* How long it may still live at most, whatever is asked for; 0 when that is used up. */
int64_t daemon_max_left_ms(const struct daemon *d, const struct sandbox *s);

/* Takes in what ended by itself. */
void daemon_reap(struct daemon *d);
