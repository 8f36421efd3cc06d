/* See status.h. */
#include "common/base/status.h"

#include "common/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    [CODE_OK] = "OK",
    [CODE_CANCELLED] = "CANCELLED",
    [CODE_UNKNOWN] = "UNKNOWN",
    [CODE_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
    [CODE_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
    [CODE_NOT_FOUND] = "NOT_FOUND",
    [CODE_ALREADY_EXISTS] = "ALREADY_EXISTS",
    [CODE_PERMISSION_DENIED] = "PERMISSION_DENIED",
    [CODE_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
    [CODE_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
    [CODE_ABORTED] = "ABORTED",
    [CODE_OUT_OF_RANGE] = "OUT_OF_RANGE",
    [CODE_UNIMPLEMENTED] = "UNIMPLEMENTED",
    [CODE_INTERNAL] = "INTERNAL",
    [CODE_UNAVAILABLE] = "UNAVAILABLE",
    [CODE_DATA_LOSS] = "DATA_LOSS",
    [CODE_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

const char *code_name(enum code code)
{
    if ((unsigned)code >= sizeof(names) / sizeof(names[0]))
        return "UNKNOWN";
    return names[code];
}

/* Messages quote what peers sent; gRPC clients reject a status message that is not UTF-8. */
static void format_text(char *to, size_t size, const char *fmt, va_list args)
{
    if (vsnprintf(to, size, fmt, args) < 0)
        to[0] = '\0';
    utf8_sanitize(to);
}

bool status_set(struct status *st, enum code code, int reason, const char *fmt, ...)
{
    va_list args;

    if (st == NULL)
        return false;
    *st = (struct status){.code = code, .reason = reason};
    va_start(args, fmt);
    format_text(st->message, sizeof(st->message), fmt, args);
    va_end(args);
    return false;
}

bool status_prefix(struct status *st, const char *fmt, ...)
{
    va_list args;
    char old[sizeof(st->message)];

    if (st == NULL)
        return false;
    memcpy(old, st->message, sizeof(old));
    va_start(args, fmt);
    format_text(st->message, sizeof(st->message), fmt, args);
    va_end(args);

    size_t used = strlen(st->message);

    snprintf(st->message + used, sizeof(st->message) - used, ": %s", old);
    utf8_sanitize(st->message);
    return false;
}

bool status_detail(struct status *st, const char *key, const char *fmt, ...)
{
    va_list args;

    if (st == NULL)
        return false;
    for (int i = 0; i < STATUS_DETAILS; i++) {
        if (st->detail[i].key[0] != '\0')
            continue;
        snprintf(st->detail[i].key, sizeof(st->detail[i].key), "%s", key);
        va_start(args, fmt);
        format_text(st->detail[i].value, sizeof(st->detail[i].value), fmt, args);
        va_end(args);
        break;
    }
    return false;
}

bool status_bad_field(struct status *st, int reason, const char *field, const char *fmt, ...)
{
    va_list args;

    if (st == NULL)
        return false;
    *st = (struct status){.code = CODE_INVALID_ARGUMENT, .reason = reason};
    snprintf(st->field, sizeof(st->field), "%s", field);
    va_start(args, fmt);
    format_text(st->message, sizeof(st->message), fmt, args);
    va_end(args);
    return false;
}
