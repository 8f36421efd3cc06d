/*
 * DownloadFile: a file of any size from the sandbox to the client, by download.h. The recorder says
 * how much will come and then writes just that, so blocks are passed on as they are. Another
 * process goes on behind the last byte if it is still the same file. All on the call's worker.
 */
#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/handlers/download.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    HEAD_MAX = 128 * 1024,
    END_MAX = 1024,
    LENGTH_SIZE = 4,
    VERSION_MAX = 256,
};

struct file_download {
    struct download d;
    char version[VERSION_MAX + 1]; /* asked for, then found */
    uint64_t offset;               /* of the next byte */
    uint64_t length; /* how many are wanted; 0: all. Then how many are still to come */
    bool with_sha256, to_the_end;

    /* Of this process: */
    bool has_head;   /* it was read */
    struct buf text; /* what is no content: the head, later the end */
};

static struct file_download *file_of(struct download *d)
{
    return container_of(d, struct file_download, d);
}

static void corrupt(struct file_download *f)
{
    file_answer_corrupt(&f->d.verdict);
}

static void ask(struct download *d, Recorder__V1__FileSpec *spec)
{
    struct file_download *f = file_of(d);

    spec->op = RECORDER__V1__FILE_SPEC__OP__OP_DOWNLOAD;
    spec->after = f->version;
    spec->offset = f->offset;
    spec->limit = f->length;
    spec->with_sha256 = f->with_sha256;
    f->has_head = false;
    buf_clear(&f->text);
}

/* If nothing is left: only there it is said by 0. */
static bool can_go_on(const struct download *d)
{
    const struct file_download *f = (const struct file_download *)d;

    return f->length > 0 || f->to_the_end;
}

/* --- what it wrote --- */

static void send_start(struct file_download *f, const Recorder__V1__DownloadHead *head)
{
    Sandbox__V1__DownloadFileResponse m = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__INIT;
    Sandbox__V1__DownloadStart begin = SANDBOX__V1__DOWNLOAD_START__INIT;
    Sandbox__V1__FileEntry *entry =
        sandbox__v1__file_entry__unpack(NULL, head->entry.len, head->entry.data);

    if (entry == NULL || !message_is_text(&entry->base)) {
        corrupt(f);
    } else {
        begin.entry = entry;
        begin.version = head->version;
        begin.length = head->length;
        m.message_case = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE_START;
        m.start = &begin;
        download_send_start(&f->d, &m.base);
    }
    if (entry != NULL)
        sandbox__v1__file_entry__free_unpacked(entry, NULL);
}

static void take_head(struct file_download *f, const uint8_t *data, size_t len)
{
    Recorder__V1__DownloadHead *head = recorder__v1__download_head__unpack(NULL, len, data);
    bool ok = head != NULL && message_is_text(&head->base) &&
              strlen(head->version) <= VERSION_MAX && head->version[0] != '\0';

    /* Asked to go on with this version, it cannot have another length in mind. */
    ok = ok && (!f->d.started || (head->length == f->length && !strcmp(head->version, f->version)));
    if (!ok) {
        corrupt(f);
    } else {
        f->has_head = true;
        f->length = head->length;
        snprintf(f->version, sizeof(f->version), "%s", head->version);
        if (!f->d.started)
            send_start(f, head);
    }
    if (head != NULL)
        recorder__v1__download_head__free_unpacked(head, NULL);
}

/* Gathers what is no content. Returns how many of the bytes that took. */
static size_t take_text(struct file_download *f, const uint8_t *data, size_t len, size_t wanted)
{
    size_t have = buf_len(&f->text);
    size_t n = wanted - have < len ? wanted - have : len;

    if (!buf_append(&f->text, data, n))
        corrupt(f);
    return n;
}

/* Bytes in front of the content; returns how many. The start may be in flight then. */
static size_t take_front(struct file_download *f, const uint8_t *data, size_t len)
{
    const uint8_t *size = NULL;
    size_t n = 0, head_len;

    if (buf_len(&f->text) < LENGTH_SIZE)
        n = take_text(f, data, len, LENGTH_SIZE);
    if (buf_len(&f->text) < LENGTH_SIZE)
        return n;
    size = buf_data(&f->text);
    head_len = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    if (head_len > HEAD_MAX) {
        corrupt(f);
        return n;
    }
    n += take_text(f, data + n, len - n, LENGTH_SIZE + head_len);
    if (buf_len(&f->text) == LENGTH_SIZE + head_len && f->d.verdict.code == CODE_OK) {
        take_head(f, buf_data(&f->text) + LENGTH_SIZE, head_len);
        buf_clear(&f->text);
    }
    return n;
}

/* What is left of the block, which has content: the block becomes the message. */
static void pass(struct file_download *f)
{
    size_t len = f->d.block.len, at = f->d.block.at;
    size_t content = len < f->length ? len : (size_t)f->length;

    if (take_text(f, f->d.block.base + at + content, len - content, END_MAX) != len - content)
        corrupt(f);
    if (f->d.verdict.code != CODE_OK)
        return;
    f->offset += content;
    f->length -= content;
    f->d.block.len = 0;
    download_send_data(&f->d, TAKE(f->d.block.base), at, content, content, f->length > 0);
}

static bool send_next(struct download *d)
{
    struct file_download *f = file_of(d);

    while (d->verdict.code == CODE_OK && call_can_send(d->call) && download_has_block(d)) {
        size_t n;

        if (f->has_head && f->length > 0) {
            pass(f);
            continue;
        }
        if (!f->has_head)
            n = take_front(f, d->block.base + d->block.at, d->block.len);
        else
            n = take_text(f, d->block.base + d->block.at, d->block.len, END_MAX);
        if (n == 0)
            corrupt(f); /* it goes on behind its end */
        d->block.at += n;
        d->block.len -= n;
    }
    return d->verdict.code == CODE_OK && !call_can_send(d->call);
}

/* --- ends --- */

static void end(struct download *d)
{
    struct file_download *f = file_of(d);
    Sandbox__V1__DownloadFileResponse m = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__INIT;

    if (!f->has_head || f->length > 0) {
        corrupt(f);
        return;
    }
    m.end = sandbox__v1__download_end__unpack(NULL, buf_len(&f->text), buf_data(&f->text));
    if (m.end == NULL) {
        corrupt(f);
        return;
    }
    m.message_case = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE_END;
    download_send_end(d, &m.base);
    sandbox__v1__download_end__free_unpacked(m.end, NULL);
}

static void destroy(struct download *d)
{
    buf_deinit(&file_of(d)->text);
}

static const struct download_kind kind = {
    .ask = ask,
    .send_next = send_next,
    .can_go_on = can_go_on,
    .end = end,
    .destroy = destroy,
    .headroom = DOWNLOAD_HEADROOM,
    .go_on = "go on behind the last byte",
};

static bool read_request(struct file_download *f, const Sandbox__V1__DownloadFileRequest *r,
                         struct status *st)
{
    if (!download_read(&f->d, r->sandbox_id, r->path, r->user, st))
        return false;
    if (r->offset > INT64_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "offset", "offset is too large");
    if (strlen(r->if_version) > VERSION_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "if_version",
                                "if_version is not one that this method returned");
    snprintf(f->version, sizeof(f->version), "%s", r->if_version);
    f->offset = r->offset;
    f->length = r->length;
    f->to_the_end = r->length == 0;
    f->with_sha256 = r->with_sha256;
    return true;
}

void download_file_start(struct call *c, const ProtobufCMessage *message)
{
    struct file_download *f = xcalloc(1, sizeof(*f));
    struct status st = STATUS_INIT;

    if (!read_request(f, (const Sandbox__V1__DownloadFileRequest *)message, &st)) {
        free(f);
        call_finish(c, &st);
        return;
    }
    f->text = BUF_INIT(LENGTH_SIZE + HEAD_MAX);
    download_begin(&f->d, &kind, c);
}
