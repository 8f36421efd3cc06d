/*
 * The server side of Connect (unary, server and client streams; JSON and binary codec), over
 * common/http.
 *
 * A call belongs to this module until its handler is called, and to the handler from then on until
 * it ends it: rpc_reply(), rpc_fail() or rpc_finish(), or the peer or the deadline does: then
 * gone() is called. After that the call does not exist any more.
 */
#pragma once

#include "common/base/status.h"
#include "common/connect/envelope.h"
#include "common/http/server.h"
#include "runtime/local/agent/users.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

struct agent;
struct rpc_call;

/* A client stream's framing. */
struct rpc_input {
    struct envelope_parser parser;
    bool ended;
};

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_CLIENT_STREAM };

struct rpc_method {
    const char *path; /* "/process.Process/Start" */
    enum rpc_kind kind;
    const ProtobufCMessageDescriptor *request;
    /* The message is the handler's to look at, during the call only; NULL for a client stream. */
    void (*handle)(struct rpc_call *call, const ProtobufCMessage *request);
};

/* What a handler that does not end its call at once wants to hear of. */
struct rpc_ops {
    void (*gone)(struct rpc_call *call);
    void (*writable)(struct rpc_call *call);                           /* streams to the client */
    void (*message)(struct rpc_call *call, ProtobufCMessage *message); /* from it: takes it */
    void (*half_closed)(struct rpc_call *call);                        /* no more of them */
};

struct rpc_call {
    struct agent *agent;     /* borrowed */
    struct http_exchange *x; /* borrowed */
    const struct rpc_method *method;
    struct user user;
    bool json;
    bool legacy;          /* of an SDK that cannot read what it does not know */
    bool begun;           /* the response of a stream */
    int64_t timeout_ms;   /* Connect-Timeout-Ms; -1: none */
    int64_t keepalive_ms; /* between events of an idle stream */
    struct loop_timer deadline;
    struct loop_timer keepalive;
    int64_t sent_ns; /* when the last message of a stream went out */
    uint8_t *alive;  /* owned: the envelope of a keepalive; NULL: none is sent */
    size_t alive_len;
    const struct rpc_ops *ops; /* borrowed; NULL until set */
    void *data;                /* the handler's */
    struct rpc_input *input;   /* owned; NULL but for a client stream */
};

/* Serves one exchange; methods, which agent->methods is too, ends with a NULL path. */
void rpc_serve(struct agent *agent, struct http_exchange *x, const struct rpc_method *methods);

void rpc_set_ops(struct rpc_call *call, const struct rpc_ops *ops, void *data);

/* Unary and client streams: the answer. */
void rpc_reply(struct rpc_call *call, const ProtobufCMessage *response);
/* Any: an error. */
void rpc_fail(struct rpc_call *call, enum code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void rpc_fail_status(struct rpc_call *call, const struct status *st);

/* Server streams. False: enough is waiting, until writable(). */
bool rpc_send(struct rpc_call *call, const ProtobufCMessage *message);
/* The same for one whole envelope, in the call's codec. */
bool rpc_send_envelope(struct rpc_call *call, const void *envelope, size_t len);
/* Puts the response's head in front, before the first message. */
void rpc_begin_stream(struct rpc_call *call);
/* From now on sends that message whenever nothing was sent for keepalive_ms. */
void rpc_keep_alive(struct rpc_call *call, const ProtobufCMessage *message);
void rpc_finish(struct rpc_call *call);

/* Client streams: stops and starts the flow of messages. */
void rpc_pause(struct rpc_call *call);
void rpc_resume(struct rpc_call *call);

/* "not_found" and so on. */
const char *rpc_code_name(enum code code);
int rpc_http_status(enum code code);

/* For rpc_serve.c: the call ends without a word. */
void rpc_free(struct rpc_call *call);
