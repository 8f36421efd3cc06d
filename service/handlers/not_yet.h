/* Fields and methods of the contract that this version does not honour are refused, not ignored. */
#pragma once

#include "common/base/status.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdbool.h>
#include <stdio.h>

/* True when the field is not set. */
static inline bool not_yet(bool is_set, const char *field, struct status *st)
{
    if (!is_set)
        return true;
    status_set(st, CODE_UNIMPLEMENTED, SANDBOX__V1__ERROR_REASON__ERROR_REASON_UNSUPPORTED,
               "%s is not supported by this version of the server: leave it empty", field);
    snprintf(st->field, sizeof(st->field), "%s", field);
    return false;
}
