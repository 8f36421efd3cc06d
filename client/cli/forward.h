/* Passing the terminal's signals on to a command in a sandbox. */
#pragma once

#include "client/include/sandbox.h"

struct forward;

/* Takes SIGINT, SIGTERM, SIGHUP and SIGQUIT from now on. To be called before there are threads. */
void forward_block(void);

/*
 * Sends every such signal to the command, the third within two seconds excepted: that one stops the
 * client. The strings must outlive it.
 */
struct forward *forward_start(struct sandbox_client *client, const char *sandbox_id,
                              const char *command_id);

/* The command has started: from now on, one that is not found is over. Any thread. */
void forward_started(void *forward);

/* Ends it; calls of its own are stopped with the client. NULL is fine. True: the user wants out. */
bool forward_stop(struct forward *f);
