/* WatchDirectory. See watch_directory.c. */
#pragma once

#include "service/handlers/recorder_result.h"
#include "service/rpc/call.h"

void watch_directory_start(struct call *c, const ProtobufCMessage *request);

/* recorder_result(), where a watch was meant. */
enum recorder_result watch_result(const struct e2b_output *out, const char *watch_id,
                                  const uint8_t *digest, struct status *st);
