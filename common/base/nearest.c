/* See nearest.h: the distance of Damerau and Levenshtein, with three rows of its table. */
#include "common/base/nearest.h"

#include <string.h>

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t nearest_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NEAREST_NAME_MAX + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];

    if (a_len > NEAREST_NAME_MAX || b_len > NEAREST_NAME_MAX)
        return NEAREST_NAME_MAX + 1;
    for (size_t j = 0; j <= b_len; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            row[j] =
                smaller(smaller(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = smaller(row[j], before[j - 2] + 1);
        }

        size_t *used = before;

        before = above;
        above = row;
        row = used;
    }
    return above[b_len];
}

size_t nearest_limit(size_t len)
{
    return len / 3 > 2 ? len / 3 : 2;
}
