/* ForkSandbox: see fork.c. */
#pragma once

#include "service/rpc/call.h"

void fork_sandbox_start(struct call *c, const ProtobufCMessage *request);
