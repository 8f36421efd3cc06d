/*
 * Streams and the age of connections. At its age core tells a client to connect anew, and at age
 * plus grace it closes the connection with whatever is still on it, which a client sees as a reset.
 * Core says of no call how old its connection is. But none begins after the age, so every call has
 * the whole grace: a stream that leaves within it is never cut off. Each leaves at some moment of
 * the second half, so that those of one connection do not all come back at once. On the worker.
 *
 * Health's Watch stays: clients end it themselves with the connection, and take one that ends
 * before for the end of the pod. So does reflection, which has nowhere to go on.
 */
#include "service/rpc/call_impl.h"

#include "common/base/clock.h"
#include "common/base/list.h"

#include <stdlib.h>

enum { EARLIEST_PERCENT = 50, LATEST_PERCENT = 90 };

static void on_aged(struct call_timer *timer)
{
    call_tell_drain(container_of(timer, struct call, aged));
}

void call_watch_age(struct call *c)
{
    const struct server_config *config = &c->worker->server->config;
    uint32_t percent = EARLIEST_PERCENT + arc4random_uniform(LATEST_PERCENT - EARLIEST_PERCENT + 1);

    if (config->max_connection_age_ms <= 0 || c->binding->standard ||
        c->binding->method->kind == METHOD_UNARY)
        return;
    c->aged.run = on_aged;
    call_timer_start(c, &c->aged,
                     c->started_ns +
                         config->max_connection_age_grace_ms * NS_PER_MS / 100 * percent);
}
