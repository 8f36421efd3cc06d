/* What every process tells of itself: the process_… metrics that dashboards know, and the build. */
#pragma once

#include "service/metrics/metrics.h"

void metrics_add_process(struct metrics *m);
