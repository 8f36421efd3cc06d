/*
 * What outlives this process: of every sandbox the zygote holds the record and the deadline, and
 * gives them back to the next daemon. See daemon.h.
 *
 * All that is asked of the zygote goes through the keeper's thread in order, so what was answered
 * behind daemon_then() is not lost with us.
 */
#include "common/base/cleanup.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "runtime/local/daemon/daemon.h"
#include "runtime/local/daemon/record.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is known of a sandbox, on its way to the zygote. */
struct keeping {
    struct task task;
    struct zygote *zygote; /* borrowed */
    char id[SANDBOX_ID_LEN + 1];
    int64_t deadline_ns;
    enum zygote_at_deadline at_deadline;
    struct buf record;
};

/* On the keeper's thread. */
static void keep_in_zygote(struct task *task)
{
    struct keeping *k = container_of(task, struct keeping, task);
    struct zygote_life life = {.record = buf_data(&k->record),
                               .record_len = buf_len(&k->record),
                               .deadline_ns = k->deadline_ns,
                               .at_deadline = k->at_deadline};
    struct status st = STATUS_INIT;

    /* It may have ended by itself meanwhile. */
    if (!zygote_set(k->zygote, k->id, &life, &st) && st.code != CODE_NOT_FOUND)
        log_error("sandbox is not kept", LOG_S("sandbox_id", k->id), LOG_S("error", st.message));
    buf_deinit(&k->record);
    free(k);
}

enum zygote_at_deadline daemon_at_deadline(const struct sandbox *s)
{
    return s->auto_pause ? ZYGOTE_DEADLINE_FREEZES : ZYGOTE_DEADLINE_KILLS;
}

void daemon_keep(struct daemon *d, const struct sandbox *s)
{
    struct keeping *k = xcalloc(1, sizeof(*k));
    struct status st = STATUS_INIT;

    *k = (struct keeping){.task.run = keep_in_zygote,
                          .zygote = d->zygote,
                          .deadline_ns = s->paused ? 0 : s->end_at_ns,
                          .at_deadline = daemon_at_deadline(s),
                          .record = BUF_INIT(ZYGOTE_RECORD_MAX)};
    strcpy(k->id, s->id);
    /* What makes a record large was checked when it came. */
    if (!record_write(s, &k->record, &st))
        log_error("sandbox is not kept", LOG_S("sandbox_id", k->id), LOG_S("error", st.message));
    executor_post(keeper_executor(&d->keeper), &k->task);
}

struct barrier {
    struct task task;
    struct executor *back; /* borrowed */
    struct task *then;     /* borrowed */
};

/* On the keeper's thread. */
static void pass(struct task *task)
{
    struct barrier *b = container_of(task, struct barrier, task);

    executor_post(b->back, b->then);
    free(b);
}

void daemon_then(struct daemon *d, struct task *task)
{
    struct barrier *b = xcalloc(1, sizeof(*b));

    *b = (struct barrier){{.run = pass}, loop_executor(&d->loop), task};
    executor_post(keeper_executor(&d->keeper), &b->task);
}

static bool adopt(struct daemon *d, const struct zygote_sandbox *found, struct status *st)
{
    AUTO(network_deinit) struct network network = {.public_traffic = true};
    struct sandbox *s = record_read(found->id, found->life.record, found->life.record_len, st);

    if (s == NULL)
        return false;
    if (!network_parse_text(&network, s->network, s->internet, st)) {
        registry_unmake(s);
        return false;
    }
    s->mask_host = TAKE(network.mask_host);
    s->paused = found->frozen;
    s->end_at_ns = found->life.deadline_ns;
    registry_restore(&d->registry, s);
    daemon_enter(d, s, &found->net, &network.policy);
    daemon_note(s, NOTE_INFO, "Sandbox goes on with a new server", NULL);
    return true;
}

/* What cannot be served cannot be left to itself either. */
static void on_found(void *ctx, const struct zygote_sandbox *found)
{
    struct daemon *d = ctx;
    struct status st = STATUS_INIT;

    if (adopt(d, found, &st))
        return;
    log_error("sandbox cannot be adopted", LOG_S("sandbox_id", found->id),
              LOG_S("error", st.message));
    zygote_kill(d->zygote, found->id, NULL);
    if (found->net.tcp_fd >= 0)
        close(found->net.tcp_fd);
    if (found->net.dns_fd >= 0)
        close(found->net.dns_fd);
}

bool daemon_adopt(struct daemon *d, struct status *st)
{
    if (!zygote_was_there(d->zygote))
        return true;
    if (!zygote_adopt(d->zygote, on_found, d, st))
        return false;
    log_info("sandboxes adopted", LOG_N("sandboxes", (int64_t)d->registry.n_sandboxes));
    return true;
}
