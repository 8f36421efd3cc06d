/*
 * The log: one JSON object per line on stderr, written with one write(2), from any thread.
 *
 *   log_info("sandbox created", LOG_S("sandbox_id", id), LOG_N("took_ms", ms));
 *   {"time":"2026-01-01T00:00:00.000Z","level":"info","msg":"sandbox created","sandbox_id":"i…",…}
 *
 * or, for people, the same as text:
 *
 *   2026-01-01T00:00:00.000Z INFO  sandbox created sandbox_id=i… took_ms=12
 *
 * Secrets never come here: not tokens, keys, environment values, nor command input or output.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *key;  /* an identifier, not escaped */
    const char *text; /* NULL: it is a number */
    int64_t number;
};

#define LOG_S(k, v) ((struct log_field){.key = (k), .text = (v)})
#define LOG_N(k, v) ((struct log_field){.key = (k), .number = (int64_t)(v)})

/* Lines below this level are not written. LOG_INFO at start. */
void log_set_level(enum log_level level);
/* At start, before there are threads. */
void log_set_text(bool text);
bool log_level_from_name(const char *name, enum log_level *ret_level);

void log_write(enum log_level level, const char *msg, const struct log_field *fields, size_t n);

#define LOG_AT(level, msg, ...)                                                                    \
    log_write((level), (msg), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){NULL}},        \
              sizeof((const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){NULL}}) /               \
                      sizeof(struct log_field) -                                                   \
                  1)

#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)
