/* What the command line of the recorder asks for. */
#pragma once

#include "common/base/options.h"

#include <stdbool.h>
#include <stdint.h>

struct request {
    const char *state, *spec, *id, *sandbox, *until, *target, *after, *streams;
    const char *default_user, *default_cwd, *request, *host, *path;
    struct option_strings states, labels;
    int64_t from, seq, signal, limit, cols, rows, timeout_ms, port;
    int64_t tail_events, tail_lines, tail_bytes; /* -1: not asked for */
    int64_t since_ns, before_ns, limit_bytes;
    int64_t max_commands, max_bytes, max_age_ms;
    bool text, lines, no_progress, follow, set, watches, recursive;
};

/*
 * Options alone, without the verb in front. *ret lives as long as the process; *ret_args is as of
 * options_parse(). The verbs are for --help.
 */
enum options_result request_parse(int argc, char **argv, const char *verbs,
                                  const struct request **ret, int *ret_args, struct status *st);
