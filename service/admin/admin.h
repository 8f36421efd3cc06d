/*
 * The admin port: plain HTTP for whoever operates a pod. Metrics, health as Kubernetes' probes ask
 * for it, and what one looks at when something is wrong. It changes nothing, and shows no secret.
 *
 * It has a thread of its own, so that it answers whatever the rest of the program does, from before
 * the first call until after the last.
 */
#pragma once

#include "common/base/status.h"
#include "service/metrics/metrics.h"

#include <stdbool.h>

struct config;

struct admin_config {
    const char *listen;          /* HOST:PORT */
    bool any_port;               /* a port that is taken is no failure: another one is used */
    struct metrics *metrics;     /* borrowed */
    const struct config *config; /* borrowed; shown */
    /* What gRPC core tells of its servers, or of one server's or socket's number; malloc'ed JSON.
     * NULL: there is none such. Any thread. */
    char *(*channelz)(const char *kind, long number);
};

enum admin_state { ADMIN_STARTING, ADMIN_READY, ADMIN_DRAINING };

struct admin;

bool admin_new(const struct admin_config *config, struct admin **ret, struct status *st);
/* NULL is fine. */
void admin_free(struct admin *a);

/* HOST:PORT with the real port. */
const char *admin_address(const struct admin *a);

/* Any thread: what /readyz says. */
void admin_set_state(struct admin *a, enum admin_state state);
