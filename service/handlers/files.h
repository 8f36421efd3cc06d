/* WriteFiles and ReadFile: see files.c. */
#pragma once

#include "service/rpc/call.h"

void write_files_start(struct call *c, const ProtobufCMessage *request);
void read_file_start(struct call *c, const ProtobufCMessage *request);
