/* RPCs about the ports of a sandbox: what listens, where it answers (ports.c), and a connection to
 * it (forward_port.c). */
#pragma once

#include "service/rpc/call.h"

void list_ports_start(struct call *c, const ProtobufCMessage *request);
void get_sandbox_url_start(struct call *c, const ProtobufCMessage *request);
void forward_port_start(struct call *c, const ProtobufCMessage *request);
