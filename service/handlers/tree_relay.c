/* See tree_relay.h. */
#include "service/handlers/tree_relay.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/pb.h"
#include "recorder/v1/recorder.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { LENGTH_SIZE = 4, FRAME_MAX = 128 * 1024, WHY_MAX = 200, MODE_MAX = 0777 };

void tree_relay_init(struct tree_relay *t, uint64_t max_bytes, uint64_t max_entries)
{
    *t = (struct tree_relay){
        .max_bytes = max_bytes,
        .max_entries = max_entries,
        .counts = SANDBOX__V1__TREE_COUNTS__INIT,
        .head = BUF_INIT(FRAME_MAX),
        .frame = BUF_INIT(LENGTH_SIZE + FRAME_MAX),
        .last_is_dir = true,
        .sha256 = EVP_MD_CTX_new(),
    };
    EVP_DigestInit_ex(t->sha256, EVP_sha256(), NULL);
}

static void forget_digest(struct tree_relay *t)
{
    EVP_MD_CTX_free(t->sha256);
    t->sha256 = NULL;
}

void tree_relay_deinit(struct tree_relay *t)
{
    forget_digest(t);
    for (size_t i = 0; i < t->n_skipped; i++)
        sandbox__v1__skipped_entry__free_unpacked(t->skipped[i], NULL);
    t->n_skipped = 0;
    buf_deinit(&t->head);
    buf_deinit(&t->frame);
}

static bool corrupt(struct status *st)
{
    return status_set(st, CODE_DATA_LOSS, REASON(JOURNAL_CORRUPT),
                      "what the recorder sends does not hold together: it was changed from inside "
                      "the sandbox");
}

/* --- places --- */

static bool is_clean(const uint8_t *path, size_t len)
{
    char clean[TAR_PATH_MAX + 1];

    return len > 0 && len <= TAR_PATH_MAX && tar_path_clean((const char *)path, len, clean) &&
           strlen(clean) == len;
}

/* text has at most as many bytes. */
static void copy(char to[TAR_PATH_MAX + 1], const ProtobufCBinaryData *text)
{
    if (text->len > 0)
        memcpy(to, text->data, text->len);
    to[text->len] = '\0';
}

static void set_path(struct tree_relay *t, const ProtobufCBinaryData *path, bool is_dir)
{
    copy(t->path, path);
    t->last_is_dir = is_dir;
}

static bool take_cursor(struct tree_relay *t, const Recorder__V1__TreeCursor *c)
{
    Sandbox__V1__TreeCounts *counts =
        sandbox__v1__tree_counts__unpack(NULL, c->counts.len, c->counts.data);
    bool ok = counts != NULL && (c->path.len == 0 || is_clean(c->path.data, c->path.len)) &&
              strlen(c->version) <= TREE_RELAY_VERSION_MAX && c->offset <= INT64_MAX;

    if (ok) {
        t->counts = *counts;
        t->counts.base.n_unknown_fields = 0;
        t->counts.base.unknown_fields = NULL;
        set_path(t, &c->path, true); /* what it was is not known: nothing is held against it */
        strcpy(t->version, c->version);
        t->offset = c->offset;
        t->at_end = c->at_end;
        forget_digest(t);
        tree_relay_restart(t);
    }
    if (counts != NULL)
        sandbox__v1__tree_counts__free_unpacked(counts, NULL);
    return ok;
}

bool tree_relay_set_cursor(struct tree_relay *t, const uint8_t *data, size_t len)
{
    Recorder__V1__TreeCursor *c = recorder__v1__tree_cursor__unpack(NULL, len, data);
    bool ok = c != NULL && take_cursor(t, c);

    if (c != NULL)
        recorder__v1__tree_cursor__free_unpacked(c, NULL);
    return ok;
}

bool tree_relay_add_cursor(const struct tree_relay *t, struct buf *to, uint32_t number)
{
    Recorder__V1__TreeCursor c = RECORDER__V1__TREE_CURSOR__INIT;
    uint8_t counts[128];
    AUTO_FREE uint8_t *data = NULL;

    c.path = (ProtobufCBinaryData){strlen(t->path), (uint8_t *)t->path};
    c.version = (char *)t->version;
    c.offset = t->offset;
    c.counts.len = sandbox__v1__tree_counts__pack(&t->counts, counts);
    c.counts.data = counts;
    c.at_end = t->at_end;
    data = xmalloc(recorder__v1__tree_cursor__get_packed_size(&c) + 1);
    return pb_add_bytes(to, number, data, recorder__v1__tree_cursor__pack(&c, data));
}

void tree_relay_restart(struct tree_relay *t)
{
    buf_clear(&t->frame);
    t->left = 0;
    t->ended = false;
    t->resuming = t->version[0] != '\0';
}

/* --- what is left out --- */

static void skip(struct tree_relay *t, const ProtobufCBinaryData *path, const char *why)
{
    Sandbox__V1__SkippedEntry *e;

    t->counts.skipped++;
    if (t->n_skipped == TREE_RELAY_SKIPPED_MAX)
        return;
    e = xmalloc(sizeof(*e));
    sandbox__v1__skipped_entry__init(e);
    e->path = utf8_repair(path->len > 0 ? path->data : (const uint8_t *)"", path->len);
    e->reason = utf8_repair((const uint8_t *)why, strnlen(why, WHY_MAX));
    t->skipped[t->n_skipped++] = e;
}

/* In the order of a walk, so that no path comes twice, and nothing below what is no directory. */
static bool is_in_order(const struct tree_relay *t, const char *path)
{
    return t->path[0] == '\0' || (tar_path_order(t->path, path) < 0 &&
                                  (t->last_is_dir || !tar_path_is_below(path, t->path)));
}

static bool take_skip(struct tree_relay *t, const Recorder__V1__TreeSkip *s, struct status *st)
{
    if (s->path.len > TAR_PATH_MAX)
        return corrupt(st);
    skip(t, &s->path, s->why);
    if (is_clean(s->path.data, s->path.len)) {
        char path[TAR_PATH_MAX + 1];

        copy(path, &s->path);
        if (is_in_order(t, path) && !t->resuming) /* another process need not tell it again */
            set_path(t, &s->path, false);
    }
    return true;
}

/* --- what is not --- */

static void digest(struct tree_relay *t, const struct buf *out, size_t from)
{
    if (t->sha256 != NULL)
        EVP_DigestUpdate(t->sha256, buf_data(out) + from, buf_len(out) - from);
}

static bool check_amount(struct tree_relay *t, const struct tar_entry *e, struct status *st)
{
    AUTO_FREE char *path = utf8_repair((const uint8_t *)e->path, strlen(e->path));
    Sandbox__V1__TreeCounts *n = &t->counts;

    if (t->max_entries != 0 && n->files + n->directories + n->links >= t->max_entries)
        return status_set(st, CODE_FAILED_PRECONDITION, REASON(FILE_TOO_LARGE),
                          "%.400s is more than the %llu entries that were asked for", path,
                          (unsigned long long)t->max_entries);
    if (__builtin_add_overflow(n->bytes, e->size, &n->bytes) ||
        (t->max_bytes != 0 && n->bytes > t->max_bytes))
        return status_set(st, CODE_FAILED_PRECONDITION, REASON(FILE_TOO_LARGE),
                          "with %.400s there are more than the %llu bytes that were asked for",
                          path, (unsigned long long)t->max_bytes);
    n->files += e->type == TAR_FILE;
    n->directories += e->type == TAR_DIRECTORY;
    n->links += e->type == TAR_SYMLINK;
    return true;
}

static void begin_content(struct tree_relay *t, uint64_t size, const char *version)
{
    t->left = size - t->offset;
    t->padding = tar_padding(size);
    if (size > 0)
        strcpy(t->version, version);
}

/* The rest of a file whose start was passed on by another process. */
static bool go_on(struct tree_relay *t, const Recorder__V1__TreeEntry *e, struct status *st)
{
    if (e->type != SANDBOX__V1__FILE_ENTRY__TYPE__TYPE_FILE || e->path.len != strlen(t->path) ||
        memcmp(e->path.data, t->path, e->path.len) != 0 || strcmp(e->version, t->version) != 0 ||
        e->size <= t->offset)
        return corrupt(st);
    t->resuming = false;
    t->last_is_dir = false;
    begin_content(t, e->size, e->version);
    return true;
}

static enum tar_type type_of(uint32_t type)
{
    switch (type) {
    case SANDBOX__V1__FILE_ENTRY__TYPE__TYPE_FILE:
        return TAR_FILE;
    case SANDBOX__V1__FILE_ENTRY__TYPE__TYPE_DIRECTORY:
        return TAR_DIRECTORY;
    case SANDBOX__V1__FILE_ENTRY__TYPE__TYPE_SYMLINK:
        return TAR_SYMLINK;
    default:
        return TAR_OTHER;
    }
}

static bool is_sound(const Recorder__V1__TreeEntry *e, enum tar_type type)
{
    return is_clean(e->path.data, e->path.len) && type != TAR_OTHER &&
           (type == TAR_FILE || e->size == 0) && e->size <= INT64_MAX - TAR_BLOCK &&
           e->link.len <= TAR_PATH_MAX &&
           (e->link.len == 0 || memchr(e->link.data, '\0', e->link.len) == NULL) &&
           e->version[0] != '\0' && strlen(e->version) <= TREE_RELAY_VERSION_MAX;
}

static bool take_entry(struct tree_relay *t, const Recorder__V1__TreeEntry *e, struct buf *out,
                       struct status *st)
{
    enum tar_type type = type_of(e->type);
    size_t from = buf_len(out);
    char path[TAR_PATH_MAX + 1], link[TAR_PATH_MAX + 1] = "";

    if (t->resuming)
        return go_on(t, e, st);
    if (!is_sound(e, type))
        return corrupt(st);
    copy(path, &e->path);
    if (!is_in_order(t, path))
        return corrupt(st);
    set_path(t, &e->path, type == TAR_DIRECTORY);
    if (type == TAR_SYMLINK)
        copy(link, &e->link);
    if (type == TAR_SYMLINK && !tar_link_is_inside(path, link)) {
        skip(t, &e->path, "a link that leads out of the directory");
        return true;
    }

    const struct tar_entry entry = {
        .type = type,
        .path = path,
        .link = link,
        .mode = e->mode & MODE_MAX,
        .size = e->size,
        .mtime_s = e->mtime,
    };

    if (!check_amount(t, &entry, st))
        return false;
    if (!tar_add_header(out, &entry))
        return corrupt(st);
    digest(t, out, from);
    t->offset = 0;
    if (type == TAR_FILE)
        begin_content(t, e->size, e->version);
    return true;
}

static bool take_head(struct tree_relay *t, const ProtobufCBinaryData *head, struct status *st)
{
    if (!t->has_head && !buf_append(&t->head, head->data, head->len))
        return corrupt(st);
    t->has_head = true;
    return true;
}

static bool take_frame(struct tree_relay *t, struct buf *out, struct status *st)
{
    Recorder__V1__TreeFrame *f = recorder__v1__tree_frame__unpack(
        NULL, buf_len(&t->frame) - LENGTH_SIZE, buf_data(&t->frame) + LENGTH_SIZE);
    bool ok = false;

    if (f == NULL)
        return corrupt(st);
    switch (f->frame_case) {
    case RECORDER__V1__TREE_FRAME__FRAME_HEAD:
        ok = take_head(t, &f->head, st);
        break;
    case RECORDER__V1__TREE_FRAME__FRAME_ENTRY:
        ok = t->has_head ? take_entry(t, f->entry, out, st) : corrupt(st);
        break;
    case RECORDER__V1__TREE_FRAME__FRAME_SKIP:
        ok = t->has_head ? take_skip(t, f->skip, st) : corrupt(st);
        break;
    case RECORDER__V1__TREE_FRAME__FRAME_CHANGED:
        t->counts.others++;
        ok = true;
        break;
    case RECORDER__V1__TREE_FRAME__FRAME_END:
        t->ended = ok = t->has_head && !t->resuming;
        if (!ok)
            corrupt(st);
        break;
    default:
        corrupt(st);
        break;
    }
    recorder__v1__tree_frame__free_unpacked(f, NULL);
    return ok;
}

/* --- bytes --- */

static size_t take_content(struct tree_relay *t, const uint8_t *data, size_t len, struct buf *out)
{
    static const uint8_t zeros[TAR_BLOCK];
    size_t n = len < t->left ? len : (size_t)t->left, from = buf_len(out);

    if (n > TREE_RELAY_FULL - from)
        n = TREE_RELAY_FULL - from;
    buf_append(out, data, n);
    t->left -= n;
    t->offset += n;
    if (t->left == 0) {
        buf_append(out, zeros, t->padding);
        t->version[0] = '\0';
    }
    digest(t, out, from);
    return n;
}

/* Gathers a frame; takes it when it is whole. */
static size_t take_text(struct tree_relay *t, const uint8_t *data, size_t len, struct buf *out,
                        struct status *st)
{
    size_t have = buf_len(&t->frame), whole = LENGTH_SIZE, n;
    const uint8_t *size = buf_data(&t->frame);

    if (have >= LENGTH_SIZE)
        whole += (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    if (whole > LENGTH_SIZE + FRAME_MAX || t->ended)
        return corrupt(st), 0;
    n = whole - have < len ? whole - have : len;
    buf_append(&t->frame, data, n);
    if (have < LENGTH_SIZE || have + n < whole)
        return n;
    take_frame(t, out, st);
    buf_clear(&t->frame);
    return n;
}

size_t tree_relay_feed(struct tree_relay *t, const uint8_t *data, size_t len, struct buf *out,
                       struct status *st)
{
    size_t done = 0;

    while (done < len && buf_len(out) < TREE_RELAY_FULL && st->code == CODE_OK) {
        if (t->left > 0)
            done += take_content(t, data + done, len - done, out);
        else
            done += take_text(t, data + done, len - done, out, st);
    }
    return done;
}

bool tree_relay_finish(struct tree_relay *t, struct buf *out, uint8_t ret_sha256[32],
                       struct status *st)
{
    size_t from = buf_len(out);

    if (!t->ended || t->left > 0 || buf_len(&t->frame) > 0)
        return corrupt(st);
    if (!t->at_end && !tar_add_end(out))
        return corrupt(st);
    t->at_end = true;
    if (t->sha256 != NULL) {
        digest(t, out, from);
        EVP_DigestFinal_ex(t->sha256, ret_sha256, NULL);
    }
    return true;
}
