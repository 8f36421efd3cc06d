/*
 * Many threads on one client, for threads_test.py:
 *
 *   threads ADDRESSES N [STOP_MS]
 *
 * Each thread runs a command, checks that its events are 1, 2, 3 … and makes unary calls besides.
 * With STOP_MS the client is stopped from outside meanwhile, and every call must say so. Prints
 * "ended E stopped S events V".
 */
#include "client/include/sandbox.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 64 };

struct worker {
    struct sandbox_client *client;
    pthread_t thread;
    uint64_t events;
    bool ended, stopped;
};

static bool on_event(void *user, const Sandbox__V1__CommandEvent *event)
{
    struct worker *w = user;
    Sandbox__V1__ListSandboxesRequest list = SANDBOX__V1__LIST_SANDBOXES_REQUEST__INIT;

    if (event->seq != ++w->events) {
        fprintf(stderr, "event %" PRIu64 " came in the place of %" PRIu64 "\n", event->seq,
                w->events);
        exit(1);
    }
    /* Handlers may use the client. */
    if (event->seq % 64 == 0)
        sandbox_list(w->client, &list, NULL, NULL);
    return true;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    Sandbox__V1__RunCommandRequest request = SANDBOX__V1__RUN_COMMAND_REQUEST__INIT;
    struct sandbox_handlers handlers = {.user = w, .on_event = on_event};
    struct sandbox_result result;
    struct sandbox_error err;

    request.sandbox_id = (char *)"box";
    request.command_case = SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_SHELL;
    request.shell = (char *)"make it";
    request.overflow = SANDBOX__V1__OVERFLOW__OVERFLOW_BLOCK;
    w->ended = sandbox_run(w->client, &request, &handlers, &result, &err);
    w->stopped = !w->ended && err.code == SANDBOX_CANCELLED && strcmp(err.reason, "STOPPED") == 0;
    if (!w->ended && !w->stopped) {
        fprintf(stderr, "%s %s: %s\n", sandbox_code_name(err.code), err.reason, err.message);
        exit(1);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker workers[MAX_THREADS];
    struct sandbox_client_options options = {.addresses = argc > 1 ? argv[1] : NULL};
    struct sandbox_error err;
    struct sandbox_client *client = sandbox_client_new(&options, &err);
    int n = argc > 2 ? atoi(argv[2]) : 1;
    unsigned ended = 0, stopped = 0;
    uint64_t events = 0;

    if (client == NULL || n < 1 || n > MAX_THREADS)
        return 2;
    for (int i = 0; i < n; i++) {
        workers[i].client = client;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    if (argc > 3) {
        usleep((useconds_t)atoi(argv[3]) * 1000);
        sandbox_client_stop(client);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(workers[i].thread, NULL);
        ended += workers[i].ended;
        stopped += workers[i].stopped;
        events += workers[i].events;
    }
    sandbox_client_free(client);
    printf("ended %u stopped %u events %" PRIu64 "\n", ended, stopped, events);
    return 0;
}
