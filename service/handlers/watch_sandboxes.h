/* WatchSandboxes. See watch_sandboxes.c. */
#pragma once

#include "service/rpc/call.h"

void watch_sandboxes_start(struct call *c, const ProtobufCMessage *request);
