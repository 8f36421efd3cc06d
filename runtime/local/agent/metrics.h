/* GET /metrics: what the sandbox uses. */
#pragma once

#include "common/base/buf.h"
#include "common/http/server.h"

struct agent;

/* The last look, which the next one is compared with. */
struct metrics {
    int64_t at_ns;
    int64_t cpu_ns;
};

enum { METRICS_TEXT_MAX = 512 };

/* Appends envd's JSON object. The use of the CPU is that since the last look. */
void metrics_describe(const struct agent *agent, struct metrics *m, struct buf *out);

void metrics_get(struct agent *agent, struct http_exchange *x);
