/*
 * The platform's own log of a sandbox: one page of it. E2B keeps it for a week, also of sandboxes
 * that ended, and does not say whether there ever was one of that id.
 */
#include "service/e2b/control.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "service/e2b/json.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

enum {
    TEXT_MAX = 1024 * 1024,
    LEVEL_MAX = 32,
    RECORD_MAX = 2 * TEXT_MAX,
    LINE_MAX_BYTES = 16 * 1024, /* what is longer is cut */
};

struct page {
    struct control control;
    struct e2b_logs_args args;
    struct e2b_logs *ret; /* the caller's */
};

static void destroy(struct request *r)
{
    struct page *p = container_of(r, struct page, control.request);

    control_deinit(&p->control);
    free(p);
}

void e2b_logs_deinit(struct e2b_logs *l)
{
    for (size_t i = 0; i < l->n_entries; i++)
        free(l->entries[i].text);
    free(l->entries);
    *l = (struct e2b_logs){0};
}

/* At a character's start. */
static void cut(char *line)
{
    size_t len = strnlen(line, LINE_MAX_BYTES + 1);

    if (len <= LINE_MAX_BYTES)
        return;
    for (len = LINE_MAX_BYTES; len > 0 && ((unsigned char)line[len] & 0xc0) == 0x80; len--) {
    }
    line[len] = '\0';
}

/* "level message key=value …": what a person wants to read of a record. */
static char *text_of(struct json_object *o)
{
    const char *level = json_text(o, "level", LEVEL_MAX);
    const char *message = json_text(o, "message", TEXT_MAX);
    struct json_object *fields = NULL;
    struct buf text;
    char *line;

    buf_init(&text, RECORD_MAX);
    buf_printf(&text, "%s%s%s", level != NULL ? level : "", level != NULL ? " " : "",
               message != NULL ? message : "");
    if (json_object_object_get_ex(o, "fields", &fields) &&
        json_object_is_type(fields, json_type_object)) {
        json_object_object_foreach(fields, key, value)
        {
            const char *s = json_text_value(value, TEXT_MAX);

            if (s != NULL && strcmp(key, "message") != 0 && strcmp(key, "level") != 0)
                buf_printf(&text, " %s=%s", key, s);
        }
    }
    line = buf_take_str(&text);
    cut(line);
    return line;
}

static bool take_entries(struct json_object *list, struct e2b_logs *ret)
{
    size_t n = json_object_array_length(list);

    ret->entries = xcalloc(n, sizeof(ret->entries[0]));
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct e2b_log_entry *e = &ret->entries[ret->n_entries];

        if (!json_time(o, "timestamp", &e->time_ns))
            return false;
        e->text = text_of(o);
        ret->n_entries++;
    }
    return true;
}

static bool judge(struct exchange *x, struct verdict *verdict)
{
    AUTO_JSON struct json_object *o = control_answer(x);
    struct e2b_logs *ret = container_of(x, struct page, control.exchange)->ret;
    struct json_object *list = NULL;

    e2b_logs_deinit(ret);
    if (json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, "logs", &list) &&
        json_object_is_type(list, json_type_array) && take_entries(list, ret))
        return true;
    e2b_logs_deinit(ret);
    errors_garbage(SOURCE_API, "no log in it", verdict);
    return false;
}

static void start(struct request *r)
{
    struct page *p = container_of(r, struct page, control.request);
    AUTO_FREE char *id = url_escape(p->control.sandbox_id);
    struct exchange *x = control_begin(
        &p->control, "GET",
        p->args.backward
            ? xasprintf("/v2/sandboxes/%s/logs?direction=backward&limit=%d", id, p->args.limit)
            : xasprintf("/v2/sandboxes/%s/logs?direction=forward&limit=%d&cursor=%lld", id,
                        p->args.limit, (long long)p->args.from_ms));

    x->max_response = E2B_LOGS_MAX;
    x->judge = judge;
    exchange_start(x);
}

void e2b_logs(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
              const struct e2b_logs_args *args, struct e2b_logs *ret)
{
    struct page *p = xcalloc(1, sizeof *p);

    control_init(&p->control, sandbox_id, start, destroy);
    p->args = *args;
    p->ret = ret;
    *ret = (struct e2b_logs){0};
    request_submit(&p->control.request, e, op, sandbox_id);
}
