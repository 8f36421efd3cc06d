/* The unary RPCs about commands: each is one verb of the recorder. See commands.c. */
#pragma once

#include "service/rpc/call.h"

void get_command_start(struct call *c, const ProtobufCMessage *request);
void list_commands_start(struct call *c, const ProtobufCMessage *request);
void send_input_start(struct call *c, const ProtobufCMessage *request);
void signal_command_start(struct call *c, const ProtobufCMessage *request);
void ack_logs_start(struct call *c, const ProtobufCMessage *request);
void wait_command_start(struct call *c, const ProtobufCMessage *request);
void resize_terminal_start(struct call *c, const ProtobufCMessage *request);
void prune_commands_start(struct call *c, const ProtobufCMessage *request);
