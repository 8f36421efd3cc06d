/*
 * See observer.h. The agent is sandbox ground: a line is bounded, parsed strictly, and whatever it
 * claims lands in the history of its own sandbox, which is bounded too. An agent that talks too
 * much is read at TURN_BYTES per TURN_MS, so that it cannot keep the loop busy.
 */
#include "runtime/local/daemon/observer.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/net.h"
#include "runtime/local/edge/stream.h"

#include <errno.h>
#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#include <json-c/linkhash.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    BEGIN_MS = 100,
    RETRY_MS = 1000,
    EVENT_MAX = 32 << 10,
    TURN_BYTES = 64 << 10,
    TURN_MS = 100,
    PATH_SIZE = 256,
};

struct observer {
    struct daemon *daemon;   /* borrowed */
    struct sandbox *sandbox; /* borrowed: it stops us before it ends */
    struct stream up;
    struct http_parser parser;
    struct buf line;         /* begun */
    struct loop_timer begin; /* connects */
    struct loop_timer turn;  /* reads on */
    size_t left;             /* of this turn */
    int32_t cpus;            /* of the sandbox */
    int64_t heard_ns;        /* when the newest event that was told happened, */
    int64_t known_ns;        /* and that of earlier connections: what it tells again */
};

/* ---- what is told ---- */

static int64_t number(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(o, key, &v);
    return json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;
}

static const char *text(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(o, key, &v);
    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static void take_metrics(struct history *h, const struct json_object *o, int32_t cpus)
{
    struct sample sample = {
        .at_s = number(o, "ts"),
        .cpus = (int32_t)number(o, "cpu_count"),
        .memory_used = number(o, "mem_used"),
        .memory_cache = number(o, "mem_cache"),
        .memory_total = number(o, "mem_total"),
        .disk_used = number(o, "disk_used"),
        .disk_total = number(o, "disk_total"),
    };
    struct json_object *percent = NULL;

    json_object_object_get_ex(o, "cpu_used_pct", &percent);
    sample.cpu_percent = json_object_get_double(percent);
    /* It counts the machine's CPUs, of which the sandbox may have fewer. */
    if (sample.cpus > cpus) {
        sample.cpu_percent *= (double)sample.cpus / cpus;
        sample.cpus = cpus;
    }
    if (sample.at_s > 0 && sample.cpus > 0 && sample.cpu_percent >= 0)
        series_add(&h->series, &sample);
}

static void take_event(struct history *h, const struct json_object *o, const char *message)
{
    struct note_field fields[NOTE_FIELDS_MAX];
    struct json_object *given = NULL;
    enum note_level level;
    size_t n = 0;

    if (text(o, "level") == NULL || !note_level_parse(text(o, "level"), &level))
        return;
    fields[n++] = (struct note_field){"logger", text(o, "logger") ?: "agent"};
    json_object_object_get_ex(o, "fields", &given);
    if (json_object_is_type(given, json_type_object)) {
        json_object_object_foreach(given, name, value)
        {
            if (n < NOTE_FIELDS_MAX && json_object_is_type(value, json_type_string))
                fields[n++] = (struct note_field){name, json_object_get_string(value)};
        }
    }
    logbook_add(&h->log, number(o, "time_ns"), level, message, fields, n);
}

static void take_line(struct observer *o, const char *line, size_t len)
{
    struct history *h = o->sandbox->history;
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *object, *metrics = NULL;
    int64_t time_ns;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = json_tokener_parse_ex(tokener, line, (int)len);
    if (json_object_is_type(object, json_type_object)) {
        time_ns = number(object, "time_ns");
        if (json_object_object_get_ex(object, "metrics", &metrics))
            take_metrics(h, metrics, o->cpus);
        else if (text(object, "message") != NULL && time_ns > o->known_ns)
            take_event(h, object, text(object, "message"));
        if (time_ns > o->heard_ns)
            o->heard_ns = time_ns;
    }
    json_object_put(object);
    json_tokener_free(tokener);
}

/* ---- how it is told ---- */

static void disconnect(struct observer *o)
{
    stream_close(&o->up);
    http_parser_reset(&o->parser);
    buf_deinit(&o->line);
    loop_timer_cancel(&o->daemon->loop, &o->turn);
    loop_timer_after(&o->daemon->loop, &o->begin, RETRY_MS);
}

static void take_body(struct observer *o, const uint8_t *data, size_t len)
{
    while (len > 0) {
        const uint8_t *end = memchr(data, '\n', len);
        size_t n = end != NULL ? (size_t)(end - data) : len;

        if (!buf_append(&o->line, data, n))
            buf_clear(&o->line); /* too long to be one of ours: its rest is no JSON */
        data += n;
        len -= n;
        if (end == NULL)
            return;
        data++;
        len--;
        take_line(o, buf_str(&o->line), buf_len(&o->line));
        buf_clear(&o->line);
    }
}

/* False: nothing sensible comes any more. */
static bool take_response(struct observer *o, const uint8_t *data, size_t len)
{
    enum http_event event = HTTP_HEAD;
    struct http_slice body;
    size_t used = 0, n;

    while (event != HTTP_NEED_MORE) {
        event = http_parser_next(&o->parser, data + used, len - used, &n, &body);
        used += n;
        if (event == HTTP_HEAD && o->parser.head.status != 200)
            return false;
        if (event == HTTP_BODY)
            take_body(o, body.data, body.len);
        if (event == HTTP_END || event == HTTP_ERROR)
            return false;
    }
    return true;
}

static void on_readable(struct stream *s)
{
    struct observer *o = container_of(s, struct observer, up);
    ssize_t n = recv(s->io.fd, o->daemon->scratch, o->left, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || !take_response(o, o->daemon->scratch, (size_t)n)) {
        disconnect(o);
        return;
    }
    o->left -= (size_t)n;
    if (!timer_is_set(&o->turn.timer))
        loop_timer_after(&o->daemon->loop, &o->turn, TURN_MS);
    if (o->left == 0)
        stream_read(s, false);
}

static void on_turn(struct loop_timer *timer)
{
    struct observer *o = container_of(timer, struct observer, turn);

    o->left = TURN_BYTES;
    stream_read(&o->up, true);
}

static void on_begin(struct loop_timer *timer)
{
    struct observer *o = container_of(timer, struct observer, begin);
    AUTO(buf_deinit) struct buf request = BUF_INIT(512);
    char path[PATH_SIZE];
    int fd;

    if (!zygote_agent_path(o->daemon->zygote, o->sandbox->id, path, sizeof(path)) ||
        !net_connect_unix(path, SOCK_STREAM, &fd, NULL)) {
        loop_timer_after(&o->daemon->loop, &o->begin, RETRY_MS);
        return;
    }
    stream_open(&o->up, &o->daemon->loop, fd);
    o->left = TURN_BYTES;
    o->known_ns = o->heard_ns;
    buf_printf(&request, "GET /events HTTP/1.1\r\nHost: localhost\r\n");
    if (o->sandbox->access_token[0] != '\0')
        buf_printf(&request, "X-Access-Token: %s\r\n", o->sandbox->access_token);
    buf_append_str(&request, "\r\n");
    stream_send_bytes(&o->up, buf_data(&request), buf_len(&request));
    stream_read(&o->up, true);
}

struct observer *observer_start(struct daemon *d, struct sandbox *s)
{
    struct observer *o = xcalloc(1, sizeof(*o));

    *o = (struct observer){
        .daemon = d,
        .sandbox = s,
        .cpus = (int32_t)((zygote_limits(&s->blueprint.limits).cpu_millis + 999) / 1000),
        .up = {.readable = on_readable},
        .line = BUF_INIT(EVENT_MAX),
        .begin.fire = on_begin,
        .turn.fire = on_turn,
    };
    http_parser_init(&o->parser, true);
    loop_timer_after(&d->loop, &o->begin, BEGIN_MS);
    return o;
}

void observer_stop(struct observer *o)
{
    if (o == NULL)
        return;
    disconnect(o);
    loop_timer_cancel(&o->daemon->loop, &o->begin);
    http_parser_deinit(&o->parser);
    free(o);
}
