/* What a stream ends with that has to leave (call_handler.on_drain) and can go on elsewhere. */
#pragma once

#include "common/base/status.h"

struct call;

/* go_on: what the caller does next, as the end of a sentence. */
__attribute__((format(printf, 3, 4))) void leave_status(const struct call *c, struct status *ret,
                                                        const char *go_on, ...);
