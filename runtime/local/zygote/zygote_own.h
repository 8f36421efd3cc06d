/* What zygote_start.c and zygote.c share: a daemon's connection to its zygote. */
#pragma once

#include "runtime/local/zygote/zygote_wire.h"

#include <sys/types.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

struct zygote {
    pid_t pid;
    bool child;     /* of this process */
    int pid_fd;     /* owned; -1 when it is a child */
    int request_fd; /* owned */
    int event_fd;   /* owned */
    int log_fd;     /* owned */
    int dir_fd;     /* owned; the data directory */
    bool was_there;
    enum zygote_tier tier;
    bool redirects;
    char summary[1024];
    char *data_dir; /* owned */
};

/* A file in memory that nobody can change any more; -1: errno. flags: MFD_EXEC or 0. */
int zygote_sealed_file(const char *name, unsigned flags, const uint8_t *data, size_t len);

/* A request of which the outcome is all there is to know. fds: REQUEST_FDS, or NULL for none. */
bool zygote_order(struct zygote *z, const struct zygote_request *request, const int *fds,
                  struct status *st);
