/* RPCs that make, find and end sandboxes: each is one operation of the control plane. See
 * sandboxes.c. */
#pragma once

#include "service/rpc/call.h"

void create_sandbox_start(struct call *c, const ProtobufCMessage *request);
void get_sandbox_start(struct call *c, const ProtobufCMessage *request);
void list_sandboxes_start(struct call *c, const ProtobufCMessage *request);
void delete_sandbox_start(struct call *c, const ProtobufCMessage *request);
