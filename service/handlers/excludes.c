/* See excludes.h. */
#include "service/handlers/excludes.h"

#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"

#include <string.h>

#define INVALID_FIELD SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD

enum { PATTERNS_MAX = 100, BYTES_MAX = 16 * 1024 }; /* all must fit one argument of the recorder */

bool excludes_check(const char *field, char *const *patterns, size_t n, struct status *st)
{
    size_t bytes = 0;

    if (n > PATTERNS_MAX)
        return status_bad_field(st, INVALID_FIELD, field, "%s has %zu patterns: at most %d", field,
                                n, PATTERNS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (patterns[i][0] == '\0')
            return status_bad_field(st, INVALID_FIELD, field, "%s has an empty pattern", field);
        bytes += strlen(patterns[i]);
    }
    if (bytes > BYTES_MAX)
        return status_bad_field(st, INVALID_FIELD, field, "%s has %zu bytes: at most %d", field,
                                bytes, BYTES_MAX);
    return true;
}

char **excludes_copy(char *const *patterns, size_t n)
{
    char **copy = n > 0 ? xcalloc(n, sizeof(*copy)) : NULL;

    for (size_t i = 0; i < n; i++)
        copy[i] = xstrdup(patterns[i]);
    return copy;
}
