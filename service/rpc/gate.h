/*
 * What stands between a call and its handler: the gate decides about every call of a method that
 * exists, before anything of the request is read, so a refusal is trailers-only, and no handler can
 * forget to ask. What it lets in carries a pass until the call is freed.
 */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>

struct call;

/* Made by the gate, and part of something larger of its own. */
struct pass {
    const char *tenant; /* for the log; NULL: none */
};

struct gate {
    /* On the call's worker. False: st is what the caller hears. */
    bool (*enter)(struct gate *g, const struct call *c, struct pass **ret, struct status *st);
    /* On the call's worker, once for each pass. */
    void (*leave)(struct gate *g, struct pass *pass);
};
