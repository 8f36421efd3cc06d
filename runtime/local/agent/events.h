/*
 * GET /events: what happens in the sandbox, told to the daemon as it happens. Not for the outside:
 * the edge keeps the route closed.
 *
 * A stream of lines, each a JSON object. What was said before a follower came is told first, as far
 * as it is remembered.
 *
 *   {"time_ns":1,"level":"info","logger":"process","message":"Process started",
 *    "fields":{"event_type":"process_start","pid":"7","cmd":"/bin/bash -l -c true"}}
 *   {"metrics":{...}}         as GET /metrics; every five seconds while somebody follows
 */
#pragma once

#include "common/base/list.h"
#include "common/http/server.h"
#include "envd/process/process.pb-c.h"
#include "runtime/local/agent/metrics.h"

enum { EVENTS_REMEMBERED = 64 };

struct events {
    struct agent *agent; /* borrowed */
    struct list followers;
    struct loop_timer sample;
    struct metrics metrics;
    char *said[EVENTS_REMEMBERED]; /* owned; a ring of lines */
    size_t n_said;                 /* ever */
};

struct process;

void events_init(struct events *e, struct agent *agent);

/* The life of a command. */
void events_process_started(struct events *e, const struct process *p);
void events_process_ended(struct events *e, const struct process *p, const char *how);
/* One that could not be started. */
void events_process_failed(struct events *e, const Process__ProcessConfig *config, const char *why);

void events_get(struct agent *agent, struct http_exchange *x);
