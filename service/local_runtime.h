/* `sandboxd --local`: an e2b-local of our own beside us, which ends with us. */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <sys/types.h>

enum { LOCAL_URL_MAX = 300, LOCAL_KEY_LEN = 44 };

struct local_runtime {
    pid_t pid;
    int log_fd; /* its stderr; local_runtime_relay() copies it to ours */
    char url[LOCAL_URL_MAX];
    char api_key[LOCAL_KEY_LEN + 1]; /* made for it, known to nobody else */
};

/* Starts it and waits until it is ready. path: NULL to find it. data_dir: NULL for its own choice.
 * Before any thread is started. */
bool local_runtime_start(struct local_runtime *r, const char *path, const char *data_dir,
                         struct status *st);

/* Thread body: passes its log lines on until it ends. arg: struct local_runtime. */
void *local_runtime_relay(void *arg);

/* Asks it to end and waits. */
void local_runtime_stop(struct local_runtime *r);
