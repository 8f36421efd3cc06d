/*
 * e2b_input_…: what is written to a process's stdin, as envd's StreamInput takes it: an upload
 * whose bytes are Connect's envelopes. envd writes a message before it reads the next one, so a
 * process that does not read slows down whoever writes.
 */
#include "service/e2b/upload.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/connect/envelope.h"
#include "envd/process/process.pb-c.h"
#include "service/e2b/private.h"
#include "service/e2b/process.h"

#include <stdlib.h>

enum { STEP_BYTES = 32 * 1024 /* in one message */ };

static void prepare(struct exchange *x)
{
    transfer_header(&x->transfer, "Connect-Protocol-Version: 1");
}

/* The answer is one message, and Connect's end, which has the error if there was one. */
static bool judge(struct exchange *x, struct verdict *v)
{
    AUTO(envelope_deinit) struct envelope_parser parser;
    const uint8_t *data = buf_data(&x->transfer.body);
    size_t len = buf_len(&x->transfer.body);
    struct envelope_frame frame;

    envelope_init(&parser, E2B_RESPONSE_MAX);
    while (envelope_next(&parser, &data, &len, &frame) == ENVELOPE_FRAME)
        if (frame.end)
            return process_read_end(frame.data, frame.len, v);
    errors_garbage(SOURCE_CONNECT, "it ended before its end", v);
    return false;
}

static void write_message(struct e2b_upload *u, const Process__StreamInputRequest *m)
{
    size_t len = process__stream_input_request__get_packed_size(m);
    AUTO_FREE uint8_t *data = xmalloc(ENVELOPE_HEADER + len);

    envelope_put_header(data, 0, (uint32_t)len);
    process__stream_input_request__pack(m, data + ENVELOPE_HEADER);
    e2b_upload_write(u, data, ENVELOPE_HEADER + len);
}

struct e2b_upload *e2b_input_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                   uint32_t pid, void (*writable)(struct e2b_op *op))
{
    static const struct upload_kind kind = {
        .source = SOURCE_START,
        .content_type = "application/connect+proto",
        .is_patient = true,
        .prepare = prepare,
        .judge = judge,
    };
    Process__StreamInputRequest m = PROCESS__STREAM_INPUT_REQUEST__INIT;
    Process__StreamInputRequest__StartEvent start =
        PROCESS__STREAM_INPUT_REQUEST__START_EVENT__INIT;
    Process__ProcessSelector who = PROCESS__PROCESS_SELECTOR__INIT;
    struct e2b_upload *u =
        upload_start(e, op, sandbox_id, &kind, "/process.Process/StreamInput", writable);

    who.selector_case = PROCESS__PROCESS_SELECTOR__SELECTOR_PID;
    who.pid = pid;
    start.process = &who;
    m.event_case = PROCESS__STREAM_INPUT_REQUEST__EVENT_START;
    m.start = &start;
    write_message(u, &m);
    return u;
}

void e2b_input_write(struct e2b_upload *u, const uint8_t *data, size_t len)
{
    Process__StreamInputRequest m = PROCESS__STREAM_INPUT_REQUEST__INIT;
    Process__StreamInputRequest__DataEvent event = PROCESS__STREAM_INPUT_REQUEST__DATA_EVENT__INIT;
    Process__ProcessInput input;

    process__process_input__init(&input);
    m.event_case = PROCESS__STREAM_INPUT_REQUEST__EVENT_DATA;
    m.data = &event;
    event.input = &input;
    input.input_case = PROCESS__PROCESS_INPUT__INPUT_STDIN;
    while (len > 0) {
        input.stdin.data = (uint8_t *)data;
        input.stdin.len = len < STEP_BYTES ? len : STEP_BYTES;
        write_message(u, &m);
        data += input.stdin.len;
        len -= input.stdin.len;
    }
}
