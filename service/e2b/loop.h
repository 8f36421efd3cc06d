/*
 * A thread that runs libcurl: its multi handle through the socket interface on epoll (polling all
 * handles costs 6 times as much with 10,000 idle streams), timers, and tasks posted from elsewhere.
 * loop_post() is the only way in from another thread; all the rest belongs to the loop's thread.
 */
#pragma once

#include "common/base/status.h"
#include "common/base/task.h"
#include "common/base/timers.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

bool loop_new(struct loop **ret, struct status *st);
/* Any thread but the loop's. Nothing may be running on it any more. */
void loop_free(struct loop *l);

/* Any thread. */
void loop_post(struct loop *l, struct task *task);

struct loop_timer {
    struct timer timer;                   /* monotonic */
    void (*run)(struct loop_timer *self); /* may start it again */
};

/* (Re)starts; INT64_MAX stops. */
void loop_timer_start(struct loop *l, struct loop_timer *t, int64_t at_ns);
void loop_timer_stop(struct loop *l, struct loop_timer *t);

struct loop_handle {
    CURL *easy;                                              /* borrowed */
    void (*done)(struct loop_handle *self, CURLcode result); /* removed already; may free it */
};

/* CURLOPT_PRIVATE of the handle is the loop's. Not from within curl's callbacks. */
void loop_add_handle(struct loop *l, struct loop_handle *h);
void loop_remove_handle(struct loop *l, struct loop_handle *h);

/* Good enough for jitter and names, not for secrets. */
uint64_t loop_random(struct loop *l);
