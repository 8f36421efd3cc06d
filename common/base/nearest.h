/* Which of the names there are was meant by one that is not among them. */
#pragma once

#include <stddef.h>

enum { NEAREST_NAME_MAX = 64 };

/* How many letters must be put in, taken out or exchanged (also with their neighbour). Names longer
 * than NEAREST_NAME_MAX are far from everything. */
size_t nearest_distance(const char *a, size_t a_len, const char *b, size_t b_len);

/* Near enough to ask "did you mean": a third of the letters may differ, two always. */
size_t nearest_limit(size_t len);
