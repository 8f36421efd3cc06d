/* See leave.h. Called by handlers of streams, on their call's worker. */
#include "service/handlers/leave.h"

#include "sandbox/v1/errors.pb-c.h"
#include "service/rpc/call.h"

#include <stdarg.h>
#include <stdio.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

void leave_status(const struct call *c, struct status *ret, const char *go_on, ...)
{
    char text[256];
    va_list args;

    va_start(args, go_on);
    vsnprintf(text, sizeof(text), go_on, args);
    va_end(args);
    if (call_is_draining(c))
        status_set(ret, CODE_UNAVAILABLE, REASON(POD_DRAINING), "this pod is about to stop: %s",
                   text);
    else
        status_set(ret, CODE_UNAVAILABLE, REASON(CONNECTION_AGED),
                   "this connection is about to be closed, as all are after a time: %s", text);
    ret->retry_ms = 1;
}
