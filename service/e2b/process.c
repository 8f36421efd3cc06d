/* See process.h: the parser. */
#include "service/e2b/process.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "envd/process/process.pb-c.h"
#include "service/e2b/json.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAYLOAD_MAX = 16 * 1024 * 1024, /* of output, which is not held; envd sends 32 KiB */
    OTHER_MAX = 256 * 1024,         /* of anything else, which is */
};

void process_init(struct process *p,
                  void (*on_stdout)(struct process *p, const uint8_t *data, size_t len))
{
    *p = (struct process){.on_stdout = on_stdout};
    envelope_init(&p->envelope, PAYLOAD_MAX);
    buf_init(&p->frame, OTHER_MAX);
}

void process_deinit(struct process *p)
{
    envelope_deinit(&p->envelope);
    buf_deinit(&p->frame);
    free(p->failed);
    p->failed = NULL;
}

/* Where to write why. */
static struct verdict *fail(struct process *p)
{
    if (p->failed == NULL)
        p->failed = xmalloc(sizeof(*p->failed));
    return p->failed;
}

static bool garbage(struct process *p, const char *what)
{
    errors_garbage(SOURCE_CONNECT, what, fail(p));
    return false;
}

/* Keeps the end of what the process says on stderr. */
static void keep_err(struct process *p, const uint8_t *data, size_t len)
{
    size_t excess;

    if (len > sizeof p->err) {
        data += len - sizeof p->err;
        len = sizeof p->err;
    }
    excess = p->err_len + len > sizeof p->err ? p->err_len + len - sizeof p->err : 0;
    memmove(p->err, p->err + excess, p->err_len - excess);
    p->err_len -= excess;
    if (len > 0)
        memcpy(p->err + p->err_len, data, len);
    p->err_len += len;
}

static void take_end(struct process *p, const Process__ProcessEvent__EndEvent *end)
{
    p->ended = true;
    if (end->exited || end->exit_code > 0) {
        p->exited = true;
        p->exit_code = end->exit_code;
        return;
    }
    /* A signal: the lease was over, or somebody in the sandbox killed it. */
    errors_lookup(SOURCE_CONNECT, CODE_DEADLINE_EXCEEDED, end->status, fail(p));
}

static void take_data(struct process *p, const Process__ProcessEvent__DataEvent *data)
{
    if (data->output_case == PROCESS__PROCESS_EVENT__DATA_EVENT__OUTPUT_STDOUT)
        p->on_stdout(p, data->stdout.data, data->stdout.len);
    else if (data->output_case == PROCESS__PROCESS_EVENT__DATA_EVENT__OUTPUT_STDERR)
        keep_err(p, data->stderr.data, data->stderr.len);
}

static bool take_message(struct process *p, const uint8_t *data, size_t len)
{
    Process__StartResponse *m = process__start_response__unpack(NULL, len, data);
    const Process__ProcessEvent *event;

    if (m == NULL)
        return garbage(p, "a message that is none");
    event = m->event;
    switch (event != NULL ? event->event_case : PROCESS__PROCESS_EVENT__EVENT__NOT_SET) {
    case PROCESS__PROCESS_EVENT__EVENT_START:
        p->started = true;
        p->pid = event->start->pid;
        break;
    case PROCESS__PROCESS_EVENT__EVENT_DATA:
        take_data(p, event->data);
        break;
    case PROCESS__PROCESS_EVENT__EVENT_END:
        take_end(p, event->end);
        break;
    default: /* keepalives, and what a newer envd may add */
        break;
    }
    process__start_response__free_unpacked(m, NULL);
    return true;
}

bool process_read_end(const uint8_t *data, size_t len, struct verdict *v)
{
    AUTO_JSON struct json_object *o = json_parse(data, len);
    struct json_object *error;
    const char *code;

    if (!json_object_is_type(o, json_type_object)) {
        errors_garbage(SOURCE_CONNECT, "an end that is no JSON", v);
        return false;
    }
    if (!json_object_object_get_ex(o, "error", &error) || error == NULL)
        return true;
    code = json_text(error, "code", 64);
    errors_connect(code != NULL ? code : "", json_text(error, "message", 4096), v);
    return false;
}

static void take_end_of_stream(struct process *p, const uint8_t *data, size_t len)
{
    struct verdict v;

    if (!process_read_end(data, len, &v) && !p->exited && p->failed == NULL)
        *fail(p) = v; /* else it is known better already */
}

/*
 * One step into nested messages: tag and a length that reaches exactly to the end of the payload.
 * 1: stepped, *at is behind it; 0: more bytes are needed; -1: it is something else.
 */
static int step_in(const uint8_t *s, size_t have, size_t payload_len, uint8_t tag, size_t *at)
{
    size_t i = *at;
    uint64_t len = 0;

    if (i >= payload_len)
        return -1;
    if (i >= have)
        return 0;
    if (s[i++] != tag)
        return -1;
    for (int shift = 0; shift < 28; shift += 7, i++) {
        if (i >= payload_len)
            return -1;
        if (i >= have)
            return 0;
        len |= (uint64_t)(s[i] & 0x7f) << shift;
        if (s[i] & 0x80)
            continue;
        if (len != payload_len - (i + 1))
            return -1;
        *at = i + 1;
        return 1;
    }
    return -1;
}

/* StartResponse.event (1) → ProcessEvent.data (2) → DataEvent.stdout (1), and nothing else. As
 * step_in; *ret_at is where the output starts. */
static int find_stdout(const uint8_t *s, size_t have, size_t payload_len, size_t *ret_at)
{
    static const uint8_t tags[] = {0x0a, 0x12, 0x0a};
    int stepped = 1;

    *ret_at = 0;
    for (size_t i = 0; i < sizeof tags && stepped > 0; i++)
        stepped = step_in(s, have, payload_len, tags[i], ret_at);
    return stepped;
}

/* Looks at the first bytes of a payload until it is known what it is. They are short enough to
 * always fit. Output that came with them is handed on at once. */
static bool decide(struct process *p, const struct envelope_piece *piece)
{
    size_t room = sizeof p->prefix - p->prefix_len;
    size_t n = piece->len < room ? piece->len : room;
    size_t out_at, skip;
    int found;

    if (n > 0)
        memcpy(p->prefix + p->prefix_len, piece->data, n);
    found = piece->end ? -1 : find_stdout(p->prefix, p->prefix_len + n, piece->frame_len, &out_at);
    if (found == 0) {
        p->prefix_len += n;
        return true;
    }
    if (found > 0) {
        p->frame_kind = PROCESS_STDOUT;
        skip = out_at - p->prefix_len;
        p->on_stdout(p, piece->data + skip, piece->len - skip);
        return true;
    }
    p->frame_kind = PROCESS_OTHER;
    if (piece->frame_len > OTHER_MAX)
        return garbage(p, "a message above the limit");
    buf_append(&p->frame, p->prefix, p->prefix_len); /* both fit: the length was checked */
    buf_append(&p->frame, piece->data, piece->len);
    return true;
}

static bool take_piece(struct process *p, const struct envelope_piece *piece)
{
    bool ok = true;

    switch (p->frame_kind) {
    case PROCESS_DECIDING:
        ok = decide(p, piece);
        break;
    case PROCESS_STDOUT:
        p->on_stdout(p, piece->data, piece->len);
        break;
    case PROCESS_OTHER:
        buf_append(&p->frame, piece->data, piece->len);
        break;
    }
    if (!ok || piece->at + piece->len < piece->frame_len)
        return ok;
    if (p->frame_kind != PROCESS_STDOUT) {
        const uint8_t *data = buf_data(&p->frame);

        if (piece->end)
            take_end_of_stream(p, data, piece->frame_len);
        else
            ok = take_message(p, data, piece->frame_len);
    }
    p->frame_kind = PROCESS_DECIDING;
    p->prefix_len = 0;
    buf_deinit(&p->frame);
    return ok;
}

bool process_feed(struct process *p, const uint8_t *data, size_t len)
{
    struct envelope_piece piece;

    for (;;) {
        switch (envelope_next_piece(&p->envelope, &data, &len, &piece)) {
        case ENVELOPE_MORE:
            return true;
        case ENVELOPE_ERROR:
            return garbage(p, envelope_error_text(p->envelope.error));
        case ENVELOPE_FRAME:
            if (!take_piece(p, &piece))
                return false;
            break;
        }
    }
}

uint8_t *process_encode_start(const char *const *argv, const char *cwd, bool with_stdin,
                              size_t *ret_len)
{
    Process__ProcessConfig config = PROCESS__PROCESS_CONFIG__INIT;
    Process__StartRequest request = PROCESS__START_REQUEST__INIT;
    size_t len;
    uint8_t *data;

    config.cmd = (char *)argv[0];
    config.args = (char **)argv + 1;
    while (argv[1 + config.n_args] != NULL)
        config.n_args++;
    config.cwd = (char *)(cwd != NULL ? cwd : "");
    request.process = &config;
    request.stdin_set_case = PROCESS__START_REQUEST__STDIN_SET_STDIN;
    request.stdin = with_stdin;
    len = process__start_request__get_packed_size(&request);
    data = xmalloc(ENVELOPE_HEADER + len);
    envelope_put_header(data, 0, (uint32_t)len);
    process__start_request__pack(&request, data + ENVELOPE_HEADER);
    *ret_len = ENVELOPE_HEADER + len;
    return data;
}
