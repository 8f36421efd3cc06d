/* Acknowledges what a reader has taken (AckLogs), beside the stream, so that it never waits. */
#pragma once

#include "client/include/sandbox.h"

struct acker;

/* The strings must outlive it. `bytes` of output bring an acknowledgement without delay. */
struct acker *acker_new(struct sandbox_client *client, const char *sandbox_id,
                        const char *command_id, size_t bytes);

/* The reader is done with everything up to seq, which holds another `bytes` of output. */
void acker_take(struct acker *a, uint64_t seq, size_t bytes);

/* Acknowledges the rest, for at most 10 s, and ends. NULL is fine. */
void acker_free(struct acker *a);
