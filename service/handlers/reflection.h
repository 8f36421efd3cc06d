/* grpc.reflection.v1 and v1alpha: see reflection.c. */
#pragma once

#include "service/rpc/call.h"

void reflection_start(struct call *c, const ProtobufCMessage *request);
