/*
 * See file.h: reads what is asked, has it done, and prints the answer, a response message of the
 * API. What is printed when it fails is for those who know what the exit code means.
 */
#include "runtime/recorder/file.h"

#include "common/base/base64.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "runtime/recorder/assemble.h"
#include "runtime/recorder/change.h"
#include "runtime/recorder/contents.h"
#include "runtime/recorder/download.h"
#include "runtime/recorder/entry.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/listing.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/pack.h"
#include "runtime/recorder/replace.h"
#include "runtime/recorder/spec.h"
#include "runtime/recorder/unpack.h"

#include <fcntl.h>
#include <string.h>

enum { ANSWER_MAX = 4 * 1024 * 1024 }; /* what sandboxd takes */

enum op {
    OP_STAT = 1,
    OP_LIST = 2,
    OP_MAKE = 3,
    OP_MOVE = 4,
    OP_REMOVE = 5,
    OP_READ = 6,
    OP_CHECK = 7,
    OP_COMMIT = 8,
    OP_DISCARD = 9,
    OP_UPLOADED = 10,
    OP_ASSEMBLE = 11,
    OP_DOWNLOAD = 12,
    OP_UNPACK = 13,
    OP_PACK = 14,
};

struct file_spec {
    unsigned op;
    char *user;   /* owned, like the next five */
    char **paths; /* NULL-terminated; NULL: none */
    char **excludes;
    char *after, *place;
    uint32_t mode;
    bool parents, tolerant, recursive, follow_links, with_sha256;
    unsigned depth;
    uint64_t limit, offset, max_bytes, max_entries;
    unsigned existing;
    bool skip_unsafe;
    struct content *contents; /* owned */
    size_t n_contents;
};

static void file_spec_deinit(struct file_spec *s)
{
    free(s->user);
    free(s->after);
    free(s->place);
    strings_free(s->paths);
    strings_free(s->excludes);
    for (size_t i = 0; i < s->n_contents; i++)
        content_deinit(&s->contents[i]);
    free(s->contents);
}

/* --- what is asked --- */

static bool take_content(struct file_spec *s, const struct pb_field *f)
{
    size_t n = s->n_contents;

    if ((n & (n - 1)) == 0) /* grown at powers of two */
        s->contents = xrealloc(s->contents, (2 * n + 1) * sizeof(*s->contents));
    s->n_contents++;
    return content_parse(f->data, f->len, &s->contents[n]);
}

static bool take_text(struct file_spec *s, const struct pb_field *f)
{
    if (f->number == 13)
        return take_content(s, f);
    if (memchr(f->data, '\0', f->len) != NULL)
        return false;
    if (f->number == 2) {
        free(s->user);
        s->user = string_of(f->data, f->len);
    } else if (f->number == 3) {
        strings_add(&s->paths, (const char *)f->data, f->len);
    } else if (f->number == 15) {
        strings_add(&s->excludes, (const char *)f->data, f->len);
    } else if (f->number == 11 || f->number == 20) {
        char **to = f->number == 11 ? &s->after : &s->place;

        free(*to);
        *to = string_of(f->data, f->len);
    }
    return true;
}

static void take_number(struct file_spec *s, const struct pb_field *f)
{
    bool *const flags[] = {&s->parents, &s->tolerant, &s->recursive, &s->follow_links,
                           &s->with_sha256};

    if (f->number == 1)
        s->op = (unsigned)f->value;
    else if (f->number == 4)
        s->mode = (uint32_t)f->value & 07777;
    else if (f->number >= 5 && f->number <= 9)
        *flags[f->number - 5] = f->value != 0;
    else if (f->number == 10)
        s->depth = (unsigned)f->value;
    else if (f->number == 12)
        s->limit = f->value;
    else if (f->number == 14)
        s->offset = f->value;
    else if (f->number == 16)
        s->existing = (unsigned)f->value;
    else if (f->number == 17)
        s->skip_unsafe = f->value != 0;
    else if (f->number == 18)
        s->max_bytes = f->value;
    else if (f->number == 19)
        s->max_entries = f->value;
}

static bool parse(const struct buf *message, struct file_spec *ret, struct status *st)
{
    struct pb_reader r = pb_reader(buf_data(message), buf_len(message));
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (f.wire == PB_BYTES && !take_text(ret, &f))
            return fault(st, RECORDER_BAD_SPEC, "field %u of the specification is wrong", f.number);
        if (f.wire == PB_VARINT)
            take_number(ret, &f);
    }
    if (ret->user == NULL)
        ret->user = xstrdup("");
    if (ret->after == NULL)
        ret->after = xstrdup("");
    if (ret->place == NULL)
        ret->place = xstrdup("");
    if (r.malformed ||
        (ret->n_contents == 0 && strings_count(ret->paths) < (ret->op == OP_MOVE ? 2 : 1)))
        return fault(st, RECORDER_BAD_SPEC, "the specification names no file");
    return true;
}

static bool read_request(const struct request *r, struct buf *message, struct status *st)
{
    if (r->spec != NULL)
        return spec_read_file(r->spec, message, st);
    if (r->request == NULL)
        return fault(st, RECORDER_USAGE, "file needs --request=BASE64 or --spec=FILE");

    size_t len = strlen(r->request), n;
    AUTO_FREE uint8_t *bytes = xmalloc(base64_decoded_max(len));

    if (!base64_decode(bytes, r->request, len, &n) || !buf_append(message, bytes, n))
        return fault(st, RECORDER_USAGE, "--request is no base64");
    return true;
}

/* --- doing it --- */

static bool answer_entry(const char *path, const struct entry_options *options, struct buf *out,
                         struct status *st)
{
    return entry_add(out, 1, AT_FDCWD, path, path, options) || place_fault(st, path);
}

static bool do_make(const struct place *p, const struct file_spec *s, const char *path,
                    struct buf *out, struct status *st)
{
    mode_t mode = s->mode != 0 ? s->mode : 0755;
    bool created;

    if (!change_make(p, path, mode, s->parents, s->tolerant, &created, st) ||
        !answer_entry(path, &(struct entry_options){.follow_links = true}, out, st))
        return false;
    return pb_add_uint(out, 2, created);
}

static bool do_move(const struct place *p, const struct file_spec *s, const char *path,
                    struct buf *out, struct status *st)
{
    AUTO_FREE char *to = NULL;

    return place_resolve(p, s->paths[1], &to, st) &&
           change_move(p, path, to, s->tolerant, s->parents, st) &&
           answer_entry(to, &(struct entry_options){0}, out, st);
}

static bool do_remove(const struct file_spec *s, const char *path, struct buf *out,
                      struct status *st)
{
    uint64_t n;

    return change_remove(path, s->recursive, s->tolerant, &n, st) && pb_add_uint(out, 1, n);
}

static bool do_download(const struct file_spec *s, const char *path, struct status *st)
{
    const struct download d = {
        .path = path,
        .version = s->after,
        .offset = s->offset,
        .length = s->limit,
        .with_sha256 = s->with_sha256,
    };

    return download(&d, st);
}

static bool do_pack(const struct file_spec *s, const char *path, struct status *st)
{
    const struct pack p = {
        .path = path,
        .excludes = s->excludes,
        .place = s->place,
        .version = s->after,
        .offset = s->offset,
        .only_end = s->tolerant,
    };

    return pack(&p, st);
}

static bool do_unpack(const struct state *state, const struct place *p, const struct file_spec *s,
                      struct buf *out, struct status *st)
{
    const struct unpack u = {
        .content = s->contents,
        .excludes = s->excludes,
        .existing =
            s->existing >= UNPACK_KEEP && s->existing <= UNPACK_FAIL ? s->existing : UNPACK_REPLACE,
        .skip_unsafe = s->skip_unsafe,
        .max_bytes = s->max_bytes,
        .max_entries = s->max_entries,
    };

    return unpack(state, p, &u, out, st);
}

static bool is_about_contents(const struct file_spec *s)
{
    return (s->op >= OP_CHECK && s->op <= OP_ASSEMBLE) || s->op == OP_UNPACK;
}

static bool run_contents(const struct state *state, const struct place *p,
                         const struct file_spec *s, struct buf *out, struct status *st)
{
    if (s->op == OP_CHECK)
        return replace_check(state, p, s->contents, s->n_contents, out, st);
    if (s->op == OP_COMMIT)
        return replace_commit(state, p, s->contents, s->n_contents, out, st);
    if (s->op == OP_DISCARD)
        return replace_discard(p, s->contents, s->n_contents, st);
    if (s->n_contents != 1)
        return fault(st, RECORDER_BAD_SPEC, "an upload is one file");
    if (s->op == OP_UPLOADED)
        return assemble_look(p, s->contents, out, st);
    if (s->op == OP_UNPACK)
        return do_unpack(state, p, s, out, st);
    return assemble(state, p, s->contents, out, st);
}

static bool run(const struct state *state, const struct place *p, const struct file_spec *s,
                struct buf *out, struct status *st)
{
    const struct entry_options options = {.follow_links = s->follow_links,
                                          .with_sha256 = s->with_sha256};
    size_t limit = s->limit < ANSWER_MAX ? (size_t)s->limit : ANSWER_MAX;
    AUTO_FREE char *path = NULL;

    if (is_about_contents(s))
        return run_contents(state, p, s, out, st);
    if (s->n_contents > 0)
        return fault(st, RECORDER_BAD_SPEC, "the specification names no file");
    if (s->op == OP_READ)
        return contents_read(p, s->paths, limit, out, st);
    if (!place_resolve(p, s->paths[0], &path, st))
        return false;
    switch (s->op) {
    case OP_STAT:
        return answer_entry(path, &options, out, st);
    case OP_LIST:
        return listing_page(path, s->depth, s->after, limit, out, st);
    case OP_MAKE:
        return do_make(p, s, path, out, st);
    case OP_MOVE:
        return do_move(p, s, path, out, st);
    case OP_REMOVE:
        return do_remove(s, path, out, st);
    case OP_DOWNLOAD:
        return do_download(s, path, st);
    case OP_PACK:
        return do_pack(s, path, st);
    default:
        return fault(st, RECORDER_USAGE, "this recorder knows no file operation %u", s->op);
    }
}

bool file_verb(const struct state *s, const struct request *r, struct status *st)
{
    AUTO(buf_deinit) struct buf message = BUF_INIT(SPEC_FILE_MAX);
    AUTO(buf_deinit) struct buf out = BUF_INIT(ANSWER_MAX);
    AUTO(file_spec_deinit) struct file_spec spec = {0};
    AUTO(place_deinit) struct place place = {0};

    bool ok = read_request(r, &message, st) && parse(&message, &spec, st) &&
              place_init(&place, s, spec.user, st) && run(s, &place, &spec, &out, st);

    if (!fd_write_all(STDOUT_FILENO, buf_data(&out), buf_len(&out)) && ok)
        ok = fault_errno(st, "the answer cannot be written");
    return ok;
}
