/*
 * The same as relay.h for all commands of a sandbox: what the recorder's watcher writes are whole
 * response messages, each of one command. They are checked, and events that came before are taken
 * out: after a break the watcher goes on from a cursor, which may lie behind. Pure: no I/O.
 */
#pragma once

#include "common/base/buf.h"
#include "service/handlers/relay.h"

enum {
    RELAY_ALL_COMMANDS_MAX = 16384,
    RELAY_ALL_CURSOR_MAX = 1024 * 1024,
    RELAY_ALL_MESSAGE_MAX = RELAY_ALL_CURSOR_MAX + 256 * 1024,
};

struct relay_all_command {
    char id[RELAY_ID_MAX + 1];
    bool begun; /* an event of it came: the next one is known */
    struct journal_check check;
};

struct relay_all {
    bool sparse;                        /* events are left out between those that come */
    struct relay_all_command *commands; /* owned */
    size_t n_commands;
    struct buf in;   /* what came and is not a whole message */
    uint8_t *cursor; /* owned; the last one that came */
    size_t cursor_len;
    uint64_t output; /* bytes of it that passed */
    uint64_t gaps;   /* events that said others are gone */
    bool complete;   /* the watcher said that it is at its end */
};

void relay_all_init(struct relay_all *r, bool sparse);
void relay_all_deinit(struct relay_all *r);

/* Where to start. False: it is no cursor of ours. */
bool relay_all_set_cursor(struct relay_all *r, const uint8_t *cursor, size_t len);

/* Adds bytes. False: more than a message may have. */
bool relay_all_feed(struct relay_all *r, const uint8_t *data, size_t len);

/* The next message, if there is one: *ret_base is the caller's then. */
enum relay_result relay_all_next(struct relay_all *r, uint8_t **ret_base, size_t *ret_len);

/* The watcher is gone, maybe in the middle of a message. */
void relay_all_cut(struct relay_all *r);
