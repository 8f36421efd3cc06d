/*
 * Sandboxes that end when nobody uses them. E2B ends a sandbox when its time is over, whatever goes
 * on in it; so one that was made with an idle time gets no more than that, and every use of it
 * through any pod gives it as much again, up to the lifetime it was made with. No pod has to look
 * after it, and one that dies leaves nothing behind.
 */
#pragma once

#include "service/e2b/request.h"

/* Labels of our own, in whole seconds. */
#define IDLE_TIMEOUT "sandboxd.idle_timeout"
#define IDLE_LIFETIME "sandboxd.lifetime"

/* What E2B is to be told at create. */
int64_t idle_first_timeout_s(int64_t timeout_s, int64_t idle_s);

/* Reads the labels; whoever set them to something else gets a sandbox without an idle time. */
void idle_read_labels(struct e2b_sandbox *s);

/* Remembers it with the sandbox's address, which was just stored. */
void idle_remember(const struct request *r, const struct e2b_sandbox *s);

/* x uses its sandbox, or hears from it. Costs a request to E2B once in a tenth of the idle time. */
void idle_note_use(struct exchange *x);
