/* grpc.reflection: see reflection.c. */
#pragma once

#include "service/rpc/call.h"

/* Of v1 and of v1alpha alike: their messages have the same fields. */
void reflection_start(struct call *c, const ProtobufCMessage *request);
