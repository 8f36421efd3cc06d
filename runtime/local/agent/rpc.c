/* See rpc.h: what goes out, and the end of calls. */
#include "runtime/local/agent/rpc.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/connect/json.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RESPONSE_MAX = 64 << 20,
    MESSAGE_MAX = 8192, /* text of an error */
};

static const struct {
    const char *name;
    int http;
} codes[] = {
    [CODE_OK] = {"ok", 200},
    [CODE_CANCELLED] = {"canceled", 499},
    [CODE_UNKNOWN] = {"unknown", 500},
    [CODE_INVALID_ARGUMENT] = {"invalid_argument", 400},
    [CODE_DEADLINE_EXCEEDED] = {"deadline_exceeded", 504},
    [CODE_NOT_FOUND] = {"not_found", 404},
    [CODE_ALREADY_EXISTS] = {"already_exists", 409},
    [CODE_PERMISSION_DENIED] = {"permission_denied", 403},
    [CODE_RESOURCE_EXHAUSTED] = {"resource_exhausted", 429},
    [CODE_FAILED_PRECONDITION] = {"failed_precondition", 400},
    [CODE_ABORTED] = {"aborted", 409},
    [CODE_OUT_OF_RANGE] = {"out_of_range", 400},
    [CODE_UNIMPLEMENTED] = {"unimplemented", 501},
    [CODE_INTERNAL] = {"internal", 500},
    [CODE_UNAVAILABLE] = {"unavailable", 503},
    [CODE_DATA_LOSS] = {"data_loss", 500},
    [CODE_UNAUTHENTICATED] = {"unauthenticated", 401},
};

const char *rpc_code_name(enum code code)
{
    return codes[code].name;
}

int rpc_http_status(enum code code)
{
    return codes[code].http;
}

void rpc_free(struct rpc_call *call)
{
    loop_timer_cancel(&call->agent->loop, &call->deadline);
    loop_timer_cancel(&call->agent->loop, &call->keepalive);
    free(call->alive);
    if (call->input) {
        envelope_deinit(&call->input->parser);
        free(call->input);
    }
    free(call);
}

static const char *content_type(const struct rpc_call *call)
{
    if (call->method->kind == RPC_UNARY)
        return call->json ? "application/json" : "application/proto";
    return call->json ? "application/connect+json" : "application/connect+proto";
}

/* {"code":"...","message":"..."} */
static void append_error(struct buf *out, enum code code, const char *message)
{
    AUTO_FREE char *text = xstrdup(message);

    utf8_sanitize(text);
    buf_printf(out, "{\"code\":\"%s\",\"message\":", rpc_code_name(code));
    json_append_string(out, text, strlen(text));
    buf_append_byte(out, '}');
}

void rpc_begin_stream(struct rpc_call *call)
{
    if (call->begun)
        return;
    call->begun = true;
    reply_begin(call->x, 200);
    http_field(call->x, "Content-Type", content_type(call));
    if (call->legacy)
        http_field(call->x, "X-E2B-Legacy-SDK", "true");
    http_start(call->x, HTTP_LENGTH_UNKNOWN);
}

static void end_stream(struct rpc_call *call, enum code code, const char *message)
{
    AUTO(buf_deinit) struct buf json = BUF_INIT(MESSAGE_MAX * 6 + 128);
    uint8_t header[ENVELOPE_HEADER];

    rpc_begin_stream(call);
    if (code == CODE_OK) {
        buf_append_str(&json, "{}");
    } else {
        buf_append_str(&json, "{\"error\":");
        append_error(&json, code, message);
        buf_append_byte(&json, '}');
    }
    envelope_put_header(header, ENVELOPE_END, (uint32_t)buf_len(&json));
    http_write(call->x, header, sizeof(header));
    http_write(call->x, buf_data(&json), buf_len(&json));
    http_end(call->x);
}

static void fail(struct rpc_call *call, enum code code, const char *message)
{
    if (call->method->kind == RPC_UNARY) {
        AUTO(buf_deinit) struct buf json = BUF_INIT(MESSAGE_MAX * 6 + 128);

        append_error(&json, code, message);
        reply_begin(call->x, rpc_http_status(code));
        http_field(call->x, "Content-Type", "application/json");
        http_start(call->x, (int64_t)buf_len(&json));
        http_write(call->x, buf_data(&json), buf_len(&json));
        http_end(call->x);
    } else {
        end_stream(call, code, message);
    }
    rpc_free(call);
}

void rpc_fail(struct rpc_call *call, enum code code, const char *fmt, ...)
{
    char message[MESSAGE_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    fail(call, code, message);
}

void rpc_fail_status(struct rpc_call *call, const struct status *st)
{
    fail(call, st->code, st->message);
}

void rpc_finish(struct rpc_call *call)
{
    end_stream(call, CODE_OK, NULL);
    rpc_free(call);
}

static bool encode(const struct rpc_call *call, const ProtobufCMessage *message, struct buf *out)
{
    size_t size;
    uint8_t *to;

    if (call->json)
        return json_encode(out, message);
    size = protobuf_c_message_get_packed_size(message);
    to = buf_reserve(out, size);
    if (!to)
        return false;
    buf_commit(out, protobuf_c_message_pack(message, to));
    return true;
}

bool rpc_send_envelope(struct rpc_call *call, const void *envelope, size_t len)
{
    rpc_begin_stream(call);
    call->sent_ns = clock_monotonic_ns();
    return http_write(call->x, envelope, len);
}

static bool encode_envelope(const struct rpc_call *call, const ProtobufCMessage *message,
                            struct buf *frame)
{
    uint8_t header[ENVELOPE_HEADER] = {0};

    buf_append(frame, header, sizeof(header));
    if (!encode(call, message, frame))
        return false;
    envelope_put_header(buf_data(frame), 0, (uint32_t)(buf_len(frame) - ENVELOPE_HEADER));
    return true;
}

/* What cannot be encoded (a file name that is no UTF-8) is left out of a stream. */
bool rpc_send(struct rpc_call *call, const ProtobufCMessage *message)
{
    AUTO(buf_deinit) struct buf frame = BUF_INIT(RESPONSE_MAX);

    if (!encode_envelope(call, message, &frame))
        return true;
    return rpc_send_envelope(call, buf_data(&frame), buf_len(&frame));
}

/*
 * The timer is set once and looks at the time of the last message when it fires, instead of being
 * moved with every one. A client that has yet to read something is not kept waiting by us.
 */
static void on_keepalive(struct loop_timer *timer)
{
    struct rpc_call *call = container_of(timer, struct rpc_call, keepalive);
    int64_t interval_ns = call->keepalive_ms * NS_PER_MS;
    int64_t now = clock_monotonic_ns();

    if (now >= call->sent_ns + interval_ns) {
        if (call->begun && http_pending(call->x) == 0)
            http_write(call->x, call->alive, call->alive_len);
        call->sent_ns = now;
    }
    loop_timer_set(&call->agent->loop, timer, call->sent_ns + interval_ns);
}

void rpc_keep_alive(struct rpc_call *call, const ProtobufCMessage *message)
{
    AUTO(buf_deinit) struct buf frame = BUF_INIT(RESPONSE_MAX);

    encode_envelope(call, message, &frame);
    call->alive_len = buf_len(&frame);
    call->alive = xmemdup(buf_data(&frame), call->alive_len);
    call->keepalive.fire = on_keepalive;
    call->sent_ns = clock_monotonic_ns();
    loop_timer_after(&call->agent->loop, &call->keepalive, call->keepalive_ms);
}

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *response)
{
    AUTO(buf_deinit) struct buf body = BUF_INIT(RESPONSE_MAX);

    if (call->method->kind != RPC_UNARY) {
        rpc_send(call, response);
        rpc_finish(call);
        return;
    }
    if (!encode(call, response, &body)) {
        rpc_fail(call, CODE_INTERNAL, "the answer cannot be encoded");
        return;
    }
    reply_begin(call->x, 200);
    http_field(call->x, "Content-Type", content_type(call));
    if (call->legacy)
        http_field(call->x, "X-E2B-Legacy-SDK", "true");
    http_start(call->x, (int64_t)buf_len(&body));
    http_write(call->x, buf_data(&body), buf_len(&body));
    http_end(call->x);
    rpc_free(call);
}

void rpc_set_ops(struct rpc_call *call, const struct rpc_ops *ops, void *data)
{
    call->ops = ops;
    call->data = data;
}

void rpc_pause(struct rpc_call *call)
{
    http_pause(call->x);
}

void rpc_resume(struct rpc_call *call)
{
    http_resume(call->x);
}
