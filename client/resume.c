/* See resume.h. Used by unary calls and by streams, on the caller's thread. */
#include "client/resume.h"

void resume_init(struct resume *r, const struct resume_policy *policy, unsigned address)
{
    *r = (struct resume){.policy = *policy, .address = address, .failing_since_ms = -1};
}

void resume_progress(struct resume *r)
{
    r->n_failed = 0;
    r->failing_since_ms = -1;
}

static int64_t backoff_ms(const struct resume *r, uint32_t chance)
{
    unsigned free_tries = r->policy.n_addresses > 1 ? 1 : 0;
    int64_t wait = r->policy.backoff_min_ms;

    if (r->n_failed <= free_tries)
        return 0;
    for (unsigned i = free_tries + 1; i < r->n_failed && wait < r->policy.backoff_max_ms; i++)
        wait *= 2;
    if (wait > r->policy.backoff_max_ms)
        wait = r->policy.backoff_max_ms;
    return wait / 2 + (int64_t)(chance % (uint32_t)(wait / 2 + 1));
}

struct resume_step resume_failed(struct resume *r, const struct sandbox_error *why, int64_t now_ms,
                                 uint32_t chance)
{
    if (r->failing_since_ms < 0)
        r->failing_since_ms = now_ms;
    r->n_failed++;

    int64_t wait = backoff_ms(r, chance);

    if (wait < why->retry_after_ms)
        wait = why->retry_after_ms;
    if (now_ms + wait - r->failing_since_ms >= r->policy.give_up_ms)
        return (struct resume_step){.what = RESUME_GIVE_UP};
    r->address = (r->address + 1) % r->policy.n_addresses;
    return (struct resume_step){.what = RESUME_AGAIN, .wait_ms = wait};
}

void sequence_init(struct sequence *s, uint64_t from_seq)
{
    uint64_t first = from_seq != 0 ? from_seq : 1;

    *s = (struct sequence){.first_seq = first, .last_seq = first - 1};
}

static void accept(struct sequence *s, const Sandbox__V1__CommandEvent *event)
{
    s->last_seq = event->seq;
    s->any = true;
    if (event->event_case == SANDBOX__V1__COMMAND_EVENT__EVENT_EXITED)
        s->exited = true;
    if (event->event_case == SANDBOX__V1__COMMAND_EVENT__EVENT_CLOSED)
        s->closed = true;
}

enum sequence_verdict sequence_event(struct sequence *s, const Sandbox__V1__CommandEvent *event)
{
    uint64_t first = event->seq;

    /* Dropped stands for a whole range, which must follow as closely as a single event would. */
    if (event->event_case == SANDBOX__V1__COMMAND_EVENT__EVENT_DROPPED) {
        first = event->dropped->first_seq;
        if (first > event->seq || event->dropped->last_seq != event->seq)
            return SEQUENCE_GAP;
    }
    if (event->seq <= s->last_seq)
        return SEQUENCE_REPEATED;
    if (first != s->last_seq + 1 && (!s->sparse || first <= s->last_seq))
        return SEQUENCE_GAP;
    accept(s, event);
    return SEQUENCE_NEW;
}

bool sequence_claim(struct sequence *s, uint64_t last_seq)
{
    if (s->sparse && last_seq > s->last_seq)
        s->last_seq = last_seq; /* those between were left out */
    return last_seq <= s->last_seq;
}

bool sequence_is_complete(const struct sequence *s, Sandbox__V1__Until until)
{
    if (s->closed || s->partial)
        return true;
    if (s->exited)
        return until != SANDBOX__V1__UNTIL__UNTIL_CLOSED;
    /* Asked to start behind the end, a stream rightly brings nothing. */
    return !s->any && s->first_seq > 1;
}
