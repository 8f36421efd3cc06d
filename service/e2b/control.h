/*
 * What the verbs of the control plane share: a request of one exchange at a time, about one sandbox
 * or none. A verb's own struct has a struct control first. On the loop's thread.
 */
#pragma once

#include "service/e2b/request.h"

#include <json-c/json.h>

struct control {
    struct request request;
    struct exchange exchange;
    struct transfer_piece piece;
    char *sandbox_id; /* owned; NULL: none */
    char *body;       /* owned */
};

#define CONTROL_OF(x) container_of(x, struct control, exchange)

/* sandbox_id is copied and may be NULL; destroy calls control_deinit() and frees. */
void control_init(struct control *c, const char *sandbox_id, void (*start)(struct request *r),
                  void (*destroy)(struct request *r));
void control_deinit(struct control *c);

/* (Re)makes the exchange, safe to repeat, that ends the request as it ends; takes path. Whose the
 * sandbox is is found out before it. */
struct exchange *control_begin(struct control *c, const char *method, char *path);
/* The same below the sandbox's own path; suffix as "/pause". */
struct exchange *control_begin_at(struct control *c, const char *method, const char *suffix);
/* The look itself at what a sandbox is like: its answer must go through control_read_sandbox(). */
struct exchange *control_look(struct control *c);
/* What is sent along; takes body, which is JSON. */
void control_send(struct control *c, char *body);

/* For exchange.done: ends the request. */
void control_done(struct exchange *x);

/* The answer as JSON, or NULL. The caller's. */
struct json_object *control_answer(const struct exchange *x);
/* The answer to control_look(); keeps the address it has. False: no such answer, or another's. */
bool control_read_sandbox(struct exchange *x, struct e2b_sandbox *ret, struct verdict *verdict);
/* Why E2B answered 409, of a sandbox that was looked at since: it is paused, or not now. */
void control_explain_busy(const struct e2b_sandbox *s, struct verdict *ret);
