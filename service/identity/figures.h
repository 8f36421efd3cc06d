/* What identity and certificates have to say on the page of metrics. */
#pragma once

#include "service/identity/identity.h"
#include "service/identity/rotation.h"
#include "service/metrics/metrics.h"

/* They are asked for each page, so they outlive the admin port. rotation: NULL without TLS. */
void figures_add(struct metrics *m, struct identity *identity, struct rotation *rotation);
