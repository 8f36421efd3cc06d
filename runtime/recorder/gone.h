/*
 * An account of removed segments: how many bytes of output each of their events held, in about two
 * bytes per event. With it, a reader that comes for events that are gone is told exactly how much
 * it misses. It is bounded too: what is older than its two files is counted from their beginning
 * only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct segment;

/* Adds a segment that is about to be removed. Best effort: a full disk costs the account, no more.
 */
void gone_add(int dir, const struct segment *s, uint64_t max_journal_bytes);

/*
 * The command's output before event seq, which is gone. True when it is known exactly; else *ret is
 * the smallest it can be said to be missing from, the start of the account (*ret is then an upper
 * bound of the bytes before seq).
 */
bool gone_bytes_before(int dir, uint64_t seq, uint64_t *ret);
