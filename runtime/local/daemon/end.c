/*
 * Ending a sandbox that is in the registry (see daemon.h). It is forgotten at once: nobody finds it
 * any more, and its streams are cut. The zygote is asked on the keeper's thread, and tells when
 * nothing of it is left; whoever wants to know waits for that.
 */
#include "runtime/local/daemon/daemon.h"

#include "common/base/log.h"
#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

struct ending {
    struct task task;
    struct list node;      /* of the daemon's */
    struct daemon *daemon; /* borrowed */
    char id[SANDBOX_ID_LEN + 1];
    bool asked; /* the keeper is done with this */
    bool gone;
    struct status st;
    struct task *then; /* borrowed; NULL: nobody waits */
};

/* The keeper may still be looking at it when the sandbox has gone by itself. */
static void finish(struct ending *e)
{
    if (!e->asked || !e->gone)
        return;
    list_unlink(&e->node);
    if (e->then != NULL)
        executor_post(loop_executor(&e->daemon->loop), e->then);
    free(e);
}

/* Back on the loop's thread. */
static void answered(struct task *task)
{
    struct ending *e = container_of(task, struct ending, task);

    e->asked = true;
    e->gone = e->gone || e->st.code != CODE_OK; /* there will be no event */
    if (e->st.code != CODE_OK && e->st.code != CODE_NOT_FOUND)
        log_error("sandbox did not end", LOG_S("sandbox_id", e->id), LOG_S("error", e->st.message));
    finish(e);
}

/* On the keeper's thread. */
static void ask_zygote(struct task *task)
{
    struct ending *e = container_of(task, struct ending, task);

    zygote_end(e->daemon->zygote, e->id, &e->st);
    e->task.run = answered;
    executor_post(loop_executor(&e->daemon->loop), &e->task);
}

void daemon_end(struct daemon *d, struct sandbox *s, const char *why, struct task *then)
{
    struct ending *e = xcalloc(1, sizeof(*e));

    *e = (struct ending){.task.run = ask_zygote, .daemon = d, .then = then};
    strcpy(e->id, s->id);
    list_append(&d->endings, &e->node);
    daemon_note(s, NOTE_INFO, "Sandbox ended", why);
    log_info("sandbox ends", LOG_S("sandbox_id", s->id), LOG_S("reason", why));
    /* Streams first: what dies in the sandbox must not look like an orderly end. */
    if (s->stored)
        snapshots_unstore(&d->snapshots, s->id);
    daemon_forget(d, s);
    executor_post(keeper_executor(&d->keeper), &e->task);
}

bool daemon_take_end(struct daemon *d, const char *id)
{
    LIST_FOR_EACH (node, &d->endings) {
        struct ending *e = container_of(node, struct ending, node);

        if (strcmp(e->id, id) == 0) {
            e->gone = true;
            finish(e);
            return true;
        }
    }
    return false;
}

void daemon_drop_endings(struct daemon *d)
{
    LIST_FOR_EACH_SAFE (node, &d->endings) {
        struct ending *e = container_of(node, struct ending, node);

        if (e->then != NULL)
            e->then->run(e->then);
        list_unlink(&e->node);
        free(e);
    }
}
