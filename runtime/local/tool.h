/* The verbs of e2b-local besides serving: env, status and ca, which speak of a server. */
#pragma once

#include <stdbool.h>

bool tool_is_verb(const char *arg);
/* argv[0] is the program, argv[1] the verb. Returns the exit code. */
int tool_run(int argc, char **argv);
