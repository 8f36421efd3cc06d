/*
 * See rpc.h: what comes in. The body of a request with one message is collected first, that of a
 * client stream is parsed as it comes.
 */
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/connect/json.h"
#include "common/http/body.h"
#include "runtime/local/agent/access.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/gzip.h"
#include "runtime/local/agent/reply.h"
#include "runtime/local/agent/rpc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    REQUEST_MAX = 32 << 20, /* one message, as sent and decompressed */
    KEEPALIVE_DEFAULT_S = 90,
    KEEPALIVE_MAX_S = 24 * 3600,
    TIMEOUT_DIGITS = 10,
};

/* ---- what the exchange tells ---- */

static void on_writable(struct http_exchange *x)
{
    struct rpc_call *call = http_user(x);

    if (call->ops && call->ops->writable)
        call->ops->writable(call);
}

static void on_gone(struct http_exchange *x)
{
    struct rpc_call *call = http_user(x);

    if (call->ops && call->ops->gone)
        call->ops->gone(call);
    rpc_free(call);
}

static void on_deadline(struct loop_timer *timer)
{
    struct rpc_call *call = container_of(timer, struct rpc_call, deadline);

    if (call->ops && call->ops->gone)
        call->ops->gone(call);
    rpc_fail(call, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
}

static ProtobufCMessage *decode(const struct rpc_call *call, const uint8_t *data, size_t len,
                                struct status *st)
{
    ProtobufCMessage *message;

    if (call->json)
        return json_decode(call->method->request, (const char *)data, len, st);
    message = protobuf_c_message_unpack(call->method->request, NULL, len, data);
    if (!message)
        status_set(st, CODE_INVALID_ARGUMENT, 0, "unmarshal message: invalid wire format");
    return message;
}

/*
 * Messages of a client stream. A handler may end the call from message(), so afterwards only the
 * exchange can be asked: it has our ops no more.
 */
static void on_stream_body(struct http_exchange *x, const uint8_t *data, size_t len)
{
    struct rpc_call *call = http_user(x);
    struct envelope_frame frame;
    enum envelope_result result;

    while ((result = envelope_next(&call->input->parser, &data, &len, &frame)) == ENVELOPE_FRAME) {
        struct status st = STATUS_INIT;
        ProtobufCMessage *message;

        if (frame.end) {
            call->input->ended = true;
            continue;
        }
        message = decode(call, frame.data, frame.len, &st);
        if (!message) {
            if (call->ops->gone)
                call->ops->gone(call);
            rpc_fail_status(call, &st);
            return;
        }
        call->ops->message(call, message);
        if (http_user(x) != call)
            return;
    }
    if (result == ENVELOPE_ERROR) {
        if (call->ops->gone)
            call->ops->gone(call);
        rpc_fail(call, CODE_INVALID_ARGUMENT, "%s", envelope_error_text(call->input->parser.error));
    }
}

static void on_stream_end(struct http_exchange *x)
{
    struct rpc_call *call = http_user(x);

    if (!call->input->ended && !envelope_is_between(&call->input->parser)) {
        if (call->ops->gone)
            call->ops->gone(call);
        rpc_fail(call, CODE_INVALID_ARGUMENT, "the stream ends inside a message");
        return;
    }
    call->ops->half_closed(call);
}

static const struct http_exchange_ops call_ops = {.writable = on_writable, .gone = on_gone};

static const struct http_exchange_ops stream_ops = {
    .body = on_stream_body, .body_end = on_stream_end, .writable = on_writable, .gone = on_gone};

/* ---- the beginning of calls ---- */

static const struct rpc_method *find_method(const struct rpc_method *methods,
                                            const struct http_head *head)
{
    for (; methods->path; methods++)
        if (http_path_is(head, methods->path))
            return methods;
    return NULL;
}

/* False: the codec is none of ours. */
static bool read_codec(const struct http_head *head, enum rpc_kind kind, bool *ret_json)
{
    const char *type = http_header(head, "Content-Type");
    const char *prefix = kind == RPC_UNARY ? "application/" : "application/connect+";
    size_t len;

    if (!type || strncasecmp(type, prefix, strlen(prefix)) != 0)
        return false;
    type += strlen(prefix);
    len = strcspn(type, "; ");
    *ret_json = len == 4 && strncasecmp(type, "json", 4) == 0;
    return *ret_json || (len == 5 && strncasecmp(type, "proto", 5) == 0);
}

/* What is no number is as absent, as with E2B; a number that is no interval is told. */
static bool read_keepalive(const struct http_head *head, int64_t *ret_ms, struct status *st)
{
    const char *text = http_header(head, "Keepalive-Ping-Interval");
    long seconds;
    char *end;

    *ret_ms = KEEPALIVE_DEFAULT_S * 1000;
    if (!text || !*text || isspace((unsigned char)*text))
        return true;
    seconds = strtol(text, &end, 10);
    if (*end)
        return true;
    if (seconds <= 0)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Keepalive-Ping-Interval: %ld is not a positive number of seconds",
                          seconds);
    *ret_ms = (seconds < KEEPALIVE_MAX_S ? seconds : KEEPALIVE_MAX_S) * 1000;
    return true;
}

static bool read_timeout(const struct http_head *head, int64_t *ret_ms, struct status *st)
{
    const char *text = http_header(head, "Connect-Timeout-Ms");

    *ret_ms = -1;
    if (!text)
        return true;
    if (!*text || strlen(text) > TIMEOUT_DIGITS || text[strspn(text, "0123456789")])
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "parse timeout: %s is not a number of milliseconds", text);
    *ret_ms = strtoll(text, NULL, 10);
    return true;
}

static bool read_head(struct rpc_call *call, struct status *st)
{
    const struct http_head *head = http_request(call->x);
    const char *version = http_header(head, "Connect-Protocol-Version");
    const char *agent = http_header(head, "User-Agent");

    if (version && strcmp(version, "1") != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "connect-protocol-version must be \"1\": got \"%s\"", version);
    call->legacy = agent && strcmp(agent, "connect-python") == 0 &&
                   strncmp(call->method->path, "/filesystem.", 12) == 0;
    if (call->method->kind == RPC_SERVER_STREAM && !read_keepalive(head, &call->keepalive_ms, st))
        return false;
    return read_timeout(head, &call->timeout_ms, st) &&
           access_request_user(&call->agent->config, head, &call->user, st);
}

/* The call of an exchange; NULL when it was answered already. */
static struct rpc_call *new_call(struct agent *agent, struct http_exchange *x,
                                 const struct rpc_method *method)
{
    struct rpc_call *call = xcalloc(1, sizeof(*call));
    struct status st = STATUS_INIT;

    call->agent = agent;
    call->x = x;
    call->method = method;
    call->deadline.fire = on_deadline;
    read_codec(http_request(x), method->kind, &call->json);
    if (!read_head(call, &st)) {
        rpc_fail_status(call, &st);
        return NULL;
    }
    if (call->timeout_ms == 0) {
        rpc_fail(call, CODE_DEADLINE_EXCEEDED, "context deadline exceeded");
        return NULL;
    }
    http_attach(x, &call_ops, call);
    if (call->timeout_ms > 0)
        loop_timer_after(&agent->loop, &call->deadline, call->timeout_ms);
    return call;
}

static bool is_coded(const struct http_head *head, const char *field, const char *coding)
{
    const char *value = http_header(head, field);

    return value && strcasecmp(value, coding) == 0;
}

static bool decompress(const uint8_t **data, size_t *len, struct buf *plain, struct status *st)
{
    if (!gzip_inflate_all(plain, *data, *len))
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "the message is no gzip");
    *data = buf_data(plain);
    *len = buf_len(plain);
    return true;
}

/* The one envelope of the request; the client may put the end of its stream behind it. */
static bool open_envelope(const uint8_t **data, size_t *len, bool *ret_compressed,
                          struct status *st)
{
    uint8_t flags = *len > 0 ? (*data)[0] : 0;
    size_t size, rest;

    if (*len == 0)
        return status_set(st, CODE_UNIMPLEMENTED, 0, "the request has no message");
    if (*len < ENVELOPE_HEADER)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "protocol error: incomplete envelope");
    size =
        (size_t)(*data)[1] << 24 | (size_t)(*data)[2] << 16 | (size_t)(*data)[3] << 8 | (*data)[4];
    if (flags & ~ENVELOPE_COMPRESSED || size > *len - ENVELOPE_HEADER)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "protocol error: invalid envelope");
    rest = *len - ENVELOPE_HEADER - size;
    *data += ENVELOPE_HEADER;
    *len = size;
    if (rest > 0 && !((*data)[size] & ENVELOPE_END))
        return status_set(st, CODE_UNIMPLEMENTED, 0, "the request has more than one message");
    *ret_compressed = flags & ENVELOPE_COMPRESSED;
    return true;
}

/* The one message of the request: bare, or in an envelope. */
static bool unwrap(const struct rpc_call *call, const uint8_t **data, size_t *len,
                   struct buf *plain, struct status *st)
{
    bool compressed = is_coded(http_request(call->x), "Content-Encoding", "gzip");

    if (call->method->kind == RPC_SERVER_STREAM && !open_envelope(data, len, &compressed, st))
        return false;
    return !compressed || decompress(data, len, plain, st);
}

static void on_request_body(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len)
{
    struct agent *agent = ctx;
    const struct rpc_method *method = find_method(agent->methods, http_request(x));
    struct rpc_call *call = new_call(agent, x, method);
    AUTO(buf_deinit) struct buf plain = BUF_INIT(REQUEST_MAX);
    struct status st = STATUS_INIT;
    ProtobufCMessage *message;

    if (!call)
        return;
    if (!unwrap(call, &data, &len, &plain, &st) || !(message = decode(call, data, len, &st))) {
        rpc_fail_status(call, &st);
        return;
    }
    method->handle(call, message);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void begin_client_stream(struct agent *agent, struct http_exchange *x,
                                const struct rpc_method *method)
{
    struct rpc_call *call = new_call(agent, x, method);

    if (!call)
        return;
    call->input = xcalloc(1, sizeof(*call->input));
    envelope_init(&call->input->parser, REQUEST_MAX);
    http_attach(x, &stream_ops, call);
    method->handle(call, NULL);
}

static bool is_known_coding(const struct http_head *head, const struct rpc_method *method)
{
    const char *field = method->kind == RPC_UNARY ? "Content-Encoding" : "Connect-Content-Encoding";

    /* Client streams go through the envelope parser, which knows no compression. */
    return !http_header(head, field) || is_coded(head, field, "identity") ||
           (is_coded(head, field, "gzip") && method->kind != RPC_CLIENT_STREAM);
}

static void refuse_coding(struct agent *agent, struct http_exchange *x,
                          const struct rpc_method *method)
{
    struct rpc_call *call = new_call(agent, x, method);

    if (call)
        rpc_fail(call, CODE_UNIMPLEMENTED,
                 "unknown compression: only gzip is known, and for client "
                 "streams none");
}

void rpc_serve(struct agent *agent, struct http_exchange *x, const struct rpc_method *methods)
{
    const struct http_head *head = http_request(x);
    const struct rpc_method *method = find_method(methods, head);
    bool json;

    if (!method) {
        reply_error(x, 404, "there is no such procedure");
    } else if (!http_method_is(head, "POST")) {
        reply_begin(x, 405);
        http_field(x, "Allow", "POST");
        http_start(x, 0);
        http_end(x);
    } else if (!read_codec(head, method->kind, &json)) {
        reply_begin(x, 415);
        http_field(x, "Accept-Post",
                   method->kind == RPC_UNARY
                       ? "application/json, application/proto"
                       : "application/connect+json, application/connect+proto");
        http_start(x, 0);
        http_end(x);
    } else if (!is_known_coding(head, method)) {
        refuse_coding(agent, x, method);
    } else if (method->kind == RPC_CLIENT_STREAM) {
        begin_client_stream(agent, x, method);
    } else {
        http_collect(x, REQUEST_MAX, on_request_body, agent);
    }
}
