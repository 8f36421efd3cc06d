/* GET /metrics: what the sandbox uses. */
#pragma once

#include "common/http/server.h"

struct agent;

/* Between two looks. */
struct metrics {
    int64_t at_ns;
    int64_t cpu_ns;
};

void metrics_get(struct agent *agent, struct http_exchange *x);
