/* See validate.h. */
#include "service/handlers/validate.h"

#include "common/base/utf8.h"
#include "sandbox/v1/errors.pb-c.h"

#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    LABEL_KEY_MAX = 63,
    LABEL_VALUE_MAX = 256,
    TERMINAL_EDGE_MAX = 1000,
};

static bool is_id_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

bool validate_optional_id(const char *field, const char *id, struct status *st)
{
    size_t len = strlen(id);

    if (len > VALIDATE_ID_MAX)
        return status_bad_field(st, INVALID_FIELD, field,
                                "%s is %zu bytes long; at most %d are allowed", field, len,
                                VALIDATE_ID_MAX);
    for (size_t i = 0; i < len; i++) {
        if (!is_id_char(id[i]))
            return status_bad_field(st, INVALID_FIELD, field,
                                    "%s \"%s\" is no id: only letters, digits, _ and - are allowed",
                                    field, id);
    }
    return true;
}

bool validate_id(const char *field, const char *id, struct status *st)
{
    if (id[0] == '\0')
        return status_bad_field(st, INVALID_FIELD, field, "%s is required", field);
    return validate_optional_id(field, id, st);
}

bool validate_path(const char *field, const char *path, struct status *st)
{
    size_t len = strlen(path);

    if (len == 0)
        return status_bad_field(st, INVALID_FIELD, field, "%s is required", field);
    if (len > VALIDATE_PATH_MAX)
        return status_bad_field(st, INVALID_FIELD, field,
                                "%s is %zu bytes long; at most %d are allowed", field, len,
                                VALIDATE_PATH_MAX);
    if (!utf8_is_valid((const uint8_t *)path, len))
        return status_bad_field(st, INVALID_FIELD, field, "%s is not UTF-8", field);
    return true;
}

bool validate_user(const char *field, const char *user, struct status *st)
{
    size_t len = strlen(user);
    bool ok = len <= VALIDATE_USER_MAX;

    for (size_t i = 0; ok && i < len; i++)
        ok = is_id_char(user[i]) || (user[i] == '.' && i > 0);
    if (!ok || user[0] == '-')
        return status_bad_field(st, INVALID_FIELD, field, "%s \"%.64s\" is no user name", field,
                                user);
    return true;
}

bool validate_env(const char *field, const char *name, const char *value, struct status *st)
{
    if (name[0] == '\0' || strchr(name, '=') != NULL)
        return status_bad_field(
            st, INVALID_FIELD, field,
            "%s has a variable named \"%.64s\": a name is not empty and has no =", field, name);
    if (strlen(name) + strlen(value) + 2 > VALIDATE_ENV_BYTES_MAX)
        return status_bad_field(st, INVALID_FIELD, field, "%s: %.64s is longer than %d bytes",
                                field, name, VALIDATE_ENV_BYTES_MAX);
    return true;
}

bool validate_states(const Sandbox__V1__Sandbox__State *states, size_t n, bool *ret_running,
                     bool *ret_paused, struct status *st)
{
    *ret_running = *ret_paused = false;
    for (size_t i = 0; i < n; i++) {
        switch (states[i]) {
        case SANDBOX__V1__SANDBOX__STATE__STATE_RUNNING:
            *ret_running = true;
            break;
        case SANDBOX__V1__SANDBOX__STATE__STATE_PAUSED:
            *ret_paused = true;
            break;
        default:
            return status_bad_field(st, INVALID_FIELD, "states", "state %d is not known here",
                                    (int)states[i]);
        }
    }
    return true;
}

bool validate_duration(const char *field, int64_t seconds, int32_t nanos, int64_t min_ms,
                       int64_t max_ms, int64_t *ret_ms, struct status *st)
{
    /* The bounds keep the multiplication below from overflowing. */
    bool sane = seconds >= 0 && seconds <= max_ms / 1000 + 1 && nanos >= 0 && nanos < 1000000000;
    int64_t ms = sane ? seconds * 1000 + (nanos + 999999) / 1000000 : -1;

    if (ms < min_ms || ms > max_ms)
        return status_bad_field(st, INVALID_FIELD, field, "%s must be from %lld ms to %lld s",
                                field, (long long)min_ms, (long long)max_ms / 1000);
    *ret_ms = ms;
    return true;
}

bool validate_labels(validate_label *const *labels, size_t n, struct status *st)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-";

    if (n > VALIDATE_LABELS_MAX)
        return status_bad_field(st, INVALID_FIELD, "labels", "labels has %zu entries; at most %d",
                                n, VALIDATE_LABELS_MAX);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(labels[i]->key);

        if (len < 1 || len > LABEL_KEY_MAX || strspn(labels[i]->key, allowed) != len)
            return status_bad_field(st, INVALID_FIELD, "labels",
                                    "labels: a key has 1 to %d of A-Z a-z 0-9 . _ / -",
                                    LABEL_KEY_MAX);
        if (strlen(labels[i]->value) > LABEL_VALUE_MAX)
            return status_bad_field(st, INVALID_FIELD, "labels",
                                    "labels: the value of %s is longer than %d bytes",
                                    labels[i]->key, LABEL_VALUE_MAX);
    }
    return true;
}

bool validate_terminal(const char *field, const Sandbox__V1__TerminalSize *size, uint32_t *ret_cols,
                       uint32_t *ret_rows, struct status *st)
{
    *ret_cols = size != NULL && size->cols != 0 ? size->cols : 80;
    *ret_rows = size != NULL && size->rows != 0 ? size->rows : 24;
    if (*ret_cols <= TERMINAL_EDGE_MAX && *ret_rows <= TERMINAL_EDGE_MAX)
        return true;
    return status_bad_field(st, INVALID_FIELD, field,
                            "%s: a terminal has at most %d columns and "
                            "rows",
                            field, TERMINAL_EDGE_MAX);
}
