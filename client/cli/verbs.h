/* All verbs, and what main() does with them. */
#pragma once

#include "client/cli/cli.h"

enum { CLI_MAX_OPTIONS = 48 }; /* of a verb, those before the verb included */

extern const struct option cli_global_options[];
extern const struct verb *const cli_families[]; /* NULL ends it */

/* Runs the command line; returns the exit code. */
int cli_main(int argc, char **argv);
