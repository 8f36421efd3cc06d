/* What a sandbox used, as E2B measured it every few seconds. */
#include "service/e2b/control.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "service/e2b/json.h"
#include "service/e2b/url.h"

#include <stdlib.h>

enum { SAMPLES_MAX = 100000 };

struct metrics {
    struct control control;
    int64_t start_s, end_s;
    struct e2b_metrics *ret; /* the caller's */
};

static void destroy(struct request *r)
{
    struct metrics *m = container_of(r, struct metrics, control.request);

    control_deinit(&m->control);
    free(m);
}

void e2b_metrics_deinit(struct e2b_metrics *m)
{
    free(m->samples);
    *m = (struct e2b_metrics){0};
}

static bool read_sample(struct json_object *o, struct e2b_sample *s)
{
    int64_t unix_s, cpus;

    if (!json_int(o, "timestampUnix", &unix_s) || unix_s < 0 || unix_s > INT64_MAX / NS_PER_S)
        return false;
    s->time_ns = unix_s * NS_PER_S;
    if (!json_int(o, "cpuCount", &cpus) || cpus < 0 || cpus > INT32_MAX)
        return false;
    s->cpu_count = (int32_t)cpus;
    return json_number(o, "cpuUsedPct", &s->cpu_used_percent) &&
           json_int(o, "memUsed", &s->memory_used) && json_int(o, "memTotal", &s->memory_total) &&
           json_int(o, "memCache", &s->memory_cache) && json_int(o, "diskUsed", &s->disk_used) &&
           json_int(o, "diskTotal", &s->disk_total);
}

static bool read_samples(struct json_object *array, struct e2b_metrics *ret)
{
    size_t n;

    if (!json_object_is_type(array, json_type_array))
        return false;
    n = json_object_array_length(array);
    if (n > SAMPLES_MAX)
        return false;
    ret->samples = xcalloc(n ? n : 1, sizeof ret->samples[0]);
    for (size_t i = 0; i < n; i++) {
        if (!read_sample(json_object_array_get_idx(array, i), &ret->samples[i]))
            return false;
        ret->n_samples++;
    }
    return true;
}

static bool judge(struct exchange *x, struct verdict *verdict)
{
    struct metrics *m = container_of(x, struct metrics, control.exchange);
    AUTO_JSON struct json_object *o = control_answer(x);

    e2b_metrics_deinit(m->ret);
    if (read_samples(o, m->ret))
        return true;
    e2b_metrics_deinit(m->ret);
    errors_garbage(SOURCE_API, "no metrics in it", verdict);
    return false;
}

static bool judge_look(struct exchange *x, struct verdict *verdict)
{
    struct e2b_sandbox s;

    if (!control_read_sandbox(x, &s, verdict))
        return false;
    e2b_sandbox_deinit(&s);
    return true;
}

/* An id that E2B does not know has no metrics there, which is not the same as having used nothing:
 * so the sandbox is looked at first. */
static void done_look(struct exchange *x)
{
    struct metrics *m = container_of(x, struct metrics, control.exchange);
    struct buf path;
    char *id;

    if (x->verdict.st.code != CODE_OK) {
        control_done(x);
        return;
    }
    buf_init(&path, SIZE_MAX / 2);
    id = url_escape(m->control.sandbox_id);
    buf_printf(&path, "/sandboxes/%s/metrics", id);
    free(id);
    if (m->start_s > 0)
        buf_printf(&path, "?start=%lld", (long long)m->start_s);
    if (m->end_s > 0)
        buf_printf(&path, "%cend=%lld", m->start_s > 0 ? '&' : '?', (long long)m->end_s);
    x = control_begin(&m->control, "GET", buf_take_str(&path));
    x->max_response = E2B_LIST_MAX;
    x->judge = judge;
    exchange_start(x);
}

static void start(struct request *r)
{
    struct exchange *x = control_look(container_of(r, struct control, request));

    x->judge = judge_look;
    x->done = done_look;
    exchange_start(x);
}

void e2b_metrics(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int64_t start_s,
                 int64_t end_s, struct e2b_metrics *ret)
{
    struct metrics *m = xcalloc(1, sizeof *m);

    control_init(&m->control, sandbox_id, start, destroy);
    m->start_s = start_s;
    m->end_s = end_s;
    m->ret = ret;
    *ret = (struct e2b_metrics){0};
    request_submit(&m->control.request, e, op, sandbox_id);
}
