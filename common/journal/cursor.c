/* See cursor.h. */
#include "common/journal/cursor.h"

#include "common/journal/pb.h"

#include <string.h>

bool cursor_add(struct buf *to, const struct cursor_entry *e)
{
    uint8_t entry[CURSOR_ID_MAX + 32], *end = entry;

    end = pb_put_bytes(end, 1, e->id, strlen(e->id));
    end = pb_put_uint(end, 2, e->last_seq);
    end = pb_put_uint(end, 3, e->closed);
    return pb_add_element(to, 1, entry, (size_t)(end - entry));
}

static bool read_entry(const struct pb_field *field, struct cursor_entry *ret)
{
    struct pb_reader r = pb_reader(field->data, field->len);
    struct pb_field f;

    *ret = (struct cursor_entry){0};
    while (pb_next(&r, &f)) {
        if (f.number == 1 && f.wire == PB_BYTES && f.len <= CURSOR_ID_MAX) {
            memcpy(ret->id, f.data, f.len);
            ret->id[f.len] = '\0';
        }
        if (f.number == 2 && f.wire == PB_VARINT)
            ret->last_seq = f.value;
        if (f.number == 3 && f.wire == PB_VARINT)
            ret->closed = f.value != 0;
    }
    return !r.malformed && ret->last_seq != UINT64_MAX;
}

bool cursor_read(const uint8_t *data, size_t len,
                 bool (*take)(void *arg, const struct cursor_entry *e), void *arg)
{
    struct pb_reader r = pb_reader(data, len);
    struct cursor_entry e;
    struct pb_field f;

    while (pb_next(&r, &f))
        if (f.number == 1 && (f.wire != PB_BYTES || !read_entry(&f, &e) || !take(arg, &e)))
            return false;
    return !r.malformed;
}
