/*
 * See archive.h: where the archive is, and its operations that answer once. Each is a job on a
 * thread of its own; there are few of them, and what they wait for is slow.
 */
#include "service/archive/private.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/archive/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    READS_MAX = 64,
    COPIES_MAX = 8,
    OBJECT_TIMEOUT_MS = 30000,
    BUSY_RETRY_MS = 500,
};

/* --- who asks for what --- */

static char *copy_or_null(const char *text)
{
    return text != NULL ? xstrdup(text) : NULL;
}

bool target_init(struct target *t, const struct e2b_caller *caller, const char *sandbox_id,
                 struct status *st)
{
    *t = (struct target){.tenant = NULL};
    snprintf(t->sandbox_id, sizeof(t->sandbox_id), "%s", sandbox_id);
    if (caller == NULL || !record_owner(caller->tenant, caller->api_key, t->owner))
        return status_set(st, CODE_INTERNAL, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INTERNAL,
                          "it is not known for whom sandbox %s is archived", sandbox_id);
    t->tenant = copy_or_null(caller->tenant);
    t->api_key = copy_or_null(caller->api_key);
    t->caller = (struct e2b_caller){.tenant = t->tenant, .api_key = t->api_key};
    return true;
}

void target_deinit(struct target *t)
{
    free(t->tenant);
    free(t->api_key);
}

struct archived_place target_place(const struct target *t, const struct archive *a)
{
    return (struct archived_place){.store = a->store,
                                   .owner = t->owner,
                                   .sandbox_id = t->sandbox_id,
                                   .timeout_ms = OBJECT_TIMEOUT_MS};
}

bool archive_is_busy(struct status *st)
{
    store_unavailable(st, "this pod is busy with as many archived commands as it can be");
    st->reason = SANDBOX__V1__ERROR_REASON__ERROR_REASON_POD_FULL;
    st->retry_ms = BUSY_RETRY_MS;
    return false;
}

/* --- operations that answer once --- */

struct once {
    struct archive *archive;
    struct e2b_op *op; /* the caller's */
    struct target target;
    bool known;                  /* target */
    bool (*run)(struct once *o); /* false: st */
    struct status st;
    struct task task;

    /* Of show and list. */
    struct e2b_output *ret; /* the caller's */
    struct e2b_output output;
    char command_id[RECORD_ID_MAX + 1];
    const struct archive_list_args *args; /* the caller's */
};

static void run_done(struct task *task)
{
    struct once *o = container_of(task, struct once, task);
    struct e2b_op *op = o->op;

    if (o->ret != NULL)
        *o->ret = o->output;
    op->st = o->st;
    target_deinit(&o->target);
    free(o);
    op->done(op);
}

static void run_job(void *arg)
{
    struct once *o = arg;

    if (o->run(o))
        o->st = STATUS_INIT;
    executor_post(o->op->executor, &o->task);
}

static struct once *once_new(struct archive *a, struct e2b_op *op, const char *sandbox_id,
                             bool (*run)(struct once *o))
{
    struct once *o = xcalloc(1, sizeof(*o));

    o->archive = a;
    o->op = op;
    op->request = NULL; /* there is nothing that e2b_cancel() could do */
    o->known = target_init(&o->target, op->caller, sandbox_id, &o->st);
    o->run = run;
    o->task.run = run_done;
    return o;
}

static void once_start(struct once *o, struct jobs *jobs)
{
    if (o->known && jobs_start(jobs, run_job, o))
        return;
    if (o->known)
        archive_is_busy(&o->st);
    executor_post(o->op->executor, &o->task);
}

/* --- copying --- */

bool archive_copy_now(struct archive *a, const struct target *t, int64_t deadline_ns,
                      const atomic_bool *stopping, struct status *st)
{
    int64_t started_ns = clock_monotonic_ns(), until_ns = started_ns + a->timeout_ms * NS_PER_MS;
    const struct copy_args args = {
        .e2b = a->e2b,
        .store = a->store,
        .caller = &t->caller,
        .owner = t->owner,
        .sandbox_id = t->sandbox_id,
        .until_ns = deadline_ns < until_ns ? deadline_ns : until_ns,
        .stopping = stopping,
    };
    struct copy_result result;

    if (!copy_sandbox(&args, &result, st)) {
        if (!atomic_load(stopping))
            archive_figures_not_copied(a->figures, t->sandbox_id, st);
        return false;
    }
    archive_figures_copied(a->figures, t->sandbox_id, result.bytes);
    if (result.commands > 0)
        log_info("commands archived", LOG_S("sandbox_id", t->sandbox_id),
                 LOG_N("commands", result.commands), LOG_N("bytes", result.bytes),
                 LOG_N("cut_short", result.cut),
                 LOG_N("took_ms", (clock_monotonic_ns() - started_ns) / NS_PER_MS));
    return true;
}

static bool run_copy(struct once *o)
{
    return archive_copy_now(o->archive, &o->target, o->op->deadline_ns,
                            &o->archive->copies.stopping, &o->st);
}

void archive_copy(struct archive *a, struct e2b_op *op, const char *sandbox_id)
{
    once_start(once_new(a, op, sandbox_id, run_copy), &a->copies);
}

/* --- what is known of commands --- */

static void take_output(struct once *o, struct buf *b)
{
    o->output.out_len = buf_len(b);
    o->output.out = (uint8_t *)buf_take_str(b);
}

static bool run_show(struct once *o)
{
    const struct archived_place p = target_place(&o->target, o->archive);
    struct buf out = BUF_INIT(RECORD_MAX + 64);
    bool ok = read_show(&p, o->command_id, &out, &o->output, &o->st);

    archive_figures_read(o->archive->figures, ok ? &STATUS_INIT : &o->st);
    take_output(o, &out);
    return ok;
}

void archive_show(struct archive *a, struct e2b_op *op, const char *sandbox_id,
                  const char *command_id, struct e2b_output *ret)
{
    struct once *o = once_new(a, op, sandbox_id, run_show);

    o->ret = ret;
    snprintf(o->command_id, sizeof(o->command_id), "%s", command_id);
    once_start(o, &a->reads);
}

static bool run_list(struct once *o)
{
    const struct archived_place p = target_place(&o->target, o->archive);
    struct buf out = BUF_INIT(E2B_OUTPUT_MAX);
    bool ok = read_list(&p, o->args, &out, &o->st);

    archive_figures_read(o->archive->figures, ok ? &STATUS_INIT : &o->st);
    take_output(o, &out);
    return ok;
}

void archive_list(struct archive *a, struct e2b_op *op, const char *sandbox_id,
                  const struct archive_list_args *args, struct e2b_output *ret)
{
    struct once *o = once_new(a, op, sandbox_id, run_list);

    o->ret = ret;
    o->args = args;
    once_start(o, &a->reads);
}

/* --- its life --- */

/* s3://BUCKET/PREFIX, or s3://BUCKET. */
static bool new_s3(const struct archive_config *c, struct store **ret, struct status *st)
{
    const char *place = c->place + strlen("s3://");
    size_t bucket_len = strcspn(place, "/"), prefix_len;
    const char *prefix = place + bucket_len + (place[bucket_len] == '/');
    struct store_s3_config s3 = {
        .endpoint = c->s3_endpoint,
        .region = c->s3_region,
        .access_key_id = c->s3_access_key_id,
        .secret_access_key = c->s3_secret_access_key,
        .session_token = c->s3_session_token,
        .request_timeout_ms = OBJECT_TIMEOUT_MS,
    };
    char *bucket = xstrndup(place, bucket_len), *trimmed;
    bool ok;

    for (prefix_len = strlen(prefix); prefix_len > 0 && prefix[prefix_len - 1] == '/'; prefix_len--)
        ;
    trimmed = xstrndup(prefix, prefix_len);
    s3.bucket = bucket;
    s3.prefix = trimmed;
    ok = store_s3_new(&s3, ret, st);
    free(bucket);
    free(trimmed);
    return ok;
}

bool archive_new(const struct archive_config *c, struct e2b *e, struct archive **ret,
                 struct status *st)
{
    struct store *store;
    struct archive *a;

    if (strncmp(c->place, "s3://", 5) == 0 ? !new_s3(c, &store, st)
                                           : !store_dir_new(c->place, &store, st))
        return false;
    a = xcalloc(1, sizeof(*a));
    a->store = store;
    a->e2b = e;
    a->timeout_ms = c->timeout_ms;
    a->figures = c->figures;
    jobs_init(&a->reads, READS_MAX);
    jobs_init(&a->copies, COPIES_MAX);
    if (c->before_end_ms > 0)
        a->sweeper = sweeper_new(a, c->before_end_ms);
    *ret = a;
    return true;
}

void archive_free(struct archive *a)
{
    if (a == NULL)
        return;
    sweeper_free(a->sweeper);
    jobs_deinit(&a->copies);
    jobs_deinit(&a->reads);
    a->store->free(a->store);
    free(a);
}
