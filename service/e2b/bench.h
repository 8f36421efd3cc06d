/*
 * For tests: an adapter in front of an E2B of the test's own making, and the caller's thread, whose
 * executor the test pumps. The adapter is the real one, threads and all.
 */
#pragma once

#include "common/base/clock.h"
#include "common/base/list.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/e2b.h"
#include "service/e2b/fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>

#include <cmocka.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

#define DETAIL_OF(id, state, more)                                                                 \
    "{\"sandboxID\":\"" id "\",\"templateID\":\"base\",\"clientID\":\"6532622b\","                 \
    "\"envdVersion\":\"0.6.13\",\"startedAt\":\"2026-01-02T03:04:05Z\","                           \
    "\"endAt\":\"2026-01-02T04:04:05Z\",\"cpuCount\":2,\"memoryMB\":512,\"diskSizeMB\":1,"         \
    "\"state\":\"" state "\",\"envdAccessToken\":\"t0\"" more "}"
#define DETAIL(state, more) DETAIL_OF("iabc", state, more)
#define NOT_FOUND_BODY "{\"code\":404,\"message\":\"sandbox not found\"}"

struct waiter {
    struct e2b_op op;
    bool done;
};

extern struct executor *const waiter_executor;
void waiter_done(struct e2b_op *op);

/* Tenancy is off. */
extern const struct e2b_caller anyone;

#define WAITER_OF(who)                                                                             \
    {                                                                                              \
        .op = {                                                                                    \
            .caller = (who),                                                                       \
            .executor = waiter_executor,                                                           \
            .done = waiter_done,                                                                   \
            .deadline_ns = INT64_MAX                                                               \
        }                                                                                          \
    }
#define WAITER WAITER_OF(&anyone)

/* Runs one task of the executor, which it waits for. */
void pump_once(void);
const struct status *wait_for(struct waiter *w);
/* Waits until a server's thread has seen something. */
void wait_until(atomic_int *what, int at_least);

struct bench {
    struct fake *fake;
    struct e2b *e2b;
    struct metrics *metrics; /* owned; what the adapter counts */
    atomic_int n[8];         /* what the server counts; free for the test */
    char seen[64];           /* what one of its answers keeps for a later one */
    const char *mode;
    int64_t request_timeout_ms; /* 0: ample */
};

/* What is installed as the recorder: on x86_64, on aarch64. */
extern const uint8_t bench_recorder[22], bench_foreign_recorder[16];

struct e2b_config config_for(const char *url);
void bench_open(struct bench *b, void (*serve)(struct fake_call *c, void *arg));
void bench_close(struct bench *b);

/* Fails the test unless that is how it ended. */
void check(const struct status *st, enum code code, int reason);
