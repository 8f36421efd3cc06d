/* Logs of SOURCE_SANDBOX: the platform's own log. See platform_log.c. */
#pragma once

#include "sandbox/v1/commands.pb-c.h"
#include "service/rpc/call.h"

/* sandbox_id is valid; the rest is checked here. */
void platform_log_start(struct call *c, const Sandbox__V1__LogsRequest *r);
