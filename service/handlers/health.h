/* grpc.health.v1: see health.c. */
#pragma once

#include "service/rpc/call.h"

void health_check_start(struct call *c, const ProtobufCMessage *request);
void health_list_start(struct call *c, const ProtobufCMessage *request);
void health_watch_start(struct call *c, const ProtobufCMessage *request);
