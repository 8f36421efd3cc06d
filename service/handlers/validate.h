/*
 * Checks of request fields, one sentence and one BadRequest each. All return true when the field is
 * fine, and fill st with INVALID_ARGUMENT, INVALID_FIELD and the field's name otherwise.
 */
#pragma once

#include "common/base/status.h"
#include "sandbox/v1/commands.pb-c.h"
#include "sandbox/v1/sandbox.pb-c.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VALIDATE_ID_MAX = 64,
    VALIDATE_PATH_MAX = 4096,
    VALIDATE_ENVS_MAX = 256,
    VALIDATE_ENV_BYTES_MAX = 128 * 1024, /* one name and value: the kernel's MAX_ARG_STRLEN */
    VALIDATE_USER_MAX = 64,
};

/* [A-Za-z0-9_-]{1,64}. */
bool validate_id(const char *field, const char *id, struct status *st);
/* The same, or empty. */
bool validate_optional_id(const char *field, const char *id, struct status *st);

/* 1 to 4096 bytes of UTF-8. (A NUL cannot be seen here: requests with one do not come this far.) */
bool validate_path(const char *field, const char *path, struct status *st);

/* Empty, or a user name: letters, digits, _ - and ., not starting with - or . ; at most 64 bytes.
 */
bool validate_user(const char *field, const char *user, struct status *st);

/* An environment variable: the name is not empty and has no '='. */
bool validate_env(const char *field, const char *name, const char *value, struct status *st);

/* Labels of a command: the entries of a map; protobuf-c makes a type for each, all of one shape. */
typedef Sandbox__V1__RunCommandRequest__LabelsEntry validate_label;

enum { VALIDATE_LABELS_MAX = 16 };

bool validate_labels(validate_label *const *labels, size_t n, struct status *st);

/* From 1 to 1000 columns and rows; 0: 80 and 24. size: NULL as if empty. */
bool validate_terminal(const char *field, const Sandbox__V1__TerminalSize *size, uint32_t *ret_cols,
                       uint32_t *ret_rows, struct status *st);

/* Which states are asked for; none: neither is set, which stands for both. */
bool validate_states(const Sandbox__V1__Sandbox__State *states, size_t n, bool *ret_running,
                     bool *ret_paused, struct status *st);

/* seconds and nanos of a google.protobuf.Duration; from min_ms to max_ms, rounded up to whole ms.
 */
bool validate_duration(const char *field, int64_t seconds, int32_t nanos, int64_t min_ms,
                       int64_t max_ms, int64_t *ret_ms, struct status *st);
