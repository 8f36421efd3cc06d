/*
 * One table of options drives the command line, the environment, a file, --help, --version, and
 * the pages of options_page.h.
 *
 * Order of precedence: the command line, then the environment, then the file, then what the target
 * held before. `--name=value` and `--name value` are the same; a flag (OPTION_BOOL) stands alone
 * and takes `--name=false` to be switched off. An OPTION_STRINGS may be given again and again; what
 * one source says replaces what a weaker one said.
 *
 * The file holds lines of `name = value`, with the names and values of the command line, blank ones
 * and comments (# in front). No quotes, no nesting, nothing to escape: whoever knows the flags
 * knows the file, errors name the line, and it needs no library.
 *
 * An unknown name is an error wherever it stands, and the error tells the nearest one there is.
 */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_type {
    OPTION_BOOL,     /* bool *; environment: 1, true, yes, 0, false, no */
    OPTION_INT,      /* int64_t *; between min and max */
    OPTION_DURATION, /* int64_t *, in milliseconds; written 500ms, 15s, 10m, 2h */
    OPTION_SIZE,     /* int64_t *, in bytes; written 4096, 64KiB, 4MiB, 1GiB */
    OPTION_STRING,   /* const char **; borrowed from argv or the environment */
    OPTION_STRINGS,  /* struct option_strings *; each value is one more, borrowed too */
};

enum { OPTION_STRINGS_MAX = 256, OPTIONS_MAX = 128 };

/* Where a value came from, the weakest first. */
enum option_source { OPTION_DEFAULT, OPTION_FROM_FILE, OPTION_FROM_ENV, OPTION_FROM_FLAG };

struct option_strings {
    const char *at[OPTION_STRINGS_MAX];
    size_t n;
};

struct option {
    const char *name; /* without the dashes; NULL ends the table */
    char letter;      /* short form, 0 for none */
    const char *env;  /* environment variable, NULL for none */
    enum option_type type;
    void *target;
    const char *arg;        /* how --help names the value; NULL for flags */
    const char *help;       /* one or more sentences; --help wraps them */
    int64_t min, max;       /* of INT, DURATION (ms) and SIZE; both 0: any non-negative value */
    bool secret;            /* the value is never printed */
    bool not_in_file;       /* a matter of one start */
    const char *choices;    /* of STRING: the words it may be, with a blank between; NULL: any */
    const char *by_default; /* what happens without it, where the target's value does not tell */
    const char *section;    /* the heading above this option and those that follow it */
};

struct program {
    const char *name;    /* "sandboxd" */
    const char *summary; /* one line */
    const char *usage;   /* what follows the name in the usage line, e.g. "[OPTIONS] VERB" */
    const struct option *options;
    const char *more; /* printed at the end of --help; NULL for none */
    bool anywhere;    /* options may follow operands; argv is reordered, operands last */

    /* All of these may be left out. */
    const char *about;             /* paragraphs, with an empty line between, for its pages */
    const char *manual;            /* the section of its page, 1 or 8; NULL: 8 */
    bool tells_defaults;           /* help ends each option with what its target held before */
    const char *file_option;       /* the STRING option that names the file */
    const char *env_prefix;        /* a variable that begins so and is no option is an error */
    const char *const *env_others; /* but for these; NULL-terminated */
    uint8_t *sources;              /* filled: an enum option_source for each option */
    /* --print=WHAT; false: there is no such page. */
    bool (*print_page)(const struct program *p, const char *what, FILE *to);
};

enum options_result {
    OPTIONS_RUN,   /* go on; *ret_args is the index of the first operand */
    OPTIONS_DONE,  /* --help, --version or a page was printed: exit with 0 */
    OPTIONS_ERROR, /* st says what is wrong and what to do: print it, exit with 2 */
};

/*
 * Options end at "--"; without `anywhere` also at the first operand, so that a verb can have
 * options of its own.
 */
enum options_result options_parse(const struct program *p, int argc, char **argv, int *ret_args,
                                  struct status *st);

void options_print_help(const struct program *p, FILE *to);

/* --- for those that make pages of the table --- */

struct buf;

/* What the target holds, as it would be written; "" for nothing, "***" for a secret. STRINGS have a
 * comma between. */
void options_value(const struct option *o, struct buf *ret);
/* What happens without the option; "" when its help says it. Before options_parse(). */
void options_default(const struct option *o, struct buf *ret);
