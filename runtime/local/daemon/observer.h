/*
 * Listens to the agent of a sandbox (see agent/events.h) and writes what it tells into the
 * sandbox's history. One connection per sandbox, made again when it is lost. On the loop's thread.
 */
#pragma once

#include "runtime/local/daemon/daemon.h"

struct observer;

/* Begins shortly after, so that a new sandbox serves its first command before. */
struct observer *observer_start(struct daemon *d, struct sandbox *s);
void observer_stop(struct observer *o); /* NULL is fine */
