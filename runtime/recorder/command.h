/*
 * Starting a command: as its user, in its directory, with its environment and limits, in a session
 * of its own, on pipes or on a terminal.
 */
#pragma once

#include "runtime/recorder/spec.h"

#include <sys/types.h>

struct command {
    pid_t pid;
    int in;       /* its input, non-blocking; -1 when it has none that can be written */
    int out, err; /* its output, non-blocking; on a terminal out alone */
    int gate;     /* until command_run() */
};

#define COMMAND_INIT ((struct command){.in = -1, .out = -1, .err = -1, .gate = -1})

struct start_failure {
    int code; /* 126 or 127, as shells have it */
    char message[512];
};

/*
 * Makes the process, which waits: its number can be written down before it runs. False: it could
 * not be made, *ret says why.
 */
bool command_prepare(struct command *c, const struct command_spec *s, struct start_failure *ret);

/* Lets it go. False when it could not become what it should; then there is no process. */
bool command_run(struct command *c, struct start_failure *ret);

void command_deinit(struct command *c);

/* The name of the user that the recorder runs as. Owned by the caller. */
char *command_own_user(void);
