/*
 * One table of options drives the command line, the environment, --help and --version.
 *
 * Order of precedence: the command line, then the environment, then what the target held before.
 * `--name=value` and `--name value` are the same; a flag (OPTION_BOOL) stands alone and takes
 * `--name=false` to be switched off. An OPTION_STRINGS may be given again and again.
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

enum { OPTION_STRINGS_MAX = 256 };

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
    const char *arg;  /* how --help names the value; NULL for flags */
    const char *help; /* one or more sentences; --help wraps them */
    int64_t min, max; /* of INT, DURATION (ms) and SIZE; both 0: any non-negative value */
    bool secret;      /* the value is never printed */
};

struct program {
    const char *name;    /* "sandboxd" */
    const char *summary; /* one line */
    const char *usage;   /* what follows the name in the usage line, e.g. "[OPTIONS] VERB" */
    const struct option *options;
    const char *more; /* printed at the end of --help; NULL for none */
    bool anywhere;    /* options may follow operands; argv is reordered, operands last */
};

enum options_result {
    OPTIONS_RUN,   /* go on; *ret_args is the index of the first operand */
    OPTIONS_DONE,  /* --help or --version was printed: exit with 0 */
    OPTIONS_ERROR, /* st says what is wrong and what to do: print it, exit with 2 */
};

/*
 * Options end at "--"; without `anywhere` also at the first operand, so that a verb can have
 * options of its own.
 */
enum options_result options_parse(const struct program *p, int argc, char **argv, int *ret_args,
                                  struct status *st);

void options_print_help(const struct program *p, FILE *to);
