/* What the command line and the environment of e2b-local say. */
#pragma once

#include "runtime/local/daemon/daemon.h"

/* False: there is nothing to serve, and the program ends with *ret_exit. */
bool options_read(struct daemon_config *ret, int argc, char **argv, int *ret_exit);
