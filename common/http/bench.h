/*
 * For tests of what a server does: its other end, on the same thread. The loop is turned by hand,
 * so that everything that can happen has happened when a call returns.
 */
#pragma once

#include "common/http/server.h"

#include <stdbool.h>
#include <stddef.h>

/* A connection to the server; the end of it that does not block. */
int bench_dial(struct http_server *s);

void bench_turn(struct loop *l);

/* Sends the text in pieces of `step` bytes, each of which is dealt with before the next. */
void bench_say(struct loop *l, int fd, const char *text, size_t step);

/* Everything that has come so far; owned by the caller. *ret_eof, unless NULL: and that was all. */
char *bench_hear(struct loop *l, int fd, bool *ret_eof);
