/*
 * See spec.h. envd writes an upload in place, so the file is seen growing, or not at all yet when
 * the upload and the start were sent together: it is whole when its last field is `end`.
 */
#include "runtime/recorder/spec.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum {
    END_FIELD = 15,
    POLL_US = 1000,
    FIRST_LIMIT = 18,
    LAST_LIMIT = 22,
    LAST_FIELD = 25, /* of those that are known */
    TERMINAL_EDGE_MAX = 1000,
};

void command_spec_deinit(struct command_spec *s)
{
    meta_deinit(&s->meta);
    strings_free(s->envs);
    free(s->watch_path);
    *s = (struct command_spec){0};
}

void input_spec_deinit(struct input_spec *s)
{
    buf_deinit(&s->data);
}

void watch_spec_deinit(struct watch_spec *s)
{
    buf_deinit(&s->cursor);
}

/*
 * Finds the message of the wanted kind (a field of it) in a whole SpecFile. False
 * while it is not whole: a prefix of one never ends in a field `end` that is behind all others.
 */
static bool find_message(const uint8_t *data, size_t len, uint32_t wanted, struct pb_field *ret)
{
    struct pb_reader r = pb_reader(data, len);
    struct pb_field f, found = {0};
    bool ended = false;

    while (pb_next(&r, &f)) {
        ended = f.number == END_FIELD && f.len == 3 && memcmp(f.data, "end", 3) == 0;
        if (f.number == wanted && f.wire == PB_BYTES)
            found = f;
    }
    *ret = found;
    return ended && !r.malformed;
}

static bool has_nul(const struct pb_field *f)
{
    return memchr(f->data, '\0', f->len) != NULL;
}

static bool take_id(const struct pb_field *f, char *to)
{
    if (f->len > ID_MAX || has_nul(f))
        return false;
    memcpy(to, f->data, f->len);
    to[f->len] = '\0';
    return id_is_valid(to);
}

/* NAME=value; the name is kept apart, for those who may see it. */
static bool take_env(const struct pb_field *f, struct command_spec *s)
{
    const uint8_t *equals = memchr(f->data, '=', f->len);

    if (has_nul(f) || equals == NULL || equals == f->data)
        return false;
    strings_add(&s->envs, (const char *)f->data, f->len);
    strings_add(&s->meta.env_names, (const char *)f->data, (size_t)(equals - f->data));
    return true;
}

static bool take_string(const struct pb_field *f, char **to)
{
    if (has_nul(f))
        return false;
    free(*to);
    *to = string_of(f->data, f->len);
    return true;
}

static bool take_bytes_field(const struct pb_field *f, struct command_spec *s)
{
    switch (f->number) {
    case 1:
        return take_id(f, s->meta.command_id);
    case 2:
        return take_id(f, s->meta.sandbox_id);
    case 3:
        s->meta.digest_len = f->len;
        if (f->len > DIGEST_MAX)
            return false;
        memcpy(s->meta.digest, f->data, f->len);
        return true;
    case 4:
        strings_add(&s->meta.args, (const char *)f->data, f->len);
        return !has_nul(f);
    case 5:
        return take_env(f, s);
    case 6:
        return take_string(f, &s->meta.cwd);
    case 7:
        return take_string(f, &s->meta.user);
    case 16:
        strings_add(&s->meta.labels, (const char *)f->data, f->len);
        return !has_nul(f) && memchr(f->data, '=', f->len) != NULL;
    case 23:
        return take_string(f, &s->watch_path);
    default:
        return f->number > LAST_FIELD;
    }
}

static bool take_terminal_edge(const struct pb_field *f, uint16_t *to)
{
    *to = (uint16_t)f->value;
    return f->value >= 1 && f->value <= TERMINAL_EDGE_MAX;
}

static bool take_limit(const struct pb_field *f, struct command_limits *l)
{
    uint64_t *const limits[] = {&l->memory, &l->cpu, &l->files, &l->processes, &l->file_size};

    if (f->number < FIRST_LIMIT || f->number > LAST_LIMIT)
        return f->number > LAST_FIELD;
    *limits[f->number - FIRST_LIMIT] = f->value;
    return true;
}

static bool take_number_field(const struct pb_field *f, struct command_spec *s)
{
    switch (f->number) {
    case 8:
        s->timeout_ms = f->value;
        return true;
    case 9:
        s->grace_ms = f->value;
        return true;
    case 10:
        s->meta.overflow = (uint32_t)f->value;
        return f->value <= 3;
    case 11:
        s->stdin_pipe = f->value != 0;
        return true;
    case 12:
        s->meta.max_bytes = f->value;
        return true;
    case 13:
        s->meta.terminal = f->value != 0;
        return true;
    case 14:
        return take_terminal_edge(f, &s->meta.initial.cols);
    case 15:
        return take_terminal_edge(f, &s->meta.initial.rows);
    case 17:
        s->idle_timeout_ms = f->value;
        return true;
    case 24:
        s->watch_recursive = f->value != 0;
        return true;
    case 25:
        s->unread_timeout_ms = f->value;
        return true;
    default:
        return take_limit(f, &s->limits);
    }
}

static uint64_t clamp(uint64_t n, uint64_t low, uint64_t high)
{
    return n < low ? low : n > high ? high : n;
}

/* Fills in what was left to us. A limit is moved into its range, as a reader of the API expects. */
static void apply_defaults(struct command_spec *s)
{
    static const uint64_t a_century_ms = 100ull * 365 * 86400 * 1000;

    s->meta.max_bytes = s->meta.max_bytes == 0
                            ? JOURNAL_BYTES_DEFAULT
                            : clamp(s->meta.max_bytes, JOURNAL_BYTES_MIN, JOURNAL_BYTES_MAX);
    s->grace_ms = s->grace_ms == 0 ? DEFAULT_GRACE_MS : clamp(s->grace_ms, 1, a_century_ms);
    s->timeout_ms = clamp(s->timeout_ms, 0, a_century_ms);
    s->idle_timeout_ms = clamp(s->idle_timeout_ms, 0, a_century_ms);
    s->unread_timeout_ms = clamp(s->unread_timeout_ms, 0, a_century_ms);
    if (s->meta.terminal && s->meta.initial.cols == 0)
        s->meta.initial.cols = 80;
    if (s->meta.terminal && s->meta.initial.rows == 0)
        s->meta.initial.rows = 24;
    if (s->meta.overflow == 0)
        s->meta.overflow = 1;
    if (s->meta.cwd == NULL)
        s->meta.cwd = xstrdup("");
    if (s->meta.user == NULL)
        s->meta.user = xstrdup("");
}

bool spec_parse_command(const uint8_t *data, size_t len, struct command_spec *ret, bool *ret_whole,
                        struct status *st)
{
    AUTO(command_spec_deinit) struct command_spec s = {.grace_ms = 0};
    struct pb_field message, f;

    *ret_whole = find_message(data, len, 1, &message);
    if (!*ret_whole)
        return fault(st, RECORDER_BAD_SPEC, "the specification did not arrive whole");

    struct pb_reader r = pb_reader(message.data, message.len);

    while (pb_next(&r, &f)) {
        bool ok = f.wire == PB_BYTES    ? take_bytes_field(&f, &s)
                  : f.wire == PB_VARINT ? take_number_field(&f, &s)
                                        : f.number > LAST_FIELD;

        if (!ok)
            return fault(st, RECORDER_BAD_SPEC, "field %u of the specification is wrong", f.number);
    }
    if (r.malformed || s.meta.command_id[0] == '\0' ||
        (strings_count(s.meta.args) == 0) != (s.watch_path != NULL))
        return fault(st, RECORDER_BAD_SPEC,
                     "the specification names no command, or nothing to run");
    apply_defaults(&s);
    *ret = s;
    s = (struct command_spec){0};
    return true;
}

/* Reads the file until it is whole. The content is in *ret; the file is gone. */
static bool read_whole(const char *path, uint32_t wanted, struct buf *ret, struct status *st)
{
    int64_t deadline = clock_monotonic_ns() + SPEC_WAIT_MS * NS_PER_MS;
    struct pb_field message;
    bool ok;

    do {
        buf_clear(ret);
        ok = file_read(AT_FDCWD, path, ret);
        if (ok && find_message(buf_data(ret), buf_len(ret), wanted, &message)) {
            unlink(path);
            return true;
        }
        if (!ok && errno != ENOENT)
            break;
        usleep(POLL_US);
    } while (clock_monotonic_ns() < deadline);

    int error = errno;

    unlink(path);
    if (ok)
        return fault(st, RECORDER_BAD_SPEC, "the specification did not arrive whole within %d s",
                     SPEC_WAIT_MS / 1000);
    return fault(st, RECORDER_BAD_SPEC, "the specification cannot be read: %s", strerror(error));
}

bool spec_read_command(const char *path, struct command_spec *ret, struct status *st)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(SPEC_FILE_MAX);
    bool whole;

    return read_whole(path, 1, &b, st) &&
           spec_parse_command(buf_data(&b), buf_len(&b), ret, &whole, st);
}

bool spec_read_input(const char *path, struct input_spec *ret, struct status *st)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(SPEC_FILE_MAX);
    struct pb_field message, f;

    *ret = (struct input_spec){.data = BUF_INIT(INPUT_MAX)};
    if (!read_whole(path, 2, &b, st))
        return false;
    find_message(buf_data(&b), buf_len(&b), 2, &message);

    struct pb_reader r = pb_reader(message.data, message.len);

    while (pb_next(&r, &f)) {
        if (f.number == 1 && !buf_append(&ret->data, f.data, f.len))
            return fault(st, RECORDER_BAD_SPEC, "more than %d bytes of input", INPUT_MAX);
        if (f.number == 2)
            ret->eof = f.value != 0;
        if (f.number == 3)
            ret->positioned = f.value != 0;
        if (f.number == 4)
            ret->offset = f.value;
    }
    if (message.data == NULL || r.malformed)
        return fault(st, RECORDER_BAD_SPEC, "the specification holds no input");
    return true;
}

bool spec_read_watch(const char *path, struct watch_spec *ret, struct status *st)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(SPEC_FILE_MAX);
    struct pb_field message, f;

    *ret = (struct watch_spec){.cursor = BUF_INIT(CURSOR_MAX)};
    if (!read_whole(path, 3, &b, st))
        return false;
    find_message(buf_data(&b), buf_len(&b), 3, &message);

    struct pb_reader r = pb_reader(message.data, message.len);

    while (pb_next(&r, &f))
        if (f.number == 1 && !buf_append(&ret->cursor, f.data, f.len))
            return fault(st, RECORDER_BAD_SPEC, "the cursor is larger than %d bytes", CURSOR_MAX);
    if (message.data == NULL || r.malformed)
        return fault(st, RECORDER_BAD_SPEC, "the specification holds no cursor");
    return true;
}

bool spec_read_file(const char *path, struct buf *ret, struct status *st)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(SPEC_FILE_MAX);
    struct pb_field message;

    if (!read_whole(path, 4, &b, st))
        return false;
    find_message(buf_data(&b), buf_len(&b), 4, &message);
    if (message.data == NULL)
        return fault(st, RECORDER_BAD_SPEC, "the specification holds no file operation");
    return buf_append(ret, message.data, message.len);
}
