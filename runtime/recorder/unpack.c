/*
 * See unpack.h. The archive is read twice: first to check all of it, so that one that is refused
 * changes nothing, then to unpack it, with the same checks: the file it is in may belong to the
 * user, and so to programs in the sandbox. The directory is made as all file operations make
 * directories; what comes into it is made with the user's own rights.
 */
#include "runtime/recorder/unpack.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/pb.h"
#include "common/tar/tar.h"
#include "runtime/recorder/assemble.h"
#include "runtime/recorder/entry.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/plant.h"
#include "runtime/recorder/receipt.h"
#include "runtime/recorder/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Fields of UploadTreeResponse and SkippedEntry. */
enum { RECEIVED_SIZE = 1, COMMITTED = 2, ENTRY = 3, COUNTS = 4, SKIPPED = 5 };
enum { PATH = 1, REASON = 2 };

enum { SKIPPED_MAX = 1 << 20 };

struct unpacking {
    const struct unpack *u;
    struct status *st;
    struct tar_reader reader;
    struct plant plant;
    int archive;            /* borrowed */
    uint64_t entries, room; /* so far; bytes that the disk has */
    struct tree_counts counts;
    struct buf skipped; /* fields of the response */
};

/* --- the archive --- */

static ssize_t read_archive(void *arg, uint8_t *to, size_t len)
{
    struct unpacking *k = arg;
    ssize_t n;

    do
        n = read(k->archive, to, len);
    while (n < 0 && errno == EINTR);
    return n;
}

static bool skip_archive(void *arg, uint64_t len)
{
    struct unpacking *k = arg;

    return lseek(k->archive, (off_t)len, SEEK_CUR) >= 0;
}

static bool refuse(struct unpacking *k, const struct tar_entry *e, const char *why)
{
    AUTO_FREE char *path = utf8_repair((const uint8_t *)e->path, strlen(e->path));

    return fault(k->st, RECORDER_BAD_ARCHIVE, "%.400s: %s", path, why);
}

static bool reading_failed(struct unpacking *k, enum tar_result got)
{
    AUTO_FREE char *why = utf8_repair((const uint8_t *)k->reader.why, strlen(k->reader.why));

    if (got == TAR_FAILED)
        return fault_errno(k->st, "the archive cannot be read");
    return fault(k->st, RECORDER_BAD_ARCHIVE, "%s", why);
}

/* --- which of its entries --- */

static const char *what_is_unsafe(const struct tar_entry *e)
{
    if (e->type == TAR_OTHER)
        return "a device or a named pipe";
    if (e->type == TAR_SYMLINK && !tar_link_is_inside(e->path, e->link))
        return "a link that leads out of the directory";
    return NULL;
}

static void tell_skipped(struct unpacking *k, const struct tar_entry *e, const char *why)
{
    AUTO(buf_deinit) struct buf m = BUF_INIT(SKIPPED_MAX);
    AUTO_FREE char *path = utf8_repair((const uint8_t *)e->path, strlen(e->path));

    if (k->counts.skipped++ >= TREE_SKIPPED_TOLD)
        return;
    pb_add_bytes(&m, PATH, path, strlen(path));
    pb_add_bytes(&m, REASON, why, strlen(why));
    pb_add_element(&k->skipped, SKIPPED, buf_data(&m), buf_len(&m));
}

static bool check_amount(struct unpacking *k, const struct tar_entry *e)
{
    const struct unpack *u = k->u;

    k->entries++;
    if (k->entries > u->max_entries)
        return fault(k->st, RECORDER_TOO_LARGE, "the archive has more than %llu entries",
                     (unsigned long long)u->max_entries);
    if (__builtin_add_overflow(k->counts.bytes, e->size, &k->counts.bytes) ||
        (u->max_bytes != 0 && k->counts.bytes > u->max_bytes))
        return fault(k->st, RECORDER_TOO_LARGE, "what is in the archive has more than %llu bytes",
                     (unsigned long long)u->max_bytes);
    if (k->counts.bytes > k->room)
        return fault(k->st, RECORDER_NO_SPACE,
                     "the disk has no room for what is in the archive: %llu bytes or more",
                     (unsigned long long)k->counts.bytes);
    return true;
}

/* Whether it is to be unpacked. False with a failure in st: nothing is. */
static bool is_wanted(struct unpacking *k, const struct tar_entry *e)
{
    const char *unsafe = what_is_unsafe(e);

    if (e->path[0] == '\0' || tree_excludes(k->u->excludes, e->path))
        return false;
    if (unsafe != NULL && k->u->skip_unsafe)
        return tell_skipped(k, e, unsafe), false;
    if (unsafe != NULL)
        return refuse(k, e, unsafe);
    return check_amount(k, e);
}

static void count(struct unpacking *k, const struct tar_entry *e, bool kept)
{
    if (kept)
        k->counts.others++;
    else if (e->type == TAR_FILE)
        k->counts.files++;
    else if (e->type == TAR_DIRECTORY)
        k->counts.directories++;
    else
        k->counts.links++;
    if (kept)
        k->counts.bytes -= e->size;
}

/* --- twice over all of them --- */

static bool check_one(struct unpacking *k, const struct tar_entry *e)
{
    if (k->u->existing == UNPACK_FAIL && plant_is_taken(&k->plant, e))
        return errno = EEXIST, place_fault(k->st, e->path);
    return true;
}

static bool unpack_one(struct unpacking *k, const struct tar_entry *e)
{
    bool kept;

    if (!plant_entry(&k->plant, &k->reader, e, &kept, k->st))
        return false;
    count(k, e, kept);
    return true;
}

static bool go_over(struct unpacking *k,
                    bool (*act)(struct unpacking *k, const struct tar_entry *e))
{
    enum tar_result got;
    struct tar_entry e;

    if (lseek(k->archive, 0, SEEK_SET) != 0)
        return fault_errno(k->st, "the archive cannot be read");
    tar_reader_init(&k->reader, read_archive, skip_archive, k);
    k->entries = 0;
    k->counts = (struct tree_counts){0};
    buf_clear(&k->skipped);
    while ((got = tar_next(&k->reader, &e)) == TAR_ENTRY) {
        if (is_wanted(k, &e) ? !act(k, &e) : k->st->code != CODE_OK)
            break;
    }
    tar_reader_deinit(&k->reader);
    if (got == TAR_BAD || got == TAR_FAILED)
        return reading_failed(k, got);
    return got == TAR_END;
}

/* --- with whose rights --- */

/* Root keeps its real ids, so that it can come back. */
static bool become_user(const struct place *p, struct status *st)
{
    const struct passwd *user = getpwuid(p->uid);

    if (!p->own || p->uid == 0)
        return true;
    if (user != NULL && initgroups(user->pw_name, p->gid) == 0 && setegid(p->gid) == 0 &&
        seteuid(p->uid) == 0)
        return true;
    return fault_errno(st, "the archive cannot be unpacked as this user");
}

static bool become_root(const struct place *p, struct status *st)
{
    static const gid_t root = 0;

    if (!p->own || p->uid == 0)
        return true;
    return (seteuid(0) == 0 && setegid(0) == 0 && setgroups(1, &root) == 0) ||
           fault_errno(st, "the recorder cannot become root again");
}

static bool make_target(const struct place *p, const char *path, struct status *st)
{
    if (!place_make_parents(p, path, st))
        return false;
    return place_make_dir(p, path, 0755) || errno == EEXIST || place_fault(st, path);
}

/* --- putting it together --- */

static bool answer(struct unpacking *k, struct buf *out)
{
    const struct content *c = k->u->content;
    const struct entry_options options = {.follow_links = true};

    pb_add_uint(out, RECEIVED_SIZE, c->size);
    pb_add_uint(out, COMMITTED, true);
    if (!entry_add(out, ENTRY, AT_FDCWD, c->path, c->path, &options))
        return place_fault(k->st, c->path);
    return (tree_add_counts(out, COUNTS, &k->counts) &&
            buf_append(out, buf_data(&k->skipped), buf_len(&k->skipped))) ||
           fault(k->st, RECORDER_INTERNAL, "the answer is too long");
}

struct unpack_assembly {
    struct assembly a;
    const struct unpack *u;
};

/* What was asked for: the upload, and how it was to be unpacked. */
static void set_key(const struct unpack *u, uint8_t ret[SHA256_LEN])
{
    const struct content *c = u->content;
    const uint64_t numbers[] = {(uint64_t)u->existing, u->skip_unsafe, u->max_bytes,
                                u->max_entries};
    struct sha256 h;

    sha256_init(&h);
    sha256_update(&h, c->sha256, SHA256_LEN);
    sha256_update(&h, c->path, strlen(c->path) + 1);
    sha256_update(&h, c->staged, strlen(c->staged) + 1);
    sha256_update(&h, numbers, sizeof(numbers));
    for (char *const *e = u->excludes; e != NULL && *e != NULL; e++)
        sha256_update(&h, *e, strlen(*e) + 1);
    sha256_final(&h, ret);
}

static bool is_done(const struct assembly *a, struct buf *out, struct status *st)
{
    const struct unpack *u = ((const struct unpack_assembly *)a)->u;
    uint8_t key[SHA256_LEN];

    set_key(u, key);
    return receipt_find(a->state, key, out);
}

static bool use(const struct assembly *a, const char *base_name, int base, struct buf *out,
                struct status *st)
{
    const struct unpack *u = ((const struct unpack_assembly *)a)->u;
    AUTO_CLOSE int root = -1;
    struct unpacking k = {.u = u, .st = st, .archive = base, .skipped = BUF_INIT(SKIPPED_MAX)};
    uint8_t key[SHA256_LEN];
    struct statvfs disk;
    bool ok;

    if (!make_target(a->place, u->content->path, st))
        return false;
    root = open(u->content->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fstatvfs(root, &disk) != 0)
        return place_fault(st, u->content->path);
    k.room = (uint64_t)disk.f_bavail * disk.f_frsize;
    set_key(u, key);
    umask(0);
    plant_init(&k.plant, root, u->existing, key);
    ok = become_user(a->place, st) && go_over(&k, check_one) && go_over(&k, unpack_one) &&
         plant_finish(&k.plant, st);
    plant_deinit(&k.plant);
    ok = become_root(a->place, ok ? st : NULL) && ok && answer(&k, out);
    if (ok)
        receipt_keep(a->state, key, out);
    buf_deinit(&k.skipped);
    return ok;
}

/* An archive that was refused is not left lying about. */
static bool is_hopeless(const struct status *st)
{
    return st->reason != RECORDER_INTERNAL;
}

bool unpack(const struct state *s, const struct place *p, const struct unpack *u, struct buf *out,
            struct status *st)
{
    const struct unpack_assembly a = {
        .a = {.state = s,
              .place = p,
              .content = u->content,
              .is_done = is_done,
              .use = use,
              .is_hopeless = is_hopeless},
        .u = u,
    };

    return assembly_run(&a.a, out, st);
}
