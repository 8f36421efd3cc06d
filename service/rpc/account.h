/*
 * What every call leaves behind for whoever watches: it is counted (under the names that
 * go-grpc-middleware gave these metrics, so that dashboards and alerts know them), and has a line
 * in the log and, if it is traced, a span. Called by the files that make a call, so that no handler
 * can forget it.
 */
#pragma once

#include "service/metrics/metrics.h"
#include "service/rpc/call_impl.h"

struct account;

/* bindings: the server's table. m may be NULL. */
struct account *account_new(struct metrics *m, const struct binding *bindings, size_t n);
void account_free(struct account *a);

void account_call_started(const struct call *c);
void account_message_received(const struct call *c, size_t len);
void account_message_sent(const struct call *c, size_t len);
/* The verdict stands. */
void account_call_ended(const struct call *c);

/* Remembers which sandbox the call is about, from the messages of either side that name it. */
void account_note_sandbox(struct call *c, const ProtobufCMessage *message);
