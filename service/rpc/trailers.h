/* How a call's verdict travels: the one place where a status becomes gRPC trailers. */
#pragma once

#include "common/base/status.h"

#include <grpc/grpc.h>

enum { TRAILERS_MAX = 3 };

struct trailers {
    grpc_metadata items[TRAILERS_MAX];
    size_t n;
    grpc_slice message; /* the status message */
};

/* request_id may be empty. The slices are owned until trailers_deinit(). */
void trailers_init(struct trailers *t, const struct status *st, const char *request_id);
void trailers_deinit(struct trailers *t);
