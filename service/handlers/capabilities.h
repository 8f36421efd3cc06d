/* GetCapabilities: see capabilities.c. */
#pragma once

#include "service/rpc/call.h"

void get_capabilities_start(struct call *c, const ProtobufCMessage *request);
