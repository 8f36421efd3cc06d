/* The zygote process itself. What is said with it is in zygote_wire.h. */
#pragma once

#include "runtime/local/zygote/zygote.h"

struct zygote_process {
    const char *data_dir;
    int agent_fd;
    int daemon_fd; /* the first daemon's connection */
    bool net_proxy;
    bool own_dir; /* the data directory is removed at the end */
};

/* Serves one daemon after the other, until one says stop or none has come for too long. */
_Noreturn void sandbox_zygote_run(const struct zygote_process *process);
