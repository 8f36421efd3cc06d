/* The writer's side of `control`: its followers, and the verbs that ask something of it. */
#pragma once

#include "common/base/list.h"
#include "runtime/recorder/journal_file.h"
#include "runtime/recorder/loop.h"

struct writer;

struct clients {
    struct writer *writer; /* borrowed */
    struct source listener;
    struct list list;
    size_t n;
    uint64_t woken_seq; /* who waits for an event up to this one was told */
};

enum { CLIENTS_MAX = 1024, READER_MOVES_MS = 1000 };

void clients_init(struct clients *c, struct writer *w, int listener_fd);
void clients_deinit(struct clients *c);

/* How far readers are: those that count, and advanced within the last second. */
struct journal_readers clients_readers(const struct clients *c);

/* Whether a follower is there, whatever it wants. */
bool clients_are_reading(const struct clients *c);

/* Tells those that wait for it that there is something new. */
void clients_wake(struct clients *c, uint64_t last_seq);

/* Tells those that wait for it that the command exited. */
void clients_wake_exited(struct clients *c);

/* Frees those that are gone. Between rounds of the loop only. */
void clients_sweep(struct clients *c);
