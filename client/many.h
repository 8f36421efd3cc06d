/*
 * The order of events where a stream is of all commands: what was delivered of each, and the cursor
 * that a broken stream goes on from. Pure.
 */
#pragma once

#include "client/resume.h"

#include <stddef.h>

struct many_command {
    char id[SANDBOX_ID_SIZE];
    struct sequence sequence;
};

struct many {
    struct many_command *commands; /* owned */
    size_t n;
    bool sparse;     /* events are left out between those that come */
    uint8_t *cursor; /* owned; empty: from the start */
    size_t cursor_len;
};

void many_init(struct many *m, bool sparse, const uint8_t *cursor, size_t len);
void many_deinit(struct many *m);

void many_set_cursor(struct many *m, const uint8_t *cursor, size_t len);

/* An event of the command; id is empty for events that are none of a command's: always new. */
enum sequence_verdict many_event(struct many *m, const char *id,
                                 const Sandbox__V1__CommandEvent *event);
