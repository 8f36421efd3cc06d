/*
 * See events.h. A follower that does not read (the daemon, while it is stopped) misses what is said
 * meanwhile, rather than having it piled up here.
 */
#include "runtime/local/agent/events.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/connect/json.h"
#include "runtime/local/agent/agent.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLE_MS = 5000,
    FIRST_SAMPLE_MS = 500, /* soon: many sandboxes do not live for five seconds */
    COMMAND_MAX = 1000,
    EVENT_MAX = 16 * 1024, /* of a command of control characters, each six bytes as JSON */
};

struct event_follower {
    struct list node;
    struct http_exchange *x; /* borrowed: its end frees us */
    bool full;
};

static void tell(struct event_follower *f, const char *line)
{
    if (!f->full)
        f->full = !http_write(f->x, line, strlen(line));
}

static void tell_all(struct events *e, const char *line)
{
    LIST_FOR_EACH (node, &e->followers)
        tell(container_of(node, struct event_follower, node), line);
}

/* ---- what is said ---- */

static void append_text(struct buf *out, const char *text)
{
    AUTO_FREE char *valid = utf8_repair((const uint8_t *)text, strlen(text));

    json_append_string(out, valid, strlen(valid));
}

static bool append_part(struct buf *out, const char *text)
{
    size_t len = strlen(text), room = buf_room(out);

    return buf_append(out, text, len < room ? len : room) && len <= room;
}

/* The command as a person would recognise it. */
static void append_command(struct buf *out, const Process__ProcessConfig *config)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(COMMAND_MAX);
    bool whole = append_part(&text, config->cmd);

    for (size_t i = 0; i < config->n_args && whole; i++)
        whole = append_part(&text, " ") && append_part(&text, config->args[i]);
    append_text(out, buf_str(&text));
}

/* pid 0: there was none. result: what became of it, or NULL. */
static void say(struct events *e, const char *level, const char *type, const char *message,
                const Process__ProcessConfig *config, pid_t pid, const char *result)
{
    AUTO(buf_deinit) struct buf line = BUF_INIT(EVENT_MAX);
    char **slot = &e->said[e->n_said++ % EVENTS_REMEMBERED];

    buf_printf(&line,
               "{\"time_ns\":%" PRId64
               ",\"level\":\"%s\",\"logger\":\"process\",\"message\":\"%s\","
               "\"fields\":{\"event_type\":\"%s\",",
               clock_wall_ns(), level, message, type);
    if (pid > 0)
        buf_printf(&line, "\"pid\":\"%d\",", (int)pid);
    buf_append_str(&line, "\"cmd\":");
    append_command(&line, config);
    if (result != NULL) {
        buf_append_str(&line, ",\"result\":");
        append_text(&line, result);
    }
    buf_append_str(&line, "}}\n");
    free(*slot);
    *slot = buf_take_str(&line);
    tell_all(e, *slot);
}

void events_process_started(struct events *e, const struct process *p)
{
    say(e, "info", "process_start", "Process started", p->config, p->pid, NULL);
}

void events_process_ended(struct events *e, const struct process *p, const char *how)
{
    say(e, "info", "process_end", "Process ended", p->config, p->pid, how);
}

void events_process_failed(struct events *e, const Process__ProcessConfig *config, const char *why)
{
    say(e, "error", "process_start", "Process could not be started", config, 0, why);
}

/* ---- who is told ---- */

static void on_sample(struct loop_timer *timer)
{
    struct events *e = container_of(timer, struct events, sample);
    AUTO(buf_deinit) struct buf line = BUF_INIT(METRICS_TEXT_MAX + 32);

    if (list_is_empty(&e->followers))
        return;
    buf_append_str(&line, "{\"metrics\":");
    metrics_describe(e->agent, &e->metrics, &line);
    buf_append_str(&line, "}\n");
    tell_all(e, buf_str(&line));
    loop_timer_after(&e->agent->loop, &e->sample, SAMPLE_MS);
}

static void on_writable(struct http_exchange *x)
{
    struct event_follower *f = http_user(x);

    f->full = false;
}

static void on_gone(struct http_exchange *x)
{
    struct event_follower *f = http_user(x);

    list_unlink(&f->node);
    free(f);
}

void events_init(struct events *e, struct agent *agent)
{
    e->agent = agent;
    e->sample.fire = on_sample;
    list_init(&e->followers);
}

void events_get(struct agent *agent, struct http_exchange *x)
{
    static const struct http_exchange_ops ops = {.writable = on_writable, .gone = on_gone};
    struct events *e = &agent->events;
    struct event_follower *f = xcalloc(1, sizeof(*f));

    f->x = x;
    http_attach(x, &ops, f);
    http_begin(x, 200);
    http_field(x, "Content-Type", "application/x-ndjson");
    http_start(x, HTTP_LENGTH_UNKNOWN);
    for (size_t i = 0; i < EVENTS_REMEMBERED; i++) {
        const char *line = e->said[(e->n_said + i) % EVENTS_REMEMBERED];

        if (line != NULL)
            tell(f, line);
    }
    if (list_is_empty(&e->followers))
        loop_timer_after(&agent->loop, &e->sample, FIRST_SAMPLE_MS);
    list_append(&e->followers, &f->node);
}
