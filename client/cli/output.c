/*
 * See output.h. In text mode a command's output goes where the command sent it, byte by byte, and
 * what is said about it goes to stderr; in JSON mode everything is an object on stdout.
 */
#include "client/cli/output.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool print_line(struct buf *line)
{
    buf_append_byte(line, '\n');
    return fd_write_all(STDOUT_FILENO, buf_data(line), buf_len(line));
}

static bool print_bytes(int fd, const ProtobufCBinaryData *data)
{
    return fd_write_all(fd, data->data, data->len);
}

static bool print_text(const Sandbox__V1__Text *text)
{
    int fd = text->stream == SANDBOX__V1__STREAM__STREAM_STDERR ? STDERR_FILENO : STDOUT_FILENO;

    return fd_write_all(fd, text->text, strlen(text->text));
}

static bool print_event(const Sandbox__V1__CommandEvent *event)
{
    switch (event->event_case) {
    case SANDBOX__V1__COMMAND_EVENT__EVENT_STDOUT:
        return print_bytes(STDOUT_FILENO, &event->stdout);
    case SANDBOX__V1__COMMAND_EVENT__EVENT_STDERR:
        return print_bytes(STDERR_FILENO, &event->stderr);
    case SANDBOX__V1__COMMAND_EVENT__EVENT_TERMINAL:
        return print_bytes(STDOUT_FILENO, &event->terminal);
    case SANDBOX__V1__COMMAND_EVENT__EVENT_TEXT:
        return print_text(event->text);
    case SANDBOX__V1__COMMAND_EVENT__EVENT_DROPPED:
        fprintf(stderr,
                "sandboxctl: the record was full: events %llu to %llu (%llu bytes) are gone\n",
                (unsigned long long)event->dropped->first_seq,
                (unsigned long long)event->dropped->last_seq,
                (unsigned long long)event->dropped->bytes);
        return true;
    default:
        return true;
    }
}

static bool on_event(void *user, const Sandbox__V1__CommandEvent *event)
{
    struct output *o = user;
    bool started = event->event_case == SANDBOX__V1__COMMAND_EVENT__EVENT_STARTED;

    o->n_breaks = 0;
    if (!(o->cli->json ? cli_print_json(&event->base) : print_event(event))) {
        o->write_errno = errno;
        return false;
    }
    if (o->on_started != NULL)
        o->on_started(o->arg);
    /* A command that could not be started has no process, and its exit says why: wait for that. */
    return !(o->leave_started && started && event->started->pid != 0);
}

static void on_command(void *user, const char *command_id)
{
    struct output *o = user;
    AUTO(buf_deinit) struct buf line = BUF_INIT(256);

    snprintf(o->command_id, sizeof(o->command_id), "%s", command_id);
    if (!o->cli->json && o->headers) {
        buf_printf(&line, "==> %s <==", command_id);
        print_line(&line);
    }
    if (!o->cli->json)
        return;
    buf_printf(&line, "{\"commandId\":");
    cli_json_string(&line, command_id);
    buf_append_byte(&line, '}');
    print_line(&line);
}

/* The first break in a row heals in no time, as a rule, and then on_resume tells all of it. */
static void on_break(void *user, const struct sandbox_error *why, const char *next, int64_t wait_ms)
{
    struct output *o = user;

    if (o->n_breaks++ == 0 && wait_ms < 1000)
        return;
    if (!o->cli->json)
        fprintf(stderr, "sandboxctl: %s: %s: %s; trying %s in %lld ms\n", why->address,
                sandbox_code_name(why->code), why->message, next, (long long)wait_ms);
}

static void on_resume(void *user, const char *from, const char *to, uint64_t last_seq)
{
    struct output *o = user;
    AUTO(buf_deinit) struct buf line = BUF_INIT(1024);

    if (!o->cli->json) {
        fprintf(stderr, "broke after seq %llu on %s, resumed at %llu on %s\n",
                (unsigned long long)last_seq, from, (unsigned long long)last_seq + 1, to);
        return;
    }
    buf_printf(&line, "{\"resume\":{\"afterSeq\":%llu,\"from\":", (unsigned long long)last_seq);
    cli_json_string(&line, from);
    buf_append_str(&line, ",\"to\":");
    cli_json_string(&line, to);
    buf_append_str(&line, "}}");
    print_line(&line);
}

struct sandbox_handlers output_handlers(struct output *o)
{
    return (struct sandbox_handlers){
        .user = o,
        .on_command = on_command,
        .on_event = on_event,
        .on_break = on_break,
        .on_resume = on_resume,
    };
}

static int explain(const struct cli *cli, const struct sandbox_result *r, const char *what,
                   int code)
{
    if (!cli->json)
        fprintf(stderr, "sandboxctl: %s%s%s\n", what, r->message[0] != '\0' ? ": " : "",
                r->message);
    return code;
}

int output_exit_code(const struct cli *cli, const struct sandbox_result *r)
{
    switch (r->reason) {
    case SANDBOX__V1__EXITED__REASON__REASON_EXITED:
    case SANDBOX__V1__EXITED__REASON__REASON_SIGNALED:
    case SANDBOX__V1__EXITED__REASON__REASON_KILLED:
        return r->code;
    case SANDBOX__V1__EXITED__REASON__REASON_TIMED_OUT:
        return explain(cli, r, "the command's time is over", EXIT_TIMED_OUT);
    case SANDBOX__V1__EXITED__REASON__REASON_IDLE_TIMED_OUT:
        return explain(cli, r, "the command was silent for too long", EXIT_TIMED_OUT);
    case SANDBOX__V1__EXITED__REASON__REASON_OUT_OF_MEMORY:
        return explain(cli, r, "the sandbox ran out of memory", r->code != 0 ? r->code : 137);
    case SANDBOX__V1__EXITED__REASON__REASON_START_FAILED:
        return explain(cli, r, "the command could not be started", r->code != 0 ? r->code : 126);
    case SANDBOX__V1__EXITED__REASON__REASON_LOST:
    case SANDBOX__V1__EXITED__REASON__REASON_UNSPECIFIED:
    case _SANDBOX__V1__EXITED__REASON_IS_INT_SIZE:
        break;
    }
    return explain(cli, r, "the command is lost; how it ended is not known", EXIT_LOST);
}
