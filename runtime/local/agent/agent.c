/* See agent.h: routes requests. */
#include "runtime/local/agent/agent.h"

#include "runtime/local/agent/handover.h"

#include <sys/wait.h>

static void on_request(struct http_exchange *x, void *ctx)
{
    const struct http_head *head = http_request(x);

    if (http_path_is(head, "/health") && http_method_is(head, "GET")) {
        http_reply(x, 204, NULL, NULL, 0);
        return;
    }
    http_reply(x, 404, NULL, NULL, 0);
}

bool agent_init(struct agent *a, struct status *st)
{
    struct http_server_config config = {.request = on_request, .ctx = a};

    a->server = http_server_new(&a->loop, &config);
    return http_server_listen(a->server, AGENT_FD_HTTP, st);
}

void agent_reap(struct agent *a)
{
    int status;

    while (waitpid(-1, &status, WNOHANG) > 0)
        ;
}
