/* RPCs about the ports of a sandbox: what listens, and where it answers. See ports.c. */
#pragma once

#include "service/rpc/call.h"

void list_ports_start(struct call *c, const ProtobufCMessage *request);
void get_sandbox_url_start(struct call *c, const ProtobufCMessage *request);
