/* The verbs that ask something of a command's writer: input, signal, resize, ack; and wait. */
#pragma once

#include "common/base/status.h"
#include "runtime/recorder/request.h"
#include "runtime/recorder/state.h"

bool drive_input(const struct state *s, const struct request *r, struct status *st);
bool drive_signal(const struct state *s, const struct request *r, struct status *st);
bool drive_resize(const struct state *s, const struct request *r, struct status *st);
bool drive_ack(const struct state *s, const struct request *r, struct status *st);
