/* See encoding.h. As E2B's agent, "*" means gzip only for who refuses identity. */
#include "runtime/local/agent/encoding.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct item {
    const char *name;
    size_t len;
    double quality;
};

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t");
}

/* The first "q" parameter that is a number, or 1. Ends at the comma. */
static double read_quality(const char *s)
{
    double quality = 1;
    char *end;

    while (*s == ';') {
        s = skip_blanks(s + 1);
        if (strncasecmp(s, "q=", 2) == 0) {
            double value = strtod(s + 2, &end);

            if (end > s + 2)
                quality = value;
        }
        s += strcspn(s, ";,");
    }
    return quality;
}

/* False at the end of the list. */
static bool next(const char **s, struct item *ret)
{
    if (!**s)
        return false;
    *s = skip_blanks(*s);
    ret->name = *s;
    ret->len = strcspn(*s, ";, \t");
    *s += strcspn(*s, ";,");
    ret->quality = read_quality(*s);
    *s += strcspn(*s, ",");
    *s += **s == ',';
    return true;
}

static bool is(const struct item *item, const char *name)
{
    return item->len == strlen(name) && strncasecmp(item->name, name, item->len) == 0;
}

static bool refuses_identity(const char *accept)
{
    bool refused = false, accepted = false, rest_refused = false;
    struct item item;

    while (next(&accept, &item)) {
        if (is(&item, "identity") && item.quality > 0)
            accepted = true;
        else if (is(&item, "identity"))
            refused = true;
        else if (is(&item, "*") && !(item.quality > 0))
            rest_refused = true;
    }
    return refused || (rest_refused && !accepted);
}

enum encoding encoding_choose(const char *accept, bool must_be_identity)
{
    bool no_identity = accept && refuses_identity(accept);
    enum encoding best = no_identity ? ENCODING_NONE : ENCODING_IDENTITY;
    double quality = 0;
    struct item item;

    if (must_be_identity)
        return best;
    while (accept && next(&accept, &item)) {
        if (!(item.quality > quality))
            continue;
        if (is(&item, "gzip") || (is(&item, "*") && no_identity))
            best = ENCODING_GZIP;
        else if (is(&item, "identity") || is(&item, "*"))
            best = ENCODING_IDENTITY;
        else
            continue;
        quality = item.quality;
    }
    return best;
}
