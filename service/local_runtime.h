/* `sandboxd --local`: an e2b-local of our own beside us, which ends with us. */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

enum { LOCAL_URL_MAX = 300, LOCAL_KEY_LEN = 44 };

struct local_runtime {
    char url[LOCAL_URL_MAX];         /* of its API and of its sandboxes */
    char api_key[LOCAL_KEY_LEN + 1]; /* made for it, known to nobody else */
    char isolation[256];             /* what it says of the isolation it gives */
    pid_t pid;                       /* 0: none */
    int pidfd;                       /* readable when it has ended */

    int log_fd; /* its stderr */
    struct buf log;
    bool ready;
    pthread_t relay; /* passes its log on; the two above are its own once it runs */
    bool relaying;
};

#define LOCAL_RUNTIME_INIT ((struct local_runtime){.pidfd = -1, .log_fd = -1})

/*
 * Starts it and waits until it is ready. path: NULL to find it; data_dir: NULL for its own choice.
 * Forks, so there must be no other thread yet. r must not move from now on; it is stopped by
 * local_runtime_stop() also after a failure.
 */
bool local_runtime_start(struct local_runtime *r, const char *path, const char *data_dir,
                         struct status *st);

/* Asks it to end, waits, and insists after a while. May be called twice. */
void local_runtime_stop(struct local_runtime *r);
