/* What sandboxes use and have used: of one over time, and of many just now. */
#include "runtime/local/api/api.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/http/url.h"
#include "runtime/local/timestamp.h"

#include <stdio.h>
#include <string.h>

enum { IDS_MAX = 100, LIST_MAX = IDS_MAX * (SANDBOX_ID_LEN + 64) };

static void add_int(struct json_object *o, const char *key, int64_t value)
{
    json_object_object_add(o, key, json_object_new_int64(value));
}

static struct json_object *sample_json(const struct sample *s)
{
    struct json_object *o = json_object_new_object();
    char text[TIMESTAMP_SIZE];

    timestamp_format(s->at_s * NS_PER_S, text);
    json_object_object_add(o, "timestamp", json_object_new_string(text));
    add_int(o, "timestampUnix", s->at_s);
    add_int(o, "cpuCount", s->cpus);
    snprintf(text, sizeof(text), "%.2f", s->cpu_percent);
    json_object_object_add(o, "cpuUsedPct", json_object_new_double_s(s->cpu_percent, text));
    add_int(o, "memUsed", s->memory_used);
    add_int(o, "memTotal", s->memory_total);
    add_int(o, "memCache", s->memory_cache);
    add_int(o, "diskUsed", s->disk_used);
    add_int(o, "diskTotal", s->disk_total);
    return o;
}

static void add_sample(void *array, const struct sample *s)
{
    json_object_array_add(array, sample_json(s));
}

void api_metrics(const struct api_call *call)
{
    const struct history *h;
    struct json_object *array;
    int64_t start_s, end_s;

    if (!api_check_id(call) ||
        !api_query_number(call, "start", 0, INT64_MAX / NS_PER_S, -1, &start_s) ||
        !api_query_number(call, "end", 0, INT64_MAX / NS_PER_S, -1, &end_s))
        return;
    h = history_find(&call->daemon->histories, call->id);
    if (end_s < 0)
        end_s = clock_wall_ns() / NS_PER_S;
    if (start_s > end_s) {
        api_error(call->x, 400, "start is after end");
        return;
    }
    if (start_s < 0)
        start_s = h != NULL ? series_begin_s(&h->series) : end_s;
    array = json_object_new_array();
    if (h != NULL)
        series_range(&h->series, start_s, end_s, add_sample, array);
    api_json(call->x, 200, array);
}

/* The newest sample of each id in a list with commas. False: it is not one. */
static bool add_newest(const struct daemon *d, const char *ids, struct json_object *to)
{
    char id[SANDBOX_ID_LEN + 1];

    for (size_t n = 0; *ids != '\0'; n++) {
        size_t len = strcspn(ids, ","), own = strcspn(ids, ",-");
        const struct history *h;

        if (n == IDS_MAX || !sandbox_id_is_valid(ids, own))
            return false;
        snprintf(id, sizeof(id), "%.*s", (int)own, ids);
        h = registry_find(&d->registry, id) != NULL ? history_find(&d->histories, id) : NULL;
        if (h != NULL && series_newest(&h->series) != NULL)
            json_object_object_add(to, id, sample_json(series_newest(&h->series)));
        ids += len;
        ids += *ids == ',';
    }
    return true;
}

void api_metrics_of_many(const struct api_call *call)
{
    AUTO(buf_deinit) struct buf ids = BUF_INIT(LIST_MAX);
    struct json_object *o, *sandboxes;

    if (url_query_get(http_request(call->x)->query, "sandbox_ids", &ids) != URL_QUERY_FOUND) {
        api_error(call->x, 400, "validation error: sandbox_ids is required");
        return;
    }
    sandboxes = json_object_new_object();
    if (!add_newest(call->daemon, buf_str(&ids), sandboxes)) {
        json_object_put(sandboxes);
        api_error(
            call->x, 400,
            "validation error: sandbox_ids must be at most %d sandbox ids with commas between",
            IDS_MAX);
        return;
    }
    o = json_object_new_object();
    json_object_object_add(o, "sandboxes", sandboxes);
    api_json(call->x, 200, o);
}
