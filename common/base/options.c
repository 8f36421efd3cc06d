/* See options.h. The command line is read twice: first whether it can be understood at all, and
 * whether it asks for a page instead of a run; then, behind the weaker sources, for its values. */
#include "common/base/options.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/options_impl.h"
#include "common/base/version.h"

#include <stdlib.h>
#include <string.h>

/* One option of the command line. */
struct given {
    const struct option *option;
    const char *value;
};

static const struct option *find(const struct program *p, const char *arg, size_t len)
{
    for (const struct option *o = p->options; o->name != NULL; o++) {
        if (len == 2 && arg[0] == '-' && arg[1] == o->letter && o->letter != '\0')
            return o;
    }
    return len > 2 && arg[1] == '-' ? option_named(p, arg + 2, len - 2) : NULL;
}

static bool unknown(const struct program *p, const char *arg, size_t len, struct status *st)
{
    char hint[NEAREST_HINT_MAX] = "";

    if (len > 2 && arg[1] == '-')
        option_hint(p, false, "--", arg + 2, len - 2, hint);
    if (hint[0] == '\0')
        snprintf(hint, sizeof(hint), "; see %s --help", p->name);
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "unknown option %.*s%s", (int)len, arg, hint);
}

/* Leaves *at at the last word that belongs to the option. */
static bool take_option(const struct program *p, int argc, char **argv, int *at, struct given *ret,
                        struct status *st)
{
    const char *arg = argv[*at];
    size_t len = strcspn(arg, "=");
    const struct option *o = find(p, arg, len);

    if (o == NULL)
        return unknown(p, arg, len, st);
    ret->option = o;
    ret->value = arg[len] == '=' ? arg + len + 1 : NULL;
    if (ret->value == NULL && o->type == OPTION_BOOL)
        ret->value = "true";
    if (ret->value == NULL) {
        if (*at + 1 >= argc)
            return status_set(st, CODE_INVALID_ARGUMENT, 0, "--%s needs a value: --%s=%s", o->name,
                              o->name, o->arg);
        ret->value = argv[++*at];
    }
    return true;
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

/* --help, --version, --print=WHAT: OPTIONS_RUN when it is none of them. */
static enum options_result print_page(const struct program *p, const char *arg, struct status *st)
{
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
        options_print_help(p, stdout);
    else if (strcmp(arg, "--version") == 0)
        printf("%s %s\n", p->name, SANDBOXD_VERSION);
    else if (p->print_page == NULL || strncmp(arg, "--print=", 8) != 0)
        return OPTIONS_RUN;
    else if (!p->print_page(p, arg + 8, stdout)) {
        status_set(st, CODE_INVALID_ARGUMENT, 0, "there is no page %s; see %s --help", arg + 8,
                   p->name);
        return OPTIONS_ERROR;
    }
    return OPTIONS_DONE;
}

/* Takes the command line apart: its options, of which there is room for argc, and in *ret_args the
 * index of the first operand. */
static enum options_result take_apart(const struct program *p, int argc, char **argv,
                                      struct given *ret, size_t *ret_n, int *ret_args,
                                      struct status *st)
{
    int end = argc; /* operands found so far are behind it, in order */
    int at = 1;

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

        enum options_result page = print_page(p, argv[at], st);

        if (page != OPTIONS_RUN)
            return page;
        if (!take_option(p, end, argv, &at, &ret[(*ret_n)++], st))
            return OPTIONS_ERROR;
        at++;
    }
    /* What followed "--" comes after the operands that were before it. */
    for (int n = end - at; n > 0 && end < argc; n--)
        move_back(argv, at, argc - 1);
    *ret_args = at;
    return OPTIONS_RUN;
}

/* The file is named by the command line or the environment, and read before both. */
static void find_file(struct reading *r, const struct given *given, size_t n)
{
    const struct option *o = NULL;
    const char *value;

    if (r->program->file_option != NULL)
        o = option_named(r->program, r->program->file_option, strlen(r->program->file_option));
    if (o == NULL)
        return;
    value = o->env != NULL ? getenv(o->env) : NULL;
    if (value != NULL && *value != '\0')
        r->file = value;
    for (size_t i = 0; i < n; i++) {
        if (given[i].option == o)
            r->file = given[i].value;
    }
}

static bool read_sources(const struct program *p, const struct given *given, size_t n,
                         struct status *st)
{
    struct reading r = {.program = p};
    char where[80];

    find_file(&r, given, n);
    if (!options_read_file(&r, st) || !options_read_environment(&r, st))
        return false;
    for (size_t i = 0; i < n; i++) {
        snprintf(where, sizeof(where), "--%s", given[i].option->name);
        if (!option_store(&r, given[i].option, OPTION_FROM_FLAG, where, given[i].value, st))
            return false;
    }
    for (size_t i = 0; p->sources != NULL && p->options[i].name != NULL; i++)
        p->sources[i] = r.sources[i];
    return true;
}

enum options_result options_parse(const struct program *p, int argc, char **argv, int *ret_args,
                                  struct status *st)
{
    AUTO_FREE struct given *given = xcalloc((size_t)argc + 1, sizeof(*given));
    enum options_result result;
    size_t n = 0;

    result = take_apart(p, argc, argv, given, &n, ret_args, st);
    if (result == OPTIONS_RUN && !read_sources(p, given, n, st))
        return OPTIONS_ERROR;
    return result;
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

static void print_option(const struct program *p, const struct option *o, FILE *to)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(1 << 16);

    if (o->section != NULL)
        fprintf(to, "\n%s:\n", o->section);
    if (o->letter != '\0')
        fprintf(to, "  -%c, --%s", o->letter, o->name);
    else
        fprintf(to, "  --%s", o->name);
    if (o->arg != NULL)
        fprintf(to, "=%s", o->arg);
    if (o->env != NULL)
        fprintf(to, "  (%s)", o->env);
    fputc('\n', to);
    buf_append_str(&text, o->help);
    if (p->tells_defaults) {
        AUTO(buf_deinit) struct buf value = BUF_INIT(4096);

        options_default(o, &value);
        if (buf_len(&value) > 0)
            buf_printf(&text, " Default: %s.", buf_str(&value));
    }
    print_wrapped(buf_str(&text), to);
}

void options_print_help(const struct program *p, FILE *to)
{
    bool sections = p->options[0].name != NULL && p->options[0].section != NULL;

    fprintf(to, "Usage: %s %s\n\n%s\n%s", p->name, p->usage, p->summary,
            sections ? "" : "\nOptions:\n");
    for (const struct option *o = p->options; o->name != NULL; o++)
        print_option(p, o, to);
    if (sections)
        fprintf(to, "\nAbout the program:\n");
    if (p->print_page != NULL) {
        fprintf(to, "  --print=WHAT\n");
        print_wrapped("Print a page made of this table and exit: man, markdown, bash, zsh or fish "
                      "(completion), or config (a file of all options).",
                      to);
    }
    fprintf(to, "  -h, --help\n        Print this and exit.\n");
    fprintf(to, "  --version\n        Print the version and exit.\n");
    if (p->more != NULL)
        fprintf(to, "\n%s", p->more);
}
