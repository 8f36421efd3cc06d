/*
 * Makes one sandbox without a daemon, for tests and for looking at it: prints a JSON line with the
 * paths of its sockets and what the zygote enforces, and ends it when stdin does.
 */
#include "common/base/options.h"
#include "common/base/version.h"
#include "runtime/local/zygote/zygote.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct zygote_env env_of(char *text)
{
    char *value = strchr(text, '=');

    if (!value)
        return (struct zygote_env){text, ""};
    *value = '\0';
    return (struct zygote_env){text, value + 1};
}

/* The way out of the sandbox is nobody's here. */
static bool await_start(struct zygote *z, struct status *st)
{
    struct pollfd poller = {.fd = zygote_fd(z), .events = POLLIN};
    struct zygote_event e;
    enum zygote_next next;

    while ((next = zygote_next(z, &e)) == ZYGOTE_NONE)
        poll(&poller, 1, -1);
    if (next == ZYGOTE_GONE || e.kind != ZYGOTE_STARTED)
        return status_set(st, CODE_INTERNAL, 0, "the sandbox ended at once");
    if (e.net.tcp_fd >= 0) {
        close(e.net.tcp_fd);
        close(e.net.dns_fd);
    }
    *st = e.status;
    return e.status.code == CODE_OK;
}

static bool run(struct zygote *z, const struct zygote_spec *spec, struct status *st)
{
    char agent[256], dial[256];
    char byte;

    if (!zygote_agent_path(z, spec->id, agent, sizeof(agent)) ||
        !zygote_dial_path(z, spec->id, dial, sizeof(dial)))
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "the data directory's path is too long");
    if (!zygote_create(z, spec, st) || !await_start(z, st))
        return false;
    printf("{\"agent\":\"%s\",\"dial\":\"%s\",\"tier\":\"%c\",\"summary\":\"%s\"}\n", agent, dial,
           'A' + (int)zygote_tier(z), zygote_summary(z));
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    return zygote_kill(z, spec->id, st);
}

int main(int argc, char **argv)
{
    struct zygote_config config = {0};
    struct zygote_spec spec = {.id = "try", .template_id = "base"};
    struct zygote_env envs[64];
    const struct option table[] = {
        {.name = "data-dir",
         .type = OPTION_STRING,
         .target = &config.data_dir,
         .arg = "DIR",
         .help = "Where the zygote keeps its files."},
        {.name = "id",
         .type = OPTION_STRING,
         .target = &spec.id,
         .arg = "ID",
         .help = "The sandbox's id."},
        {.name = "token",
         .type = OPTION_STRING,
         .target = &spec.access_token,
         .arg = "TOKEN",
         .help = "The access token; none: open."},
        {.name = "memory",
         .type = OPTION_SIZE,
         .target = &spec.limits.memory_bytes,
         .arg = "SIZE",
         .help = "Memory of the sandbox."},
        {.name = "disk",
         .type = OPTION_SIZE,
         .target = &spec.limits.disk_bytes,
         .arg = "SIZE",
         .help = "Size of its writable layer."},
        {.name = "pids",
         .type = OPTION_INT,
         .target = &spec.limits.pids,
         .arg = "N",
         .help = "How many processes it may have.",
         .max = 100000},
        {0},
    };
    const struct program program = {"zygote_try", "Make one sandbox", "[OPTIONS] [NAME=VALUE...]",
                                    table, NULL};
    struct status st = STATUS_INIT;
    struct zygote *z = NULL;
    int at;
    bool done = options_parse(&program, argc, argv, &at, &st) == OPTIONS_RUN;

    spec.envs = envs;
    while (done && at < argc && spec.n_envs < 64)
        envs[spec.n_envs++] = env_of(argv[at++]);
    done = done && config.data_dir && (z = zygote_start(&config, &st)) && run(z, &spec, &st);
    zygote_stop(z);
    if (!done)
        fprintf(stderr, "%s\n", st.message);
    return done ? 0 : 1;
}
