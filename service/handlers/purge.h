/* PurgeSandboxes: see purge.c. */
#pragma once

#include "service/rpc/call.h"

void purge_sandboxes_start(struct call *c, const ProtobufCMessage *request);
