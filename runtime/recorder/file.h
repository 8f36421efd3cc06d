/* The verb `file`: see FileSpec in proto/recorder/v1/recorder.proto. */
#pragma once

#include "runtime/recorder/request.h"
#include "runtime/recorder/state.h"

bool file_verb(const struct state *s, const struct request *r, struct status *st);
