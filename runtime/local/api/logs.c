/*
 * The log of a sandbox, in the older form (lines of JSON, oldest first) and the newer (records,
 * either way, by level and text). Neither asks whether there is such a sandbox: an ended one has a
 * log too, and an unknown one an empty one.
 */
#include "runtime/local/api/api.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/http/url.h"
#include "runtime/local/timestamp.h"

#include <string.h>

enum { LIMIT_DEFAULT = 1000, LIMIT_MAX = 1000, SEARCH_MAX = 256 };

static void add_text(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static void add_time(struct json_object *o, const struct note *r)
{
    char text[TIMESTAMP_SIZE];

    timestamp_format(r->time_ns, text);
    add_text(o, "timestamp", text);
}

static void add_fields(struct json_object *o, const struct note *r)
{
    for (size_t i = 0; i < r->n_fields; i++)
        add_text(o, r->fields[i].name, r->fields[i].value);
}

static struct json_object *record_json(const struct note *r)
{
    struct json_object *o = json_object_new_object(), *fields = json_object_new_object();

    add_time(o, r);
    add_text(o, "level", note_level_name(r->level));
    add_text(o, "message", r->message);
    add_fields(fields, r);
    json_object_object_add(o, "fields", fields);
    return o;
}

/* The record as one line of text. */
static struct json_object *line_json(const struct note *r)
{
    struct json_object *o = json_object_new_object(), *line = json_object_new_object();

    add_time(o, r);
    add_time(line, r);
    add_text(line, "level", note_level_name(r->level));
    add_text(line, "message", r->message);
    add_fields(line, r);
    add_text(o, "line",
             json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN |
                                                      JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(line);
    return o;
}

struct answer {
    struct json_object *records;
    struct json_object *lines; /* NULL: not wanted */
};

static void add_record(void *ctx, const struct note *r)
{
    struct answer *a = ctx;

    json_object_array_add(a->records, record_json(r));
    if (a->lines != NULL)
        json_object_array_add(a->lines, line_json(r));
}

static void reply(const struct api_call *call, const struct note_query *q, bool with_lines)
{
    const struct history *h = history_find(&call->daemon->histories, call->id);
    struct answer a = {json_object_new_array(), with_lines ? json_object_new_array() : NULL};
    struct json_object *o = json_object_new_object();

    if (h != NULL)
        logbook_find(&h->log, q, add_record, &a);
    json_object_object_add(o, "logs", with_lines ? a.lines : a.records);
    if (with_lines)
        json_object_object_add(o, "logEntries", a.records);
    api_json(call->x, 200, o);
}

void api_logs_v1(const struct api_call *call)
{
    struct note_query q = {.to_ns = INT64_MAX};
    int64_t start_ms, limit;

    if (!api_check_id(call) ||
        !api_query_number(call, "start", 0, INT64_MAX / NS_PER_MS, 0, &start_ms) ||
        !api_query_number(call, "limit", 0, INT32_MAX, LIMIT_DEFAULT, &limit))
        return;
    q.from_ns = start_ms * NS_PER_MS;
    q.limit = (size_t)limit;
    reply(call, &q, true);
}

/* One of two words. False: answered. */
static bool query_direction(const struct api_call *call, bool *ret_backward)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(64);
    enum url_query found = url_query_get(http_request(call->x)->query, "direction", &value);

    *ret_backward = found == URL_QUERY_ABSENT || strcmp(buf_str(&value), "backward") == 0;
    if (*ret_backward || (found == URL_QUERY_FOUND && strcmp(buf_str(&value), "forward") == 0))
        return true;
    api_error(call->x, 400, "validation error: direction must be forward or backward");
    return false;
}

static bool query_level(const struct api_call *call, enum note_level *ret)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(64);
    enum url_query found = url_query_get(http_request(call->x)->query, "level", &value);

    *ret = NOTE_DEBUG;
    if (found == URL_QUERY_ABSENT ||
        (found == URL_QUERY_FOUND && note_level_parse(buf_str(&value), ret)))
        return true;
    api_error(call->x, 400, "validation error: level must be debug, info, warn or error");
    return false;
}

static bool query_search(const struct api_call *call, struct buf *value, const char **ret)
{
    size_t n = 0;

    switch (url_query_get(http_request(call->x)->query, "search", value)) {
    case URL_QUERY_ABSENT:
        return true;
    case URL_QUERY_FOUND:
        *ret = buf_str(value);
        for (const char *c = *ret; *c != '\0'; c++)
            n += (*c & 0xc0) != 0x80; /* characters, not bytes */
        if (n <= SEARCH_MAX)
            return true;
        break;
    case URL_QUERY_BAD:
        break;
    }
    api_error(call->x, 400, "validation error: search must be text of at most %d characters",
              SEARCH_MAX);
    return false;
}

void api_logs(const struct api_call *call)
{
    AUTO(buf_deinit) struct buf search = BUF_INIT(4 * SEARCH_MAX);
    struct note_query q = {.to_ns = INT64_MAX};
    int64_t cursor_ms, limit;

    if (!api_check_id(call) || !query_direction(call, &q.backward) ||
        !query_level(call, &q.level) || !query_search(call, &search, &q.search) ||
        !api_query_number(call, "cursor", 0, INT64_MAX / NS_PER_MS, -1, &cursor_ms) ||
        !api_query_number(call, "limit", 0, LIMIT_MAX, LIMIT_DEFAULT, &limit))
        return;
    q.limit = (size_t)limit;
    if (cursor_ms >= 0 && q.backward)
        q.to_ns = cursor_ms * NS_PER_MS;
    else if (cursor_ms >= 0)
        q.from_ns = cursor_ms * NS_PER_MS;
    reply(call, &q, false);
}
