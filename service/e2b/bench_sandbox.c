/* See bench_sandbox.h. Its functions run on the threads of the fake. */
#include "service/e2b/bench_sandbox.h"

#include "common/base/buf.h"
#include "envd/process/process.pb-c.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* What a Start asks for, put into one line: "root|/|/path/to/recorder-x|follow|--id=a". */
void describe_start(const struct fake_call *c, char *to, size_t size)
{
    Process__StartRequest *m = process__start_request__unpack(NULL, c->body_len - 5, c->body + 5);
    bool root = fake_has(c, "Authorization: Basic cm9vdDo=");

    snprintf(to, size, "%s|%s|%s", root ? "root" : "", m->process->cwd, m->process->cmd);
    for (size_t i = 0; i < m->process->n_args; i++) {
        size_t len = strlen(to);

        snprintf(to + len, size - len, "|%s", m->process->args[i]);
    }
    process__start_request__free_unpacked(m, NULL);
}

/* Output, exit code, and a proper end. */
void answer_start(struct fake_call *c, const char *out, const char *err, int code)
{
    struct buf b = BUF_INIT(1 << 20);

    fake_add_start(&b, 4711);
    fake_add_data(&b, false, out, strlen(out));
    fake_add_data(&b, true, err, strlen(err));
    fake_add_exit(&b, code, true);
    buf_append(&b, "\2\0\0\0\2{}", 7);
    fake_stream(c, "application/connect+proto");
    fake_chunk(c, buf_data(&b), buf_len(&b));
    fake_end(c);
    buf_deinit(&b);
}

void answer_stream_error(struct fake_call *c, const char *json)
{
    struct buf b = BUF_INIT(1000);
    uint8_t head[] = {2, 0, 0, 0, (uint8_t)strlen(json)};

    buf_append(&b, head, sizeof head);
    buf_append_str(&b, json);
    fake_stream(c, "application/connect+proto");
    fake_chunk(c, buf_data(&b), buf_len(&b));
    fake_end(c);
    buf_deinit(&b);
}

bool serve_sandbox(struct fake_call *c, struct bench *b)
{
    if (fake_is(c, "GET", "/sandboxes/")) {
        atomic_fetch_add(&b->n[LOOKS], 1);
        fake_reply(c, 200, "", DETAIL("running", ""));
        return true;
    }
    if (!fake_has(c, "E2b-Sandbox-Id: iabc") || !fake_has(c, "E2b-Sandbox-Port: 49983") ||
        !fake_has(c, "X-Access-Token: t0")) {
        fake_reply(c, 400, "", "not as it should be");
        return true;
    }
    if (fake_is(c, "POST", "/process.Process/SendSignal")) {
        Process__SendSignalRequest *m =
            process__send_signal_request__unpack(NULL, c->body_len, c->body);
        bool ok = m != NULL && m->process->pid == 4711 &&
                  m->signal == PROCESS__SIGNAL__SIGNAL_SIGKILL &&
                  fake_has(c, "Content-Type: application/proto");

        if (m != NULL)
            process__send_signal_request__free_unpacked(m, NULL);
        if (ok)
            atomic_fetch_add(&b->n[KILLS], 1);
        fake_reply(c, 200, "", "");
        return true;
    }
    if (fake_is(c, "POST", "/process.Process/Start"))
        atomic_fetch_add(&b->n[STARTS], 1);
    return false;
}

#define ROOT_RECORDER "/var/lib/sandboxd/bin/recorder-"
#define HOME_RECORDER ".sandboxd/bin/recorder-"

void serve_edge(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    int nth;

    if (fake_is(c, "GET", "/sandboxes/")) {
        nth = atomic_fetch_add(&b->n[LOOKS], 1);
        if (nth > 0 && strcmp(b->mode, "gone") == 0)
            fake_reply(c, 404, "", NOT_FOUND_BODY);
        else if (nth > 0 && strcmp(b->mode, "paused") == 0)
            fake_reply(c, 200, "", DETAIL("paused", ""));
        else if (nth > 0 && strcmp(b->mode, "new token") == 0)
            fake_reply(c, 200, "",
                       "{\"sandboxID\":\"iabc\",\"templateID\":\"base\",\"state\":\"running\","
                       "\"startedAt\":\"2026-01-02T03:04:05Z\",\"endAt\":\"2026-01-02T04:04:05Z\","
                       "\"envdAccessToken\":\"t1\"}");
        else
            fake_reply(c, 200, "", DETAIL("running", ""));
        return;
    }
    nth = atomic_fetch_add(&b->n[STARTS], 1);
    if (strcmp(b->mode, "new token") == 0 && !fake_has(c, "X-Access-Token: t1"))
        fake_reply(c, 401, "", "{\"code\":401,\"message\":\"unauthorized access\"}");
    else if (strcmp(b->mode, "gone") == 0 || strcmp(b->mode, "paused") == 0 ||
             strcmp(b->mode, "closed") == 0 || (strcmp(b->mode, "closed once") == 0 && nth == 0))
        fake_reply(
            c, 502, "",
            "{\"sandboxId\":\"iabc\",\"message\":\"The sandbox was not found\",\"code\":502}");
    else if (strcmp(b->mode, "connections") == 0)
        fake_reply(c, 429, "", "{\"code\":429,\"message\":\"x\",\"connectionLimit\":1}");
    else if (strcmp(b->mode, "html") == 0)
        fake_reply(c, 200, "Content-Type: text/html\r\n", "<html>hello</html>");
    else if (strcmp(b->mode, "early end") == 0) {
        fake_stream(c, "application/connect+proto");
        fake_end(c);
    } else if (strcmp(b->mode, "cut") == 0 || (strcmp(b->mode, "cut once") == 0 && nth == 0)) {
        fake_stream(c, "application/connect+proto");
        fake_chunk(c, "\0\0\0\0\x07\x0a\x05\x0a\x03\x08\xe7\x24", 12); /* start, pid 4711 */
        fake_chunk(c, "\0\0\0\0\x09\x0a\x07\x12\x05\x0a\x03xyz", 14);
        c->close = true;
    } else if (strcmp(b->mode, "killed") == 0) {
        answer_stream_error(c, "{\"error\":{\"code\":\"deadline_exceeded\",\"message\":\"over\"}}");
    } else {
        answer_start(c, "fine", "", 0);
    }
}

/* A process that starts when n[VERBS] says so, and then stays. */
void serve_endless(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    struct buf data = BUF_INIT(1000);

    if (serve_sandbox(c, b))
        return;
    wait_until(&b->n[VERBS], 1);
    fake_add_start(&data, 4711);
    fake_add_data(&data, false, "first", 5);
    fake_stream(c, "application/connect+proto");
    fake_chunk(c, buf_data(&data), buf_len(&data));
    buf_deinit(&data);
    atomic_fetch_add(&b->n[SETUPS], 1);
    fake_wait_gone(c);
}
