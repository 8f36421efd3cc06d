/* See meta.h. */
#include "runtime/recorder/meta.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

char *string_of(const void *bytes, size_t len)
{
    char *s = xmalloc(len + 1);

    if (len > 0)
        memcpy(s, bytes, len);
    s[len] = '\0';
    return s;
}

size_t strings_count(char *const *list)
{
    size_t n = 0;

    while (list != NULL && list[n] != NULL)
        n++;
    return n;
}

void strings_add(char ***list, const char *s, size_t len)
{
    size_t n = strings_count(*list);

    /* Grown when the count reaches a power of two. */
    if ((n & (n + 1)) == 0)
        *list = xrealloc(*list, 2 * (n + 1) * sizeof(char *));
    (*list)[n] = string_of(s, len);
    (*list)[n + 1] = NULL;
}

void strings_free(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        free(list[i]);
    free(list);
}

void meta_deinit(struct meta *m)
{
    strings_free(m->args);
    strings_free(m->env_names);
    strings_free(m->labels);
    free(m->cwd);
    free(m->user);
    *m = (struct meta){0};
}

bool meta_write(int dir, const struct meta *m, struct status *st)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(META_MAX);
    bool ok = pb_add_uint(&b, 1, m->format) &&
              pb_add_bytes(&b, 2, m->command_id, strlen(m->command_id)) &&
              pb_add_bytes(&b, 3, m->sandbox_id, strlen(m->sandbox_id)) &&
              pb_add_bytes(&b, 4, m->digest, m->digest_len) &&
              pb_add_bytes(&b, 6, m->cwd, strlen(m->cwd)) &&
              pb_add_bytes(&b, 7, m->user, strlen(m->user)) &&
              pb_add_uint(&b, 9, (uint64_t)m->start_ns) && pb_add_uint(&b, 10, m->overflow) &&
              pb_add_uint(&b, 11, m->max_bytes) && pb_add_uint(&b, 12, m->protected) &&
              pb_add_uint(&b, 14, m->terminal) && pb_add_uint(&b, 15, m->initial.cols) &&
              pb_add_uint(&b, 16, m->initial.rows);

    for (char **arg = m->args; ok && arg != NULL && *arg != NULL; arg++)
        ok = pb_add_element(&b, 5, *arg, strlen(*arg));
    for (char **name = m->env_names; ok && name != NULL && *name != NULL; name++)
        ok = pb_add_element(&b, 8, *name, strlen(*name));
    for (char **label = m->labels; ok && label != NULL && *label != NULL; label++)
        ok = pb_add_element(&b, 13, *label, strlen(*label));
    if (!ok)
        return fault(st, RECORDER_BAD_SPEC, "the specification is larger than %d bytes", META_MAX);
    if (!file_create(dir, "meta", buf_data(&b), buf_len(&b)))
        return fault_errno(st, "what the command is cannot be written");
    return true;
}

static bool take_text(const struct pb_field *f, char *to, size_t size)
{
    if (f->wire != PB_BYTES || f->len >= size)
        return false;
    memcpy(to, f->data, f->len);
    to[f->len] = '\0';
    return true;
}

static bool take_owned(const struct pb_field *f, char **to)
{
    free(*to);
    *to = string_of(f->data, f->len);
    return f->wire == PB_BYTES;
}

static bool take_meta_field(const struct pb_field *f, struct meta *m)
{
    switch (f->number) {
    case 1:
        m->format = (uint32_t)f->value;
        return true;
    case 2:
        return take_text(f, m->command_id, sizeof(m->command_id));
    case 3:
        return take_text(f, m->sandbox_id, sizeof(m->sandbox_id));
    case 4:
        m->digest_len = f->len;
        if (f->wire != PB_BYTES || f->len > sizeof(m->digest))
            return false;
        memcpy(m->digest, f->data, f->len);
        return true;
    case 5:
        strings_add(&m->args, (const char *)f->data, f->len);
        return f->wire == PB_BYTES;
    case 6:
        return take_owned(f, &m->cwd);
    case 7:
        return take_owned(f, &m->user);
    case 8:
        strings_add(&m->env_names, (const char *)f->data, f->len);
        return f->wire == PB_BYTES;
    case 9:
        m->start_ns = (int64_t)f->value;
        return true;
    case 10:
        m->overflow = (uint32_t)f->value;
        return true;
    case 11:
        m->max_bytes = f->value;
        return true;
    case 12:
        m->protected = f->value != 0;
        return true;
    case 13:
        strings_add(&m->labels, (const char *)f->data, f->len);
        return f->wire == PB_BYTES;
    case 14:
        m->terminal = f->value != 0;
        return true;
    case 15:
        m->initial.cols = (uint16_t)f->value;
        return true;
    case 16:
        m->initial.rows = (uint16_t)f->value;
        return true;
    default:
        return true; /* of a newer recorder */
    }
}

bool meta_read(int dir, struct meta *ret, struct status *st)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(META_MAX);
    AUTO(meta_deinit) struct meta m = {.cwd = xstrdup(""), .user = xstrdup("")};
    struct pb_field f;

    if (!file_read(dir, "meta", &b))
        return fault_errno(st, "what the command is cannot be read");

    struct pb_reader r = pb_reader(buf_data(&b), buf_len(&b));

    while (pb_next(&r, &f))
        if (!take_meta_field(&f, &m))
            r.malformed = true;
    if (r.malformed)
        return fault(st, RECORDER_DATA_LOSS, "what the command is cannot be made out any more");
    *ret = m;
    m = (struct meta){0};
    return true;
}

bool pid_write(int dir, const struct pid_record *p)
{
    char text[160];
    int len = snprintf(text, sizeof(text), "%u %llu %s\n", p->pid,
                       (unsigned long long)p->start_ticks, p->boot_id);

    return file_write(dir, "pid", text, (size_t)len);
}

bool pid_read(int dir, struct pid_record *ret)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(256);
    unsigned long long ticks;

    *ret = (struct pid_record){0};
    if (!file_read(dir, "pid", &b))
        return false;
    if (sscanf(buf_str(&b), "%u %llu %63s", &ret->pid, &ticks, ret->boot_id) != 3)
        return false;
    ret->start_ticks = ticks;
    return true;
}

bool end_write(int dir, const struct end_record *e)
{
    uint8_t bytes[JOURNAL_EXITED_MAX + 64], *end = bytes;

    end = pb_put_bytes(end, 1, e->exited, e->exited_len);
    end = pb_put_uint(end, 2, e->exited_seq);
    end = pb_put_uint(end, 3, e->bytes_before);
    end = pb_put_uint(end, 4, e->last_seq);
    end = pb_put_uint(end, 5, (uint64_t)e->closed_ns);
    end = pb_put_uint(end, 6, e->input_offset);
    end = pb_put_uint(end, 7, e->input_eof);
    end = pb_put_uint(end, 8, e->bytes_total);
    return file_write(dir, "end", bytes, (size_t)(end - bytes));
}

bool end_read(int dir, struct end_record *ret)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(4096);
    struct journal_event e;
    struct pb_field f;
    size_t len;

    *ret = (struct end_record){0};
    if (!file_read(dir, "end", &b))
        return false;

    struct pb_reader r = pb_reader(buf_data(&b), buf_len(&b));

    while (pb_next(&r, &f)) {
        if (f.number == 1 && f.wire == PB_BYTES && f.len <= sizeof(ret->exited)) {
            memcpy(ret->exited, f.data, f.len);
            ret->exited_len = f.len;
        }
        if (f.number == 2)
            ret->exited_seq = f.value;
        if (f.number == 3)
            ret->bytes_before = f.value;
        if (f.number == 4)
            ret->last_seq = f.value;
        if (f.number == 5)
            ret->closed_ns = (int64_t)f.value;
        if (f.number == 6)
            ret->input_offset = f.value;
        if (f.number == 7)
            ret->input_eof = f.value != 0;
        if (f.number == 8)
            ret->bytes_total = f.value;
    }
    if (r.malformed || journal_parse(ret->exited, ret->exited_len, &e, &len) != JOURNAL_FRAME ||
        len != ret->exited_len || e.kind != JOURNAL_EXITED || e.seq != ret->exited_seq)
        return false;
    ret->exited_ns = e.time_ns;
    return true;
}

bool size_write(int dir, struct terminal_size size)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%u %u\n", size.cols, size.rows);

    return file_write(dir, "size", text, (size_t)len);
}

struct terminal_size size_read(int dir, const struct meta *m)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(64);
    struct terminal_size size;

    if (!file_read(dir, "size", &b) || sscanf(buf_str(&b), "%hu %hu", &size.cols, &size.rows) != 2)
        return m->initial;
    return size;
}

bool acked_write(int dir, uint64_t seq)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)seq);

    return file_write(dir, "acked", text, (size_t)len);
}

uint64_t acked_read(int dir)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(64);
    const char *end;
    uint64_t seq;

    if (!file_read(dir, "acked", &b) || !parse_u64(buf_str(&b), &end, &seq))
        return 0;
    return seq;
}
