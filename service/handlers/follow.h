/* RunCommand and Logs: one durable stream. See follow.c. */
#pragma once

#include "service/rpc/call.h"

void run_command_start(struct call *c, const ProtobufCMessage *request);
void logs_start(struct call *c, const ProtobufCMessage *request);
