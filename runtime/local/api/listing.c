/*
 * See listing.h. A page token is base64url of "<start>__<id>", with "__asc" behind it in ascending
 * order: a position, so that pages neither repeat nor skip while sandboxes come and go.
 */
#include "runtime/local/api/listing.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/url.h"
#include "runtime/local/timestamp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { VALUE_MAX = 16 << 10 };

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static bool base64_encode(struct buf *out, const uint8_t *in, size_t len)
{
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)in[i] << 16;

        bits |= n > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        bits |= n > 2 ? in[i + 2] : 0;
        for (size_t k = 0; k < 4; k++) {
            char c = k <= n ? base64url[bits >> (18 - 6 * k) & 63] : '=';

            if (!buf_append_byte(out, (uint8_t)c))
                return false;
        }
    }
    return true;
}

static bool base64_decode(struct buf *out, const char *in)
{
    uint32_t bits = 0;
    int n = 0;

    for (; *in != '\0' && *in != '='; in++) {
        const char *at = strchr(base64url, *in);

        if (at == NULL)
            return false;
        bits = bits << 6 | (uint32_t)(at - base64url);
        n += 6;
        if (n >= 8) {
            n -= 8;
            if (!buf_append_byte(out, (uint8_t)(bits >> n)))
                return false;
        }
    }
    return in[strspn(in, "=")] == '\0';
}

static bool bad(struct status *st, const char *what)
{
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s", what);
}

static bool add_pair(struct pairs *p, const char *text, size_t len)
{
    AUTO(buf_deinit) struct buf name = BUF_INIT(VALUE_MAX);
    AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals != NULL ? (size_t)(equals - text) : len;
    size_t value_len = equals != NULL ? len - name_len - 1 : 0;

    if (equals == NULL || memchr(equals + 1, '=', value_len) != NULL)
        return false;
    if (!url_decode(&name, text, name_len, true) ||
        !url_decode(&value, equals + 1, value_len, true))
        return false;
    if (memchr(buf_str(&name), '\0', buf_len(&name)) != NULL ||
        memchr(buf_str(&value), '\0', buf_len(&value)) != NULL)
        return false;
    pairs_add(p, buf_str(&name), buf_str(&value));
    return true;
}

bool listing_parse_metadata(struct pairs *ret, const char *encoded, struct status *st)
{
    AUTO(buf_deinit) struct buf form = BUF_INIT(VALUE_MAX);
    const char *text;

    if (!url_decode(&form, encoded, strlen(encoded), true))
        return bad(st, "metadata is not properly encoded");
    for (text = buf_str(&form); *text != '\0'; text += *text == '&') {
        size_t len = strcspn(text, "&");

        if (!add_pair(ret, text, len))
            return bad(st, "metadata must be key=value pairs joined by &");
        text += len;
    }
    return true;
}

static bool parse_states(struct listing *l, const char *text, struct status *st)
{
    l->running = l->paused = false;
    while (*text != '\0') {
        size_t len = strcspn(text, ",");

        if (len == strlen("running") && memcmp(text, "running", len) == 0)
            l->running = true;
        else if (len == strlen("paused") && memcmp(text, "paused", len) == 0)
            l->paused = true;
        else
            return bad(st, "state must be running, paused, or both with a comma between");
        text += len;
        text += *text == ',';
    }
    return true;
}

static bool parse_limit(struct listing *l, const char *text, struct status *st)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (end == text || *end != '\0' || n < 1 || n > LISTING_MAX)
        return bad(st, "limit must be a number from 1 to 100");
    l->limit = (size_t)n;
    return true;
}

static bool parse_order(struct listing *l, const char *text, struct status *st)
{
    l->ascending = strcmp(text, "asc") == 0;
    if (!l->ascending && strcmp(text, "desc") != 0)
        return bad(st, "order must be asc or desc");
    return true;
}

static bool parse_token(struct listing *l, const char *text, bool has_order, struct status *st)
{
    AUTO(buf_deinit) struct buf decoded = BUF_INIT(256);
    char *id, *suffix;
    bool ascending;

    if (!base64_decode(&decoded, text))
        return bad(st, "nextToken is not one of ours");
    buf_str(&decoded);
    id = strstr((char *)buf_data(&decoded), "__");
    if (id == NULL)
        return bad(st, "nextToken is not one of ours");
    *id = '\0';
    id += 2;
    suffix = strstr(id, "__");
    ascending = suffix != NULL && strcmp(suffix, "__asc") == 0;
    if (suffix != NULL)
        *suffix = '\0';
    if (!timestamp_parse((char *)buf_data(&decoded), &l->start_ns) || strlen(id) > SANDBOX_ID_LEN ||
        !sandbox_id_is_valid(id, strlen(id)) || (suffix != NULL && !ascending))
        return bad(st, "nextToken is not one of ours");
    if (has_order && ascending != l->ascending)
        return bad(st, "nextToken belongs to a list in the other order");
    l->ascending = ascending;
    l->has_start = true;
    strcpy(l->start_id, id);
    return true;
}

/* One that is not there may be a snapshot's name, or have been there: its sandboxes still are. */
static bool parse_template(struct listing *l, const char *text, const struct templates *templates,
                           struct status *st)
{
    struct template *template;

    switch (templates_find(templates, text, &template)) {
    case TEMPLATE_FOUND:
        l->template = xstrdup(template->id);
        return true;
    case TEMPLATE_UNKNOWN:
        l->template = xasprintf("%.*s", (int)strcspn(text, ":"), text);
        return true;
    case TEMPLATE_MALFORMED:
        break;
    }
    return bad(st, "template is malformed");
}

static bool is_of_template(const struct sandbox *s, const char *template)
{
    const char *own = strchr(s->template_id, '/');

    return strcasecmp(s->template_id, template) == 0 ||
           (own != NULL && strcasecmp(own + 1, template) == 0);
}

/* The value of a parameter. False: there, but not readable. *ret is NULL when it is absent. */
static bool parameter(const char *query, const char *name, struct buf *value, const char **ret,
                      struct status *st)
{
    *ret = NULL;
    switch (url_query_get(query, name, value)) {
    case URL_QUERY_FOUND:
        *ret = buf_str(value);
        return true;
    case URL_QUERY_ABSENT:
        return true;
    case URL_QUERY_BAD:
        break;
    }
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s is not properly encoded", name);
}

bool listing_parse(struct listing *l, const char *query, const struct templates *templates,
                   struct status *st)
{
    AUTO(buf_deinit) struct buf buf = BUF_INIT(VALUE_MAX);
    bool has_order;
    const char *v;

    *l = (struct listing){.running = true, .paused = true, .limit = LISTING_MAX};
    if (!parameter(query, "metadata", &buf, &v, st))
        return false;
    l->has_metadata = v != NULL && *v != '\0';
    if (v != NULL && !listing_parse_metadata(&l->metadata, v, st))
        return false;
    if (!parameter(query, "state", &buf, &v, st) || (v != NULL && !parse_states(l, v, st)))
        return false;
    if (!parameter(query, "limit", &buf, &v, st) || (v != NULL && !parse_limit(l, v, st)))
        return false;
    if (!parameter(query, "order", &buf, &v, st) || (v != NULL && !parse_order(l, v, st)))
        return false;
    has_order = v != NULL;
    if (!parameter(query, "startedAfter", &buf, &v, st))
        return false;
    if (v != NULL && !timestamp_parse(v, &l->after_ns))
        return bad(st, "startedAfter is not a timestamp");
    if (!parameter(query, "template", &buf, &v, st) ||
        (v != NULL && !parse_template(l, v, templates, st)))
        return false;
    if (!parameter(query, "nextToken", &buf, &v, st))
        return false;
    return v == NULL || *v == '\0' || parse_token(l, v, has_order, st);
}

void listing_deinit(struct listing *l)
{
    pairs_deinit(&l->metadata);
    free(l->template);
}

bool listing_matches(const struct listing *l, const struct sandbox *s)
{
    if (!(s->paused ? l->paused : l->running) || s->start_ns < l->after_ns)
        return false;
    if (l->template != NULL && !is_of_template(s, l->template))
        return false;
    if (l->has_metadata && s->metadata.n == 0)
        return false;
    for (size_t i = 0; i < l->metadata.n; i++) {
        const char *value = pairs_get(&s->metadata, l->metadata.items[i].name);

        if (value == NULL || strcmp(value, l->metadata.items[i].value) != 0)
            return false;
    }
    return true;
}

static bool is_behind_start(const struct listing *l, const struct sandbox *s)
{
    int by_id = strcmp(s->id, l->start_id);

    if (!l->has_start)
        return true;
    if (s->start_ns != l->start_ns)
        return (s->start_ns > l->start_ns) == l->ascending;
    return l->ascending ? by_id > 0 : by_id < 0;
}

size_t listing_page(const struct listing *l, const struct registry *r, const struct sandbox **page,
                    bool *ret_more)
{
    const struct list *head = &r->by_start;
    size_t n = 0;

    *ret_more = false;
    for (const struct list *node = l->ascending ? head->next : head->prev; node != head;
         node = l->ascending ? node->next : node->prev) {
        const struct sandbox *s = container_of(node, struct sandbox, by_start);

        if (!listing_matches(l, s) || !is_behind_start(l, s))
            continue;
        if (n == l->limit) {
            *ret_more = true;
            break;
        }
        page[n++] = s;
    }
    return n;
}

bool listing_token(const struct listing *l, const struct sandbox *s, struct buf *out)
{
    char start[TIMESTAMP_SIZE], text[TIMESTAMP_SIZE + SANDBOX_ID_LEN + 8];
    int n;

    timestamp_format(s->start_ns, start);
    n = snprintf(text, sizeof(text), "%s__%s%s", start, s->id, l->ascending ? "__asc" : "");
    return base64_encode(out, (const uint8_t *)text, (size_t)n);
}
