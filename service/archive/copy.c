/*
 * See copy.h. Runs on a job's thread, with some more of its own: a sandbox has many small journals,
 * and each costs a round trip or two. Every one of them takes the next command that nobody took.
 */
#include "service/archive/copy_impl.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "service/handlers/command_frames.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = 4,
    PAGE = 100,
    COMMANDS_MAX = 16384, /* of a sandbox */
};

static bool add_page(struct copier *c, const struct lane *l, size_t *ret_n, struct status *st)
{
    AUTO(command_frames_deinit) struct command_frames page = {0};

    if (!command_frames_read(&page, l->output.out, l->output.out_len) ||
        c->n_commands + page.n_items > COMMANDS_MAX)
        return status_set(st, CODE_DATA_LOSS, REASON(JOURNAL_CORRUPT),
                          "the list of commands of sandbox %s does not hold together: it was "
                          "changed from inside the sandbox",
                          c->a->sandbox_id);
    c->commands =
        xrealloc(c->commands, (c->n_commands + page.n_items + 1) * sizeof(c->commands[0]));
    for (size_t i = 0; i < page.n_items; i++)
        c->commands[c->n_commands++] = TAKE(page.items[i]);
    *ret_n = page.n_items;
    page.n_items = 0;
    return true;
}

static bool list_commands(struct copier *c, struct lane *l, struct status *st)
{
    char limit[32], after[RECORD_ID_MAX + 48];
    const char *args[] = {"list", limit, NULL, NULL};
    size_t n;

    snprintf(limit, sizeof(limit), "--limit=%d", PAGE);
    do {
        if (!lane_look(l, args, st))
            return false;
        if (l->output.exit_code == E2B_NO_COMMANDS)
            return true;
        if (l->output.exit_code != RECORDER_OK)
            return lane_recorder_failed(l, st);
        if (!add_page(c, l, &n, st))
            return false;
        if (n > 0) {
            const Sandbox__V1__Command *last = c->commands[c->n_commands - 1];

            snprintf(after, sizeof(after), "--after=%" PRId64 ":%.*s", record_start_ns(last),
                     RECORD_ID_MAX, last->command_id);
            args[2] = after;
        }
    } while (n >= PAGE);
    return true;
}

static bool list_archive(struct copier *c, struct status *st)
{
    AUTO_FREE char *prefix = record_prefix(c->a->owner, c->a->sandbox_id);
    AUTO(store_names_deinit) struct store_names names = {0};

    if (!c->a->store->list(c->a->store, prefix, &names, c->a->until_ns, st))
        return false;
    c->n_have = record_names(&names, &c->have);
    return true;
}

const struct record_name *copier_find(const struct copier *c, const char *command_id)
{
    for (size_t i = 0; i < c->n_have; i++)
        if (strcmp(c->have[i].command_id, command_id) == 0)
            return &c->have[i];
    return NULL;
}

bool copier_is_over(const struct copier *c)
{
    return atomic_load(&c->failed) || atomic_load(c->a->stopping);
}

static void note_failure(struct copier *c, const struct status *st)
{
    pthread_mutex_lock(&c->lock);
    if (!atomic_exchange(&c->failed, true))
        c->st = *st;
    pthread_mutex_unlock(&c->lock);
}

static void *lane_main(void *arg)
{
    struct lane *l = arg;
    struct copier *c = l->c;
    size_t i;

    while (!copier_is_over(c) && (i = atomic_fetch_add(&c->next, 1)) < c->n_commands) {
        struct status st = STATUS_INIT;

        if (!copy_command(l, &c->commands[i], &st))
            note_failure(c, &st);
        lane_drop_pieces(l);
    }
    return NULL;
}

static void copy_all(struct copier *c, struct lane *first)
{
    struct lane more[LANES - 1];
    size_t n = 0;

    while (n < LANES - 1 && n + 1 < c->n_commands) {
        lane_init(&more[n], c);
        if (pthread_create(&more[n].thread, NULL, lane_main, &more[n]) != 0) {
            lane_deinit(&more[n]);
            break;
        }
        n++;
    }
    lane_main(first);
    for (size_t i = 0; i < n; i++) {
        pthread_join(more[i].thread, NULL);
        lane_deinit(&more[i]);
    }
}

static bool copy_with(struct copier *c, struct lane *first, struct status *st)
{
    if (!list_commands(c, first, st) || (c->n_commands > 0 && !list_archive(c, st)))
        return false;
    copy_all(c, first);
    if (atomic_load(&c->failed)) {
        *st = c->st;
        return false;
    }
    if (atomic_load(c->a->stopping))
        return store_unavailable(st, "this pod is about to stop");
    return true;
}

bool copy_sandbox(const struct copy_args *a, struct copy_result *ret, struct status *st)
{
    struct copier c = {.a = a};
    struct lane first;
    bool ok;

    pthread_mutex_init(&c.lock, NULL);
    lane_init(&first, &c);
    ok = copy_with(&c, &first, st);
    lane_deinit(&first);
    *ret = c.result;
    for (size_t i = 0; i < c.n_commands; i++)
        sandbox__v1__command__free_unpacked(c.commands[i], NULL);
    free(c.commands);
    free(c.have);
    pthread_mutex_destroy(&c.lock);
    return ok;
}
