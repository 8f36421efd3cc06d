/*
 * What every attempt of an exchange leaves behind: its operation's count and latency, and a span in
 * the trace of whatever it is done for. Called by exchange.c alone, so that no operation can forget
 * it; on the loop's thread.
 */
#pragma once

#include "service/e2b/request.h"

struct upstream;

/* Either may be NULL. */
struct upstream *upstream_new(struct metrics *m, struct tracer *tracer);
void upstream_free(struct upstream *u);

/* The attempt begins; its headers are being made. */
void upstream_begin(struct exchange *x, const char *method, const char *path);
/* It was answered, or failed; the first time counts. A stream is answered when it begins. */
void upstream_end(struct exchange *x, enum code code);
/* Another attempt follows. */
void upstream_retry(const struct exchange *x);
