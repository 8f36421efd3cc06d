/*
 * The typing side of sandbox_attach(): what was typed waits here until the command has taken it, so
 * that a stream that broke can be given it again. Typed on any thread, sent by the one that reads
 * the stream.
 */
#pragma once

#include "client/rpc.h"

/* The thread that reads: a stream begins, on which nothing has been sent yet; NULL: it ended. */
void terminal_use(struct sandbox_terminal *t, struct rpc *rpc);

/* Sends the next thing there is to send, if the one before is out. False: the user has left. */
bool terminal_pump(struct sandbox_terminal *t);

/* The command has taken so many bytes of input in all. */
void terminal_taken(struct sandbox_terminal *t, uint64_t offset);

/* No stream will come any more: typing is refused. */
void terminal_end(struct sandbox_terminal *t);
