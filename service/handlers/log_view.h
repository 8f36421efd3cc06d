/* What a caller of Logs wants to see, from its request to the follower's arguments. Pure. */
#pragma once

#include "common/base/status.h"
#include "sandbox/v1/commands.pb-c.h"
#include "service/archive/archive.h"

#include <stdbool.h>
#include <stdint.h>

struct log_view {
    bool text, whole_lines;
    char streams[32]; /* as the recorder has it; empty: all */
    const char *tail; /* the option's name; NULL: from the start */
    uint64_t tail_amount;
    int64_t since_ns, before_ns; /* 0: no bound */
    uint64_t limit_bytes;        /* 0: none */
};

/* The fields that both kinds of logs have. */
bool log_view_read(const Sandbox__V1__LogsRequest *r, struct log_view *ret, struct status *st);

/* Whether events are left out between those that come. begun: some came already. */
bool log_view_is_sparse(const struct log_view *v, bool begun);

/* Arguments, NULL-terminated, in room for them. */
enum { LOG_VIEW_ARGS_MAX = 16, LOG_VIEW_ARG_SIZE = 96 };

struct log_view_args {
    const char *list[LOG_VIEW_ARGS_MAX];
    char room[LOG_VIEW_ARGS_MAX][LOG_VIEW_ARG_SIZE];
    int n;
};

void log_view_arg(struct log_view_args *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Adds the view's. output: bytes that came already, which the limit is less by. */
void log_view_args(const struct log_view *v, bool begun, uint64_t output, struct log_view_args *a);

/* The same for the archive; until is as the recorder names it. */
void log_view_archived(const struct log_view *v, const char *until, bool begun, uint64_t output,
                       struct archive_view *ret);
