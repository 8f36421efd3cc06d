/*
 * See idle.h. That it is time to prolong is told by the cache of addresses, once to all who ask, so
 * that a thousand calls prolong once; the request itself is detached. On the loop's thread.
 */
#include "service/e2b/idle.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "service/e2b/control.h"
#include "service/e2b/sandbox.h"

#include <stdlib.h>
#include <string.h>

enum {
    PROLONGINGS = 10, /* in one idle time: so much of it may be missing at the end */
    PROLONG_MS = 30000,
    LIFETIME_MAX_S = 366 * 24 * 3600,
};

int64_t idle_first_timeout_s(int64_t timeout_s, int64_t idle_s)
{
    return idle_s > 0 && idle_s < timeout_s ? idle_s : timeout_s;
}

static int64_t read_seconds(const struct e2b_sandbox *s, const char *label, int64_t max)
{
    const char *text = sandbox_label(s, label);
    char *end;
    long long value;

    if (text == NULL || text[0] < '1' || text[0] > '9')
        return 0;
    value = strtoll(text, &end, 10);
    return *end == '\0' && value <= max ? value : 0;
}

void idle_read_labels(struct e2b_sandbox *s)
{
    s->lifetime_s = read_seconds(s, IDLE_LIFETIME, LIFETIME_MAX_S);
    s->idle_s = s->lifetime_s > 0 ? read_seconds(s, IDLE_TIMEOUT, E2B_KEEP_ALIVE_MAX_S) : 0;
}

void idle_remember(const struct request *r, const struct e2b_sandbox *s)
{
    struct address_life life = {.wakes = s->auto_resume,
                                .idle_s = s->idle_s,
                                .life_end_ns = s->start_ns + s->lifetime_s * NS_PER_S};
    int64_t left_ns = s->end_ns - clock_wall_ns();
    int64_t enough_ns = s->idle_s * (PROLONGINGS - 1) * NS_PER_S / PROLONGINGS;

    life.due_ns = clock_monotonic_ns() + (left_ns > enough_ns ? left_ns - enough_ns : 0);
    address_note_life(r->e2b->addresses, r->scope->name, s->id, &life);
}

/* --- giving it more time --- */

struct prolonging {
    struct control control;
    struct loop_timer timer;
};

static void destroy(struct request *r)
{
    struct prolonging *p = container_of(r, struct prolonging, control.request);

    control_deinit(&p->control);
    free(p);
}

/* Nobody waits; a sandbox that is gone or paused by now needs no time. */
static void run_timer(struct loop_timer *timer)
{
    exchange_start(&container_of(timer, struct prolonging, timer)->control.exchange);
}

/* Not at once: a use may be noted by a callback of curl, where no transfer can be started. */
static void start(struct request *r)
{
    struct prolonging *p = container_of(r, struct prolonging, control.request);

    loop_timer_start(r->loop, &p->timer, clock_monotonic_ns());
}

static bool aborted(struct request *r, const struct status *st)
{
    struct prolonging *p = container_of(r, struct prolonging, control.request);

    loop_timer_stop(r->loop, &p->timer);
    request_finish(r, st);
    return true;
}

static void prolong(const struct exchange *x, int64_t seconds)
{
    struct prolonging *p = xcalloc(1, sizeof *p);
    struct control *c = &p->control;
    const struct request *like = x->request;

    control_init(c, x->sandbox_id, start, destroy);
    c->request.aborted = aborted;
    c->request.e2b = like->e2b;
    p->timer.run = run_timer;
    control_begin_at(c, "POST", "/refreshes");
    free(TAKE(c->exchange.owner_of)); /* it was found out */
    control_send(c, xasprintf("{\"duration\":%lld}", (long long)seconds));
    request_detach(&c->request, like, PROLONG_MS);
}

void idle_note_use(struct exchange *x)
{
    const struct request *r = x->request;
    const struct address_life *life = &x->address.life;
    int64_t now_ns = clock_monotonic_ns();
    int64_t step_ns = life->idle_s * NS_PER_S / PROLONGINGS;
    int64_t left_s;

    if (life->idle_s == 0 || r->aside || now_ns < x->use_noted_until_ns)
        return;
    x->use_noted_until_ns = now_ns + step_ns;
    left_s = (life->life_end_ns - clock_wall_ns()) / NS_PER_S;
    if (left_s <= 0 ||
        !address_use(r->e2b->addresses, r->scope->name, x->sandbox_id, now_ns, step_ns))
        return;
    prolong(x, left_s < life->idle_s ? left_s : life->idle_s);
}
