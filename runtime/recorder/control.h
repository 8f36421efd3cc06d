/*
 * What followers and verbs say to a command's writer, over the SOCK_SEQPACKET socket `control` in
 * its directory, which only the recorder's own user can open. One message is one struct
 * control_message, with up to CONTROL_DATA_MAX bytes behind it. Both ends are on one machine, not
 * of one version: members are never moved, and a kind that is not known is answered with
 * RECORDER_INTERNAL.
 */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum control_kind {
    /* Of followers, which stay connected. */
    CONTROL_ATTACH = 1,      /* seq: the next event wanted; flags: CONTROL_PROGRESS */
    CONTROL_POSITION = 2,    /* seq: the next event wanted; it moved */
    CONTROL_WAIT = 3,        /* seq: the event waited for; answered once, when it is there */
    CONTROL_WAKE = 4,        /* the answer; seq: the last event */
    CONTROL_WAIT_EXITED = 5, /* answered with WAKE when the command exited */
    CONTROL_WAIT_CLOSED = 6, /* not answered: the connection ends when it is closed */

    /* Of verbs: each is answered by one CONTROL_RESULT. */
    CONTROL_ACK = 16,      /* seq */
    CONTROL_SIGNAL = 17,   /* value: the signal; flags: enum control_target */
    CONTROL_INPUT = 18,    /* data; flags: CONTROL_EOF, CONTROL_MORE (not the last message) */
    CONTROL_STATUS = 19,   /* answered with seq: the last event; value: acked; flags; data: a struct
                              control_details, as far as the writer knows it */
    CONTROL_INPUT_AT = 20, /* as INPUT; value: how many bytes of input come before it */
    CONTROL_RESIZE = 21,   /* value: columns << 16 | rows */
    CONTROL_RESULT = 32,   /* status: enum recorder_exit; value; data: the sentence */
};

enum control_flag {
    CONTROL_PROGRESS = 1, /* KEEP_UP waits for this reader */
    CONTROL_EOF = 2,
    CONTROL_MORE = 4,
    CONTROL_BLOCKED = 8,
};

enum control_target { CONTROL_PROCESS = 1, CONTROL_GROUP = 2, CONTROL_TREE = 3 };

struct control_message {
    uint32_t kind;
    uint32_t flags;
    uint64_t seq;
    uint64_t value;
    uint32_t status;
    uint32_t data_len;
};

/* Behind the answer to CONTROL_STATUS. It grows at its end. */
struct control_details {
    uint64_t input_offset;
};

enum { CONTROL_DATA_MAX = 32 * 1024 };

struct control_packet {
    struct control_message m;
    uint8_t data[CONTROL_DATA_MAX];
};

/* The writer's end: listens in dir. */
int control_listen(int dir);

/* A verb's end: -1 with errno when no writer is there (ECONNREFUSED, ENOENT). */
int control_connect(int dir);

/* One message. Never blocks when flags has MSG_DONTWAIT. */
bool control_send(int fd, const struct control_message *m, const void *data, int flags);

/* 1: a message; 0: the other end is gone; -1: errno. */
int control_receive(int fd, struct control_packet *ret, int flags);

/* Sends a request and waits for its result. False: the writer did not answer. */
bool control_ask(int fd, const struct control_message *m, const void *data,
                 struct control_packet *ret);
