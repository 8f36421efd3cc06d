/* The handlers of the two services, for the method table in agent.c. */
#pragma once

#include "runtime/local/agent/rpc.h"

void process_rpc_list(struct rpc_call *call, const ProtobufCMessage *request);
void process_rpc_start(struct rpc_call *call, const ProtobufCMessage *request);
void process_rpc_connect(struct rpc_call *call, const ProtobufCMessage *request);
void process_rpc_update(struct rpc_call *call, const ProtobufCMessage *request);
void process_rpc_send_input(struct rpc_call *call, const ProtobufCMessage *request);
void process_rpc_stream_input(struct rpc_call *call, const ProtobufCMessage *request);
void process_rpc_send_signal(struct rpc_call *call, const ProtobufCMessage *request);
void process_rpc_close_stdin(struct rpc_call *call, const ProtobufCMessage *request);

void filesystem_rpc_stat(struct rpc_call *call, const ProtobufCMessage *request);
void filesystem_rpc_list_dir(struct rpc_call *call, const ProtobufCMessage *request);
void filesystem_rpc_make_dir(struct rpc_call *call, const ProtobufCMessage *request);
void filesystem_rpc_move(struct rpc_call *call, const ProtobufCMessage *request);
void filesystem_rpc_remove(struct rpc_call *call, const ProtobufCMessage *request);

void watch_rpc_watch_dir(struct rpc_call *call, const ProtobufCMessage *request);
void watch_rpc_create_watcher(struct rpc_call *call, const ProtobufCMessage *request);
void watch_rpc_get_events(struct rpc_call *call, const ProtobufCMessage *request);
void watch_rpc_remove_watcher(struct rpc_call *call, const ProtobufCMessage *request);
