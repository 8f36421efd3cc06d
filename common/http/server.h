/*
 * The server side of HTTP/1.1: listeners, connections, and one exchange at a time on each of them.
 *
 * An exchange begins with the request callback, when the head is complete. It ends in one of two
 * ways, and after that the exchange is not touched any more:
 *   - the handler ends it: http_end(), http_reply(), http_abort(), http_reset() or
 *     http_hijack();
 *   - the peer does (or the server is freed): the handler's gone() is called.
 *
 * The body arrives piece by piece and may be paused; the response may begin, and even end, before
 * the body does. Output is bounded by the handler: http_write() returns false when enough is
 * waiting, and writable() says when to go on. All on the loop's thread; callbacks never come from
 * inside a call into this module, but from the loop.
 */
#pragma once

#include "common/http/loop.h"
#include "common/http/parser.h"

struct http_server;
struct http_exchange;

/* Any of them may be NULL, gone() when there is nothing to release. */
struct http_exchange_ops {
    /* A piece of the request's body; the bytes are gone afterwards. */
    void (*body)(struct http_exchange *x, const uint8_t *data, size_t len);
    void (*body_end)(struct http_exchange *x);
    /* Output that was full has room again. */
    void (*writable)(struct http_exchange *x);
    /* The peer went away: release what belongs to the exchange. */
    void (*gone)(struct http_exchange *x);
};

struct http_server_config {
    /* A new exchange. Without http_attach() the request's body is thrown away. */
    void (*request)(struct http_exchange *x, void *ctx);
    /* Gets every new connection's socket instead; to be given back by http_server_adopt(). */
    void (*accepted)(struct http_server *s, int fd, void *ctx);
    void *ctx;
    int64_t idle_ms;        /* between requests; 0: 620 s */
    int64_t head_ms;        /* from the first byte of a head to its last; 0: 30 s */
    size_t max_connections; /* more wait in the backlog; 0: 16384 */
    size_t out_high;        /* http_write() returns false above it; 0: 256 KiB */
};

struct http_server *http_server_new(struct loop *l, const struct http_server_config *config);
/* Takes a listening socket (TCP or unix); it is closed when that fails. */
bool http_server_listen(struct http_server *s, int fd, struct status *st);
/* Takes a connected socket. */
void http_server_adopt(struct http_server *s, int fd);
/* No new connections; those there are go on. */
void http_server_stop_listening(struct http_server *s);
size_t http_server_connections(const struct http_server *s);
/* Cuts every connection (gone() is called for each exchange). Finished by the loop. */
void http_server_free(struct http_server *s);

/* The request. Strings live until the exchange ends. */
const struct http_head *http_request(const struct http_exchange *x);
int http_fd(const struct http_exchange *x);
struct http_server *http_exchange_server(const struct http_exchange *x);
void http_attach(struct http_exchange *x, const struct http_exchange_ops *ops, void *user);
void *http_user(const struct http_exchange *x);
/* No more body() until resumed; the peer's window closes. */
void http_pause(struct http_exchange *x);
void http_resume(struct http_exchange *x);
/* Whether the whole body of the request has been delivered. */
bool http_body_is_complete(const struct http_exchange *x);

/* A field of whatever response this exchange gets. */
void http_preset(struct http_exchange *x, const char *name, const char *value);

/* The response head: begin, any number of fields, then start, which adds the framing. */
enum { HTTP_LENGTH_UNKNOWN = -1 }; /* chunked; for an HTTP/1.0 peer, until close */

void http_begin(struct http_exchange *x, int status);
void http_field(struct http_exchange *x, const char *name, const char *value);
void http_fieldf(struct http_exchange *x, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void http_start(struct http_exchange *x, int64_t length);
bool http_is_started(const struct http_exchange *x);
/* The connection is closed behind this exchange. Before http_start(). */
void http_close_after(struct http_exchange *x);

/* Takes all of it. False: enough is waiting, stop until writable(). Small writes are gathered. */
bool http_write(struct http_exchange *x, const void *data, size_t len);
/* Bytes that the peer has not taken yet. */
size_t http_pending(const struct http_exchange *x);
/* The response is complete. A response of a fixed length that is not is cut, as http_abort(). */
void http_end(struct http_exchange *x);
/* A whole response in one call. type NULL: none. */
void http_reply(struct http_exchange *x, int status, const char *type, const void *data,
                size_t len);
/* Cuts the connection: the peer sees a response that is not complete. */
void http_abort(struct http_exchange *x);
/*
 * The same, with a reset: nothing stands behind the connection any more. Some clients tell a
 * connection that was lost from an answer that is broken by this alone.
 */
void http_reset(struct http_exchange *x);
/*
 * Gives the socket away. *ret_in receives (takes over) the bytes that were read behind the request,
 * *ret_out those of the response that are not sent yet; both are initialised here.
 */
int http_hijack(struct http_exchange *x, struct buf *ret_in, struct buf *ret_out);

const char *http_reason(int status);
