/* See options.h. Reading is split from meaning: find the option, find its value, store it. */
#include "common/base/options.h"

#include "common/base/version.h"

#include <ctype.h>
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

static bool store(const struct option *o, const char *source, const char *text, struct status *st)
{
    int64_t n = 0;
    bool ok = true;

    switch (o->type) {
    case OPTION_STRING:
        *(const char **)o->target = text;
        return true;
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

static bool read_environment(const struct program *p, struct status *st)
{
    for (const struct option *o = p->options; o->name != NULL; o++) {
        const char *value = o->env != NULL ? getenv(o->env) : NULL;

        if (value != NULL && *value != '\0' && !store(o, o->env, value, st))
            return false;
    }
    return true;
}

static const struct option *find(const struct program *p, const char *arg, size_t len)
{
    for (const struct option *o = p->options; o->name != NULL; o++) {
        if (len == 2 && arg[0] == '-' && arg[1] == o->letter && o->letter != '\0')
            return o;
        if (len > 2 && arg[1] == '-' && strlen(o->name) == len - 2 &&
            strncmp(arg + 2, o->name, len - 2) == 0)
            return o;
    }
    return NULL;
}

static bool read_option(const struct program *p, int argc, char **argv, int *at, struct status *st)
{
    const char *arg = argv[*at];
    size_t len = strcspn(arg, "=");
    const struct option *o = find(p, arg, len);
    const char *value = arg[len] == '=' ? arg + len + 1 : NULL;

    if (o == NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "unknown option %.*s; see %s --help",
                          (int)len, arg, p->name);
    if (value == NULL && o->type == OPTION_BOOL)
        value = "true";
    if (value == NULL) {
        if (*at + 1 >= argc)
            return status_set(st, CODE_INVALID_ARGUMENT, 0, "--%s needs a value: --%s=%s", o->name,
                              o->name, o->arg);
        value = argv[++*at];
    }

    char source[80];

    snprintf(source, sizeof(source), "--%s", o->name);
    return store(o, source, value, st);
}

/* Whether argv[at] is an option; a single "-" is an operand (stdin, as a rule). */
static bool is_option(char **argv, int at)
{
    return argv[at][0] == '-' && argv[at][1] != '\0';
}

/* Moves argv[from] to argv[to], from <= to, past what is in between. */
static void move_back(char **argv, int from, int to)
{
    char *moved = argv[from];

    memmove(argv + from, argv + from + 1, (size_t)(to - from) * sizeof(*argv));
    argv[to] = moved;
}

enum options_result options_parse(const struct program *p, int argc, char **argv, int *ret_args,
                                  struct status *st)
{
    int end = argc; /* operands found so far are behind it, in order */
    int at = 1;

    if (!read_environment(p, st))
        return OPTIONS_ERROR;
    while (at < end) {
        if (!is_option(argv, at)) {
            if (!p->anywhere)
                break;
            move_back(argv, at, argc - 1);
            end--;
            continue;
        }
        if (strcmp(argv[at], "--") == 0) {
            at++;
            break;
        }
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            options_print_help(p, stdout);
            return OPTIONS_DONE;
        }
        if (strcmp(argv[at], "--version") == 0) {
            printf("%s %s\n", p->name, SANDBOXD_VERSION);
            return OPTIONS_DONE;
        }
        if (!read_option(p, end, argv, &at, st))
            return OPTIONS_ERROR;
        at++;
    }
    /* What followed "--" comes after the operands that were before it. */
    for (int n = end - at; n > 0 && end < argc; n--)
        move_back(argv, at, argc - 1);
    *ret_args = at;
    return OPTIONS_RUN;
}

static void print_wrapped(const char *text, FILE *to)
{
    enum { INDENT = 8, WIDTH = 96 };
    int column = 0;

    while (*text != '\0') {
        int word = (int)strcspn(text, " ");

        if (column == 0)
            fprintf(to, "%*s", INDENT, ""), column = INDENT;
        else if (column + 1 + word > WIDTH)
            fprintf(to, "\n%*s", INDENT, ""), column = INDENT;
        else
            fputc(' ', to), column++;
        fprintf(to, "%.*s", word, text);
        column += word;
        text += word + strspn(text + word, " ");
    }
    fputc('\n', to);
}

void options_print_help(const struct program *p, FILE *to)
{
    fprintf(to, "Usage: %s %s\n\n%s\n\nOptions:\n", p->name, p->usage, p->summary);
    for (const struct option *o = p->options; o->name != NULL; o++) {
        if (o->letter != '\0')
            fprintf(to, "  -%c, --%s", o->letter, o->name);
        else
            fprintf(to, "  --%s", o->name);
        if (o->arg != NULL)
            fprintf(to, "=%s", o->arg);
        if (o->env != NULL)
            fprintf(to, "  (%s)", o->env);
        fputc('\n', to);
        print_wrapped(o->help, to);
    }
    fprintf(to, "  -h, --help\n        Print this and exit.\n");
    fprintf(to, "  --version\n        Print the version and exit.\n");
    if (p->more != NULL)
        fprintf(to, "\n%s", p->more);
}
