/*
 * Anything as an archive: reading comes to an end, every entry lies below the directory, and what
 * is read can be written and read again.
 */
#include "common/tar/tar.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct source {
    const uint8_t *data;
    size_t len;
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

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

static void check_path(const char *path)
{
    char clean[TAR_PATH_MAX + 1];

    require(strlen(path) <= TAR_PATH_MAX && path[0] != '/');
    require(tar_path_clean(path, strlen(path), clean) && strcmp(path, clean) == 0);
}

static void check_entry(const struct tar_entry *e)
{
    struct buf again = BUF_INIT(TAR_HEADER_MAX);
    struct tar_reader r;
    struct tar_entry got;
    struct source s;

    check_path(e->path);
    if (e->type == TAR_HARD_LINK)
        check_path(e->link);
    require(e->mode <= 07777 && e->mtime_ns < 1000000000);
    require(e->type == TAR_FILE || e->size == 0);
    require(tar_link_is_inside("l", e->link) <= tar_link_is_inside("d/l", e->link));
    if (e->path[0] == '\0' || e->type == TAR_OTHER)
        return;
    require(tar_add_header(&again, e));
    s = (struct source){buf_data(&again), buf_len(&again)};
    tar_reader_init(&r, read_source, NULL, &s);
    require(tar_next(&r, &got) == TAR_ENTRY);
    require(got.type == e->type && got.size == e->size && got.mode == e->mode);
    require(strcmp(got.path, e->path) == 0 && strcmp(got.link, e->link) == 0);
    tar_reader_deinit(&r);
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct source s = {data, len};
    struct tar_reader r;
    struct tar_entry e;
    uint8_t content[100];

    tar_reader_init(&r, read_source, NULL, &s);
    while (tar_next(&r, &e) == TAR_ENTRY) {
        check_entry(&e);
        require(tar_content(&r, content, sizeof(content)) <= (ssize_t)sizeof(content));
    }
    tar_reader_deinit(&r);
    return 0;
}
