/* Attach: a command's events and its input on one stream. See attach.c. */
#pragma once

#include "service/rpc/call.h"

void attach_start(struct call *c, const ProtobufCMessage *none);
