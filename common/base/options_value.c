/* See options.h: what the text of a value means, and the text of what a target holds. */
#include "common/base/options_impl.h"

#include "common/base/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *suffix;
    int64_t factor;
};

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}, {NULL, 0},
};

static const struct unit size_units[] = {
    {"", 1}, {"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {NULL, 0},
};

static bool parse_number(const char *text, const struct unit *units, int64_t *ret)
{
    char *end;

    errno = 0;
    long long n = strtoll(text, &end, 10);

    if (end == text || errno != 0)
        return false;
    if (units == NULL) {
        *ret = n;
        return *end == '\0';
    }
    for (const struct unit *u = units; u->suffix != NULL; u++) {
        if (strcmp(end, u->suffix) == 0)
            return !__builtin_mul_overflow((int64_t)n, u->factor, ret);
    }
    return n == 0 && *end == '\0' ? (*ret = 0, true) : false;
}

static bool parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off"};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return *ret = true, true;
        if (strcasecmp(text, no[i]) == 0)
            return *ret = false, true;
    }
    return false;
}

static const char *expected(enum option_type type)
{
    switch (type) {
    case OPTION_BOOL:
        return "true or false";
    case OPTION_INT:
        return "a whole number";
    case OPTION_DURATION:
        return "a duration such as 500ms, 15s, 10m or 2h";
    case OPTION_SIZE:
        return "a size such as 4096, 64KiB or 4MiB";
    case OPTION_STRING:
    case OPTION_STRINGS:
        break;
    }
    return "text";
}

static bool add_string(struct option_strings *strings, const char *source, const char *text,
                       struct status *st)
{
    if (strings->n == OPTION_STRINGS_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s is given more than %d times", source,
                          OPTION_STRINGS_MAX);
    strings->at[strings->n++] = text;
    return true;
}

/* choices: words with a blank between. */
static bool is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);

    for (const char *word = choices; *word != '\0'; word += strspn(word, " ")) {
        size_t n = strcspn(word, " ");

        if (n == len && memcmp(word, text, len) == 0)
            return true;
        word += n;
    }
    return false;
}

static bool store_string(const struct option *o, const char *source, const char *text,
                         struct status *st)
{
    if (o->choices != NULL && !is_choice(o->choices, text))
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s: %s is none of: %s", source, text,
                          o->choices);
    *(const char **)o->target = text;
    return true;
}

static bool store(const struct option *o, const char *source, const char *text, struct status *st)
{
    int64_t n = 0;
    bool ok = true;

    switch (o->type) {
    case OPTION_STRING:
        return store_string(o, source, text, st);
    case OPTION_STRINGS:
        return add_string(o->target, source, text, st);
    case OPTION_BOOL:
        ok = parse_bool(text, o->target);
        break;
    case OPTION_INT:
        ok = parse_number(text, NULL, &n);
        break;
    case OPTION_DURATION:
        ok = parse_number(text, duration_units, &n);
        break;
    case OPTION_SIZE:
        ok = parse_number(text, size_units, &n);
        break;
    }
    if (!ok)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s: %s is not %s", source,
                          o->secret ? "the value" : text, expected(o->type));
    if (o->type == OPTION_BOOL)
        return true;

    bool bounded = o->min != 0 || o->max != 0;

    if (n < o->min || (bounded && n > o->max))
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s: %s is outside %lld to %lld%s", source,
                          text, (long long)o->min, bounded ? (long long)o->max : INT64_MAX,
                          o->type == OPTION_DURATION ? " ms" : "");
    *(int64_t *)o->target = n;
    return true;
}

bool option_store(struct reading *r, const struct option *o, enum option_source source,
                  const char *where, const char *text, struct status *st)
{
    uint8_t *had = &r->sources[o - r->program->options];

    if (o->type == OPTION_STRINGS && *had != OPTION_DEFAULT && *had < source)
        ((struct option_strings *)o->target)->n = 0;
    *had = (uint8_t)source;
    return store(o, where, text, st);
}

/* --- the other way --- */

/* In the largest unit that leaves nothing over. */
static void append_in_units(struct buf *to, const struct unit *units, int64_t n)
{
    const struct unit *best = &units[0];

    for (const struct unit *u = units; u->suffix != NULL; u++) {
        if (n % u->factor == 0 && (n != 0 || u->factor <= 1000) && u->factor > best->factor)
            best = u;
    }
    buf_printf(to, "%lld%s", (long long)(n / best->factor), best->suffix);
}

static void append_strings(struct buf *to, const struct option_strings *strings)
{
    for (size_t i = 0; i < strings->n; i++)
        buf_printf(to, "%s%s", i > 0 ? "," : "", strings->at[i]);
}

/* The user and password that a URL may have are nobody's business. */
static void append_string(struct buf *to, const char *text)
{
    const char *host = strstr(text, "://"), *at;

    if (host != NULL) {
        host += 3;
        at = memrchr(host, '@', strcspn(host, "/?#"));
        if (at != NULL) {
            buf_printf(to, "%.*s***%s", (int)(host - text), text, at);
            return;
        }
    }
    buf_append_str(to, text);
}

static bool is_empty(const struct option *o)
{
    if (o->type == OPTION_STRING)
        return *(const char **)o->target == NULL;
    return o->type == OPTION_STRINGS && ((struct option_strings *)o->target)->n == 0;
}

void options_value(const struct option *o, struct buf *ret)
{
    if (is_empty(o))
        return;
    if (o->secret) {
        buf_append_str(ret, "***");
        return;
    }
    switch (o->type) {
    case OPTION_BOOL:
        buf_append_str(ret, *(bool *)o->target ? "true" : "false");
        break;
    case OPTION_INT:
        buf_printf(ret, "%lld", (long long)*(int64_t *)o->target);
        break;
    case OPTION_DURATION:
        append_in_units(ret, duration_units, *(int64_t *)o->target);
        break;
    case OPTION_SIZE:
        append_in_units(ret, size_units, *(int64_t *)o->target);
        break;
    case OPTION_STRING:
        append_string(ret, *(const char **)o->target);
        break;
    case OPTION_STRINGS:
        append_strings(ret, o->target);
        break;
    }
}

void options_default(const struct option *o, struct buf *ret)
{
    if (o->by_default != NULL)
        buf_append_str(ret, o->by_default);
    else if (o->type != OPTION_BOOL || *(bool *)o->target)
        options_value(o, ret);
}
