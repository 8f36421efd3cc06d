/*
 * A stream of bytes from the sandbox to the client, which goes on where the recorder's process ends
 * before it is through (they are let live for some minutes): what DownloadFile and DownloadTree
 * have in common.
 */
#pragma once

#include "common/journal/pb.h"
#include "recorder/v1/recorder.pb-c.h"
#include "service/e2b/e2b.h"
#include "service/handlers/validate.h"
#include "service/rpc/call.h"

/* In front of data: what says that a message has it. */
enum { DOWNLOAD_HEADROOM = 1 + PB_VARINT_MAX };

struct download;

struct download_kind {
    /* What the next process is to do; user and path are there. Forgets what was of the one before.
     */
    void (*ask)(struct download *d, Recorder__V1__FileSpec *spec);
    /* Takes blocks (download_has_block()) until a message can be made, and sends it. False: nothing
     * was sent, since nothing is there or the verdict is set. */
    bool (*send_next)(struct download *d);
    /* Whether anything is left that another process can be asked for. NULL: always. */
    bool (*can_go_on)(const struct download *d);
    /* The process did all, and all of that was taken: finishes, has something more to be sent, or
     * sets the verdict. */
    void (*end)(struct download *d);
    void (*destroy)(struct download *d); /* what it keeps, not itself */
    size_t headroom;                     /* wanted in front of blocks */
    const char *go_on;                   /* what a client can do whose stream must leave */
};

/* The first member of a kind's own. */
struct download {
    const struct download_kind *kind;
    struct call *call; /* borrowed: it owns this */
    struct e2b_op op;
    bool running;              /* op is */
    struct e2b_stream *stream; /* NULL: none */
    struct e2b_output output;
    struct call_timer heartbeat;
    struct status verdict; /* the client is gone, or what came is none of ours; OK: go on */
    bool finished;

    char sandbox_id[VALIDATE_ID_MAX + 1];
    char user[VALIDATE_USER_MAX + 1];
    char path[VALIDATE_PATH_MAX + 1];

    bool started; /* the client knows what will come */
    int in_vain;  /* processes since the last byte */
    struct {
        uint8_t *base; /* owned; NULL: none */
        size_t at, len;
    } block; /* of the process's output: what is not taken of it */
};

/* Checks what every download says, and keeps a copy. */
bool download_read(struct download *d, const char *sandbox_id, const char *path, const char *user,
                   struct status *st);

/* d: zeroed before the kind filled it, from malloc; the call's from now on. */
void download_begin(struct download *d, const struct download_kind *kind, struct call *c);

/* --- for the kinds --- */

/* Whether d->block has bytes; fetches the next one if need be. */
bool download_has_block(struct download *d);

/* What the download begins with. */
void download_send_start(struct download *d, const ProtobufCMessage *m);

/*
 * Without copying: base becomes the call's. Its bytes from `at` on, behind the headroom, are data;
 * those from `at + data_len` to `at + len` are further fields. more: see call_send_bytes_take().
 */
void download_send_data(struct download *d, uint8_t *base, size_t at, size_t data_len, size_t len,
                        bool more);

/* What it ends with. */
void download_send_end(struct download *d, const ProtobufCMessage *m);
