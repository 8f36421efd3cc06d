/* Printing the events of a command as they come, for run and logs. */
#pragma once

#include "client/cli/cli.h"

struct output {
    const struct cli *cli; /* borrowed */
    char command_id[SANDBOX_ID_SIZE];
    bool leave_started;            /* stop reading once the command runs */
    bool headers;                  /* there are several commands: say whose output follows */
    int write_errno;               /* why our own output could not be written; 0: it could */
    unsigned n_breaks;             /* in a row */
    void (*on_started)(void *arg); /* NULL: nobody cares */
    void *arg;
};

/* Handlers that print. The output must outlive the stream. */
struct sandbox_handlers output_handlers(struct output *o);

/* sandboxctl's exit code for a command that ended so; says on stderr what the code does not. */
int output_exit_code(const struct cli *cli, const struct sandbox_result *result);
