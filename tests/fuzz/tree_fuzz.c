/*
 * Anything as what a recorder says of a directory, in two pieces: whatever is put out is an archive
 * as far as it goes, with nothing in it that leads out. And anything as a cursor.
 */
#include "service/handlers/tree_relay.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

struct source {
    const uint8_t *data;
    size_t len;
};

static ssize_t read_source(void *arg, uint8_t *to, size_t len)
{
    struct source *s = arg;
    size_t n = s->len < len ? s->len : len;

    if (n > 0)
        memcpy(to, s->data, n);
    s->data += n;
    s->len -= n;
    return (ssize_t)n;
}

static void check_archive(const struct buf *archive)
{
    struct source s = {buf_data(archive), buf_len(archive)};
    char last[TAR_PATH_MAX + 1] = "";
    struct tar_reader r;
    struct tar_entry e;
    enum tar_result got;

    tar_reader_init(&r, read_source, NULL, &s);
    while ((got = tar_next(&r, &e)) == TAR_ENTRY) {
        require(e.type == TAR_FILE || e.type == TAR_DIRECTORY || e.type == TAR_SYMLINK);
        require(e.mode <= 0777 && tar_path_order(last, e.path) < 0);
        require(e.type != TAR_SYMLINK || tar_link_is_inside(e.path, e.link));
        strcpy(last, e.path);
    }
    require(got == TAR_END || strcmp(r.why, "the archive is cut short") == 0);
    tar_reader_deinit(&r);
}

static void feed(struct tree_relay *t, const uint8_t *data, size_t len, struct buf *to,
                 struct status *st)
{
    size_t at = 0;

    while (at < len && st->code == CODE_OK) {
        struct buf out = BUF_INIT(TREE_RELAY_OUT_MAX);
        size_t n = tree_relay_feed(t, data + at, len - at, &out, st);

        require(n > 0 || st->code != CODE_OK);
        at += n;
        require(buf_append(to, buf_data(&out), buf_len(&out)));
        buf_deinit(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct buf archive = BUF_INIT(1 << 28);
    struct status st = STATUS_INIT;
    struct tree_relay t;
    uint8_t sha256[32];

    tree_relay_init(&t, 0, 0);
    feed(&t, data, len / 2, &archive, &st);
    feed(&t, data + len / 2, len - len / 2, &archive, &st);
    if (st.code == CODE_OK)
        tree_relay_finish(&t, &archive, sha256, &st);
    check_archive(&archive);
    tree_relay_set_cursor(&t, data, len);
    tree_relay_deinit(&t);
    buf_deinit(&archive);
    return 0;
}
