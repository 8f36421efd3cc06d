/* RPCs that change how long a sandbox lives, whether it runs, and what it may reach; and what it
 * used. See lifecycle.c. */
#pragma once

#include "service/rpc/call.h"

void set_sandbox_timeout_start(struct call *c, const ProtobufCMessage *request);
void keep_alive_start(struct call *c, const ProtobufCMessage *request);
void pause_sandbox_start(struct call *c, const ProtobufCMessage *request);
void resume_sandbox_start(struct call *c, const ProtobufCMessage *request);
void update_sandbox_start(struct call *c, const ProtobufCMessage *request);
void get_sandbox_metrics_start(struct call *c, const ProtobufCMessage *request);
