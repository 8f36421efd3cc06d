/* The snapshot RPCs: each is one operation of the control plane. See snapshots.c. */
#pragma once

#include "service/rpc/call.h"

void create_snapshot_start(struct call *c, const ProtobufCMessage *request);
void list_snapshots_start(struct call *c, const ProtobufCMessage *request);
void delete_snapshot_start(struct call *c, const ProtobufCMessage *request);
