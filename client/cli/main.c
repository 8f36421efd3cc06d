/* sandboxctl: see verbs.c. Here is only what concerns the process as a whole. */
#include "client/cli/verbs.h"

#include <signal.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    /* A reader that went away is an error of write(), and gRPC's own log is for its developers. */
    signal(SIGPIPE, SIG_IGN);
    setenv("GRPC_VERBOSITY", "NONE", 0);
    return cli_main(argc, argv);
}
