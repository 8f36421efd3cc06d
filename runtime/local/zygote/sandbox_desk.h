/*
 * Where a daemon finds the zygote: the socket in the data directory, the one daemon that is served,
 * what is still to be told to it, and how long to go on when it is gone.
 */
#pragma once

#include "runtime/local/zygote/sandbox_lives.h"
#include "runtime/local/zygote/zygote_wire.h"

struct sandbox_desk {
    struct loop *loop;           /* borrowed */
    struct sandbox_lives *lives; /* borrowed */
    const char *data_dir;        /* borrowed; for people */
    struct zygote_hello hello;   /* for the next daemon */
    int log_fd;                  /* borrowed; the read end */
    struct loop_fd door;         /* where daemons knock */
    struct loop_fd requests;     /* of the daemon; -1: there is none */
    struct loop_fd events;       /* to the daemon */
    pid_t daemon_pid;
    bool greeted;             /* from here on it counts as a daemon */
    struct list untold;       /* events that did not fit into the connection */
    int64_t orphan_ms;        /* -1: of the first daemon's to say */
    struct loop_timer orphan; /* while there is no daemon */
};

/*
 * Listens in the directory above. hello, log_fd and data_dir are the caller's to set; lives is made
 * to tell its events here.
 */
bool sandbox_desk_init(struct sandbox_desk *d, struct loop *loop, struct sandbox_lives *lives,
                       struct status *st);
/* Serves a daemon that is connected already. */
void sandbox_desk_seat(struct sandbox_desk *d, int take_fd);
/* Nobody gets in any more. The daemon's connections stay: their end says that all is done. */
void sandbox_desk_close(struct sandbox_desk *d);
