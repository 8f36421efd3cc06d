/*
 * DownloadTree: a directory of any size from the sandbox to the client, by download.h, as an
 * archive that is made here (tree_relay.h). A client that lost its stream goes on with a cursor.
 * All on the call's worker.
 */
#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/trees.pb-c.h"
#include "service/handlers/download.h"
#include "service/handlers/excludes.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"
#include "service/handlers/tree_relay.h"

#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    CURSOR = 4, /* field of DownloadTreeResponse */
    CURSOR_MAX = 8 * 1024,
    MESSAGE_MAX = DOWNLOAD_HEADROOM + TREE_RELAY_OUT_MAX + CURSOR_MAX,
};

struct tree_download {
    struct download d;
    char **excludes; /* owned */
    size_t n_excludes;
    struct tree_relay relay;
    struct buf out; /* the next message's data, behind headroom */
    bool last;      /* that is the end of the archive */
    uint8_t sha256[32];
};

static struct tree_download *tree_of(struct download *d)
{
    return container_of(d, struct tree_download, d);
}

static void ask(struct download *d, Recorder__V1__FileSpec *spec)
{
    struct tree_download *t = tree_of(d);

    spec->op = RECORDER__V1__FILE_SPEC__OP__OP_PACK;
    spec->excludes = t->excludes;
    spec->n_excludes = t->n_excludes;
    spec->place = (ProtobufCBinaryData){strlen(t->relay.path), (uint8_t *)t->relay.path};
    spec->after = t->relay.version;
    spec->offset = t->relay.offset;
    spec->tolerant = t->relay.at_end;
    tree_relay_restart(&t->relay);
}

/* --- what goes out --- */

static void send_start(struct tree_download *t)
{
    Sandbox__V1__DownloadTreeResponse m = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__INIT;
    Sandbox__V1__DownloadTreeStart begin = SANDBOX__V1__DOWNLOAD_TREE_START__INIT;

    begin.entry =
        sandbox__v1__file_entry__unpack(NULL, buf_len(&t->relay.head), buf_data(&t->relay.head));
    if (begin.entry == NULL || !message_is_text(&begin.entry->base)) {
        file_answer_corrupt(&t->d.verdict);
    } else {
        m.message_case = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__MESSAGE_START;
        m.start = &begin;
        download_send_start(&t->d, &m.base);
    }
    if (begin.entry != NULL)
        sandbox__v1__file_entry__free_unpacked(begin.entry, NULL);
}

static void begin_message(struct tree_download *t)
{
    static const uint8_t headroom[DOWNLOAD_HEADROOM];

    t->out = BUF_INIT(MESSAGE_MAX);
    buf_append(&t->out, headroom, DOWNLOAD_HEADROOM);
}

static size_t data_len(const struct tree_download *t)
{
    return buf_len(&t->out) - DOWNLOAD_HEADROOM;
}

static void send_data(struct tree_download *t)
{
    size_t len = data_len(t), with_cursor;
    uint8_t *base;

    tree_relay_add_cursor(&t->relay, &t->out, CURSOR);
    with_cursor = data_len(t);
    base = TAKE(t->out.base);
    begin_message(t);
    download_send_data(&t->d, base, DOWNLOAD_HEADROOM, len, with_cursor, false);
}

static void send_end(struct tree_download *t)
{
    Sandbox__V1__DownloadTreeResponse m = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__INIT;
    Sandbox__V1__DownloadTreeEnd end = SANDBOX__V1__DOWNLOAD_TREE_END__INIT;

    end.counts = &t->relay.counts;
    end.skipped = t->relay.skipped;
    end.n_skipped = t->relay.n_skipped;
    if (t->relay.sha256 != NULL)
        end.sha256 = (ProtobufCBinaryData){sizeof(t->sha256), t->sha256};
    m.message_case = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__MESSAGE_END;
    m.end = &end;
    download_send_end(&t->d, &m.base);
}

/* Makes as much of the next message as is there. */
static void gather(struct tree_download *t)
{
    struct download *d = &t->d;

    while (d->verdict.code == CODE_OK && buf_len(&t->out) < TREE_RELAY_FULL &&
           download_has_block(d)) {
        size_t n = tree_relay_feed(&t->relay, d->block.base + d->block.at, d->block.len, &t->out,
                                   &d->verdict);

        d->block.at += n;
        d->block.len -= n;
    }
}

static bool send_next(struct download *d)
{
    struct tree_download *t = tree_of(d);

    gather(t);
    if (d->verdict.code != CODE_OK)
        return false;
    if (!d->started && t->relay.has_head)
        send_start(t);
    else if (data_len(t) > 0)
        send_data(t);
    else if (t->last)
        send_end(t);
    else
        return false;
    return true;
}

/* --- ends --- */

static void end(struct download *d)
{
    struct tree_download *t = tree_of(d);

    t->last = tree_relay_finish(&t->relay, &t->out, t->sha256, &d->verdict);
}

static void destroy(struct download *d)
{
    struct tree_download *t = tree_of(d);

    tree_relay_deinit(&t->relay);
    buf_deinit(&t->out);
    free_strings(t->excludes, t->n_excludes);
}

static const struct download_kind kind = {
    .ask = ask,
    .send_next = send_next,
    .end = end,
    .destroy = destroy,
    .go_on = "go on with the last cursor",
};

static bool take_cursor(struct tree_download *t, const ProtobufCBinaryData *cursor,
                        struct status *st)
{
    if (cursor->len == 0)
        return true;
    if (cursor->len <= CURSOR_MAX && tree_relay_set_cursor(&t->relay, cursor->data, cursor->len))
        return true;
    return status_bad_field(st, REASON(INVALID_FIELD), "cursor",
                            "cursor is not one that this method returned");
}

static bool read_request(struct tree_download *t, const Sandbox__V1__DownloadTreeRequest *r,
                         struct status *st)
{
    if (!download_read(&t->d, r->sandbox_id, r->path, r->user, st) ||
        !excludes_check("excludes", r->excludes, r->n_excludes, st))
        return false;
    t->excludes = excludes_copy(r->excludes, r->n_excludes);
    t->n_excludes = r->n_excludes;
    return take_cursor(t, &r->cursor, st);
}

void download_tree_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__DownloadTreeRequest *r = (const Sandbox__V1__DownloadTreeRequest *)message;
    struct tree_download *t = xcalloc(1, sizeof(*t));
    struct status st = STATUS_INIT;

    tree_relay_init(&t->relay, r->max_bytes, r->max_entries);
    begin_message(t);
    if (!read_request(t, r, &st)) {
        destroy(&t->d);
        free(t);
        call_finish(c, &st);
        return;
    }
    download_begin(&t->d, &kind, c);
}
