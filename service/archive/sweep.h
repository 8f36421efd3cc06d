/*
 * Sandboxes end by themselves when their time is over, and nobody is told. So every pod looks, now
 * and then, for those whose end is near, and copies what they have recorded so far. Pods do not
 * talk about it: what one has copied, another finds archived.
 */
#pragma once

#include <stdint.h>

struct archive;
struct sweeper;

/* before_end_ms: how near. Its first round is some time later than now, so that pods take turns. */
struct sweeper *sweeper_new(struct archive *a, int64_t before_end_ms);
/* Waits for what runs. NULL is fine. */
void sweeper_free(struct sweeper *s);
