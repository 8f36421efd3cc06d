/* From what the follower writes to messages of the client's stream, and heartbeats between them. */
#include "service/handlers/follow_impl.h"

#include "common/base/cleanup.h"
#include "sandbox/v1/commands.pb-c.h"
#include "service/config.h"
#include "service/handlers/counts.h"
#include "service/metrics/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

void follow_restart_heartbeat(struct follow *f)
{
    call_timer_start(f->call, &f->heartbeat,
                     clock_monotonic_ns() + f->app->config->heartbeat_ms * NS_PER_MS);
}

/* RunCommandResponse and LogsResponse have the same shape, so one serves for both. */
void follow_send_heartbeat(struct follow *f)
{
    Sandbox__V1__RunCommandResponse m = SANDBOX__V1__RUN_COMMAND_RESPONSE__INIT;

    m.last_seq = f->relay.check.last_seq;
    if (!f->announced)
        m.command_id = f->command_id;
    else if (f->paused)
        m.state = SANDBOX__V1__STREAM_STATE__STREAM_STATE_SANDBOX_PAUSED;
    else if (f->state == FOLLOW_OPEN)
        m.state = SANDBOX__V1__STREAM_STATE__STREAM_STATE_LIVE;
    else
        m.state = SANDBOX__V1__STREAM_STATE__STREAM_STATE_RECONNECTING;
    f->announced = true;
    call_send(f->call, &m.base);
    follow_restart_heartbeat(f);
}

void follow_on_heartbeat(struct call_timer *timer)
{
    struct follow *f = container_of(timer, struct follow, heartbeat);

    if (f->state == FOLLOW_FINISHED)
        return;
    if (call_can_send(f->call))
        follow_send_heartbeat(f);
    else
        follow_restart_heartbeat(f); /* who does not read needs no sign of life from us */
}

static void note_progress(struct follow *f)
{
    uint64_t gaps = f->all != NULL ? f->all->gaps : f->relay.gaps;

    metric_count(f->app->gaps, 0, (int64_t)(gaps - f->gaps));
    f->gaps = gaps;
    f->delivered = true;
    f->failures = 0;
    f->broken_since_ns = 0;
    f->paused = false;
    free(TAKE(f->spec));
}

static bool finish_corrupt(struct follow *f, const char *whose)
{
    struct status st;

    status_set(&st, CODE_DATA_LOSS, REASON(JOURNAL_CORRUPT),
               "the record of %s does not hold together after event %" PRIu64
               ": it was changed from inside the sandbox",
               whose, f->relay.check.last_seq);
    follow_fail(f, &st);
    return false;
}

static bool take_block(struct follow *f, size_t headroom, uint8_t **ret_block, size_t *ret_len)
{
    if (f->archived != NULL)
        return archive_stream_take(f->archived, headroom, ret_block, ret_len);
    return f->stream != NULL && e2b_stream_take(f->stream, headroom, ret_block, ret_len);
}

/* The same for all commands: what was taken may be several messages, or a part of one. */
static bool send_next_of_all(struct follow *f)
{
    uint8_t *block;
    size_t len;

    for (;;) {
        switch (relay_all_next(f->all, &block, &len)) {
        case RELAY_MESSAGE:
            note_progress(f);
            call_send_bytes_take(f->call, block, block, len, false);
            follow_restart_heartbeat(f);
            return true;
        case RELAY_NOTHING:
            break;
        case RELAY_CORRUPT:
            return finish_corrupt(f, "commands");
        }
        if (f->all->complete)
            return true;
        if (!take_block(f, 0, &block, &len))
            return false;

        bool fits = relay_all_feed(f->all, block, len);

        free(block);
        if (!fits)
            return finish_corrupt(f, "commands");
    }
}

bool follow_send_next(struct follow *f)
{
    uint8_t *block, *start;
    size_t len, message_len;

    if (f->all != NULL)
        return send_next_of_all(f);
    if (!take_block(f, relay_headroom(&f->relay), &block, &len))
        return false;
    switch (relay_feed(&f->relay, block, len, f->announced ? NULL : f->command_id, &start,
                       &message_len)) {
    case RELAY_MESSAGE:
        f->announced = true;
        note_progress(f);
        call_send_bytes_take(f->call, block, start, message_len, false);
        follow_restart_heartbeat(f);
        return true;
    case RELAY_NOTHING:
        free(block);
        return true;
    case RELAY_CORRUPT:
        break;
    }
    free(block);
    return finish_corrupt(f, f->command_id);
}
