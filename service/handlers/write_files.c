/*
 * WriteFiles: files that fit one message. What goes out is copied from the request, because the
 * upload outlives it. On the call's worker.
 *
 * The plain way is one upload to the paths themselves. With only_changed the recorder compares
 * digests first, and only what differs is sent. With preconditions files are uploaded beside their
 * paths, and the recorder gives them their names in one step, or throws them away.
 */
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    FILES_MAX = 1000,
    MODE_MAX = 07777,
    SHA256_LEN = 32,
    DISCARD_MS = 5000,
};

struct item {
    char *path;    /* owned, as asked */
    uint8_t *data; /* owned */
    size_t len;
    uint32_t mode;
    bool create_only, conditional; /* if_sha256 is set */
    uint8_t sha256[SHA256_LEN], if_sha256[SHA256_LEN];

    char *whole;  /* owned; the absolute path, when it is known */
    char *staged; /* owned; where it is uploaded to instead of path; NULL: nowhere */
    bool unchanged;
};

enum write_step { WRITE_CHECK, WRITE_SEND, WRITE_COMMIT, WRITE_DISCARD };

struct write {
    struct operation o;
    struct e2b_output output;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    char user[VALIDATE_USER_MAX + 1];
    struct item *items; /* owned */
    size_t n;
    bool only_changed, has_conditions;
    enum write_step step;
    struct status failure; /* what the call ends with after WRITE_DISCARD */

    /* WRITE_SEND: */
    struct e2b_file *files; /* owned; borrows from items */
    char **paths;           /* owned, each too */
    size_t n_files;
};

static void write_release(struct operation *o)
{
    struct write *k = container_of(o, struct write, o);

    for (size_t i = 0; i < k->n; i++) {
        free(k->items[i].path);
        free(k->items[i].data);
        free(k->items[i].whole);
        free(k->items[i].staged);
    }
    free(k->items);
    free(k->files);
    free_strings(k->paths, k->n_files);
    free(k->output.out);
    free(k);
}

static void reply(struct write *k)
{
    Sandbox__V1__WriteFilesResponse m = SANDBOX__V1__WRITE_FILES_RESPONSE__INIT;
    AUTO_FREE Sandbox__V1__WrittenFile *items = xcalloc(k->n, sizeof(items[0]));
    AUTO_FREE Sandbox__V1__WrittenFile **pointers = xcalloc(k->n, sizeof(pointers[0]));

    for (size_t i = 0; i < k->n; i++) {
        sandbox__v1__written_file__init(&items[i]);
        items[i].path = k->items[i].whole;
        items[i].size = k->items[i].len;
        items[i].unchanged = k->items[i].unchanged;
        items[i].sha256 = (ProtobufCBinaryData){SHA256_LEN, k->items[i].sha256};
        pointers[i] = &items[i];
    }
    m.files = pointers;
    m.n_files = k->n;
    call_reply(k->o.call, &m.base);
}

/* --- what the recorder does --- */

static void run_verb(struct write *k, Recorder__V1__FileSpec__Op op, bool idempotent)
{
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    AUTO_FREE Recorder__V1__FileContent *contents = xcalloc(k->n, sizeof(contents[0]));
    AUTO_FREE Recorder__V1__FileContent **pointers = xcalloc(k->n, sizeof(pointers[0]));

    for (size_t i = 0; i < k->n; i++) {
        struct item *item = &k->items[i];

        recorder__v1__file_content__init(&contents[i]);
        contents[i].path = item->path;
        contents[i].size = item->len;
        contents[i].sha256 = (ProtobufCBinaryData){SHA256_LEN, item->sha256};
        contents[i].mode = item->mode;
        contents[i].create_only = item->create_only;
        if (item->conditional)
            contents[i].if_sha256 = (ProtobufCBinaryData){SHA256_LEN, item->if_sha256};
        if (item->staged != NULL)
            contents[i].staged = item->staged;
        pointers[i] = &contents[i];
    }
    spec.op = op;
    spec.user = k->user;
    spec.contents = pointers;
    spec.n_contents = k->n;
    free(k->output.out);
    k->output = (struct e2b_output){0};
    file_verb_run(&k->o, k->sandbox_id, &spec, idempotent, &k->output);
}

static bool take_report(struct write *k, struct status *st)
{
    Recorder__V1__FileReport *m;
    bool ok;

    if (k->output.exit_code != RECORDER_OK) {
        file_result(k->output.exit_code, k->output.err, st);
        return false;
    }
    m = recorder__v1__file_report__unpack(NULL, k->output.out_len, k->output.out);
    ok = m != NULL && m->n_entries == k->n && message_is_text(&m->base);
    for (size_t i = 0; ok && i < k->n; i++) {
        free(k->items[i].whole);
        k->items[i].whole = xstrdup(m->entries[i]->path);
        k->items[i].unchanged = k->only_changed && m->entries[i]->unchanged;
        ok = m->entries[i]->path[0] == '/';
    }
    if (m != NULL)
        recorder__v1__file_report__free_unpacked(m, NULL);
    return ok || file_answer_corrupt(st);
}

/* --- what is sent --- */

/* Beside the path, so that it is on the same filesystem. */
static char *staged_path(const char *path, size_t i)
{
    const char *slash = strrchr(path, '/');
    int dir = slash != NULL ? (int)(slash + 1 - path) : 0;
    uint64_t random;

    RAND_bytes((unsigned char *)&random, sizeof(random));
    return xasprintf("%.*s.sandboxd-%016llx-%zu", dir, path, (unsigned long long)random, i);
}

static void choose_files(struct write *k)
{
    k->files = xcalloc(k->n, sizeof(k->files[0]));
    k->paths = xcalloc(k->n, sizeof(k->paths[0]));
    for (size_t i = 0; i < k->n; i++) {
        struct item *item = &k->items[i];

        if (item->unchanged)
            continue;
        if (k->has_conditions)
            item->staged = staged_path(item->path, i);
        k->files[k->n_files++] = (struct e2b_file){
            .path = item->staged != NULL ? item->staged : item->path,
            .data = item->data,
            .len = item->len,
            .mode = item->staged != NULL ? 0 : item->mode, /* the commit sets it */
        };
    }
}

static void take_paths(struct write *k)
{
    for (size_t i = 0, n = 0; i < k->n; i++) {
        struct item *item = &k->items[i];
        char **to = item->staged != NULL ? &item->staged : &item->whole;

        if (item->unchanged)
            continue;
        free(*to);
        *to = TAKE(k->paths[n]);
        n++;
    }
}

/* --- the steps --- */

/* Each leads to step_done(), but for what needs no answer of E2B. */
static void begin_verb(struct write *k, enum write_step step)
{
    static const Recorder__V1__FileSpec__Op ops[] = {
        [WRITE_CHECK] = RECORDER__V1__FILE_SPEC__OP__OP_CHECK,
        [WRITE_COMMIT] = RECORDER__V1__FILE_SPEC__OP__OP_COMMIT,
        [WRITE_DISCARD] = RECORDER__V1__FILE_SPEC__OP__OP_DISCARD,
    };

    operation_again(&k->o);
    k->step = step;
    run_verb(k, ops[step], step != WRITE_COMMIT); /* a second commit would find nothing staged */
}

static void begin_send(struct write *k)
{
    k->step = WRITE_SEND;
    choose_files(k);
    if (k->n_files == 0) {
        reply(k);
        return;
    }
    operation_again(&k->o);
    e2b_write_files(operation_e2b(&k->o), &k->o.op, k->sandbox_id,
                    k->user[0] != '\0' ? k->user : NULL, k->files, k->n_files, k->paths);
}

/* What lies beside the paths is of no use; the client hears why it came to nothing. */
static void begin_discard(struct write *k, const struct status *why)
{
    k->failure = *why;
    k->o.op.deadline_ns =
        clock_monotonic_ns() + DISCARD_MS * NS_PER_MS; /* the client may be gone */
    begin_verb(k, WRITE_DISCARD);
}

static void end_send(struct write *k, const struct status *st)
{
    if (st->code == CODE_OK) {
        take_paths(k);
        if (k->has_conditions)
            begin_verb(k, WRITE_COMMIT);
        else
            reply(k);
    } else if (k->has_conditions) {
        begin_discard(k, st);
    } else {
        call_finish(k->o.call, st);
    }
}

static void step_done(struct e2b_op *op)
{
    struct write *k = container_of(op, struct write, o.op);
    struct call *c = k->o.call;
    struct status st = op->st;

    switch (k->step) {
    case WRITE_CHECK:
        if (st.code == CODE_OK && take_report(k, &st))
            begin_send(k);
        else
            call_finish(c, &st);
        break;
    case WRITE_SEND:
        end_send(k, &st);
        break;
    case WRITE_COMMIT:
        if (st.code == CODE_OK && take_report(k, &st))
            reply(k);
        else
            call_finish(c, &st);
        break;
    case WRITE_DISCARD:
        call_finish(c, &k->failure);
        break;
    }
    call_unref(c);
}

/* --- the request --- */

static bool read_condition(const Sandbox__V1__File *from, struct item *to, struct status *st)
{
    size_t len = strlen(from->path);

    to->create_only = from->create_only;
    to->conditional = from->if_sha256.len > 0;
    if (!to->create_only && !to->conditional)
        return true;
    if (to->create_only && to->conditional)
        return status_bad_field(st, INVALID_FIELD, "files.if_sha256",
                                "%.100s has both create_only and if_sha256", from->path);
    if (to->conditional && from->if_sha256.len != SHA256_LEN)
        return status_bad_field(st, INVALID_FIELD, "files.if_sha256",
                                "files.if_sha256 of %.100s has %zu bytes: SHA-256 has %d",
                                from->path, from->if_sha256.len, SHA256_LEN);
    if (from->path[len - 1] == '/')
        return status_bad_field(st, INVALID_FIELD, "files.path", "%.200s names a directory",
                                from->path);
    if (to->conditional)
        memcpy(to->if_sha256, from->if_sha256.data, SHA256_LEN);
    return true;
}

static bool read_item(const Sandbox__V1__File *from, struct item *to, struct status *st)
{
    const uint8_t *data = NULL;

    if (!validate_path("files.path", from->path, st) || !read_condition(from, to, st))
        return false;
    if (from->mode > MODE_MAX)
        return status_bad_field(st, INVALID_FIELD, "files.mode",
                                "files.mode of %.100s is %o (octal): at most %o", from->path,
                                from->mode, MODE_MAX);
    if (from->content_case == SANDBOX__V1__FILE__CONTENT_DATA) {
        data = from->data.data;
        to->len = from->data.len;
    } else if (from->content_case == SANDBOX__V1__FILE__CONTENT_TEXT) {
        data = (const uint8_t *)from->text;
        to->len = strlen(from->text);
    }
    to->path = xstrdup(from->path);
    to->data = xmemdup(data, to->len);
    to->mode = from->mode;
    EVP_Digest(to->data, to->len, to->sha256, NULL, EVP_sha256(), NULL);
    return true;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool check_no_path_twice(const struct write *k, struct status *st)
{
    AUTO_FREE const char **paths = xcalloc(k->n, sizeof(paths[0]));

    for (size_t i = 0; i < k->n; i++)
        paths[i] = k->items[i].path;
    qsort(paths, k->n, sizeof(paths[0]), by_path);
    for (size_t i = 1; i < k->n; i++) {
        if (strcmp(paths[i - 1], paths[i]) == 0)
            return status_bad_field(st, INVALID_FIELD, "files.path", "%.200s is there twice",
                                    paths[i]);
    }
    return true;
}

static bool read_request(struct write *k, const Sandbox__V1__WriteFilesRequest *r,
                         struct status *st)
{
    if (!validate_id("sandbox_id", r->sandbox_id, st) || !validate_user("user", r->user, st))
        return false;
    if (r->n_files == 0 || r->n_files > FILES_MAX)
        return status_bad_field(st, INVALID_FIELD, "files", "files has %zu entries: from 1 to %d",
                                r->n_files, FILES_MAX);
    snprintf(k->sandbox_id, sizeof(k->sandbox_id), "%s", r->sandbox_id);
    snprintf(k->user, sizeof(k->user), "%s", r->user);
    k->items = xcalloc(r->n_files, sizeof(k->items[0]));
    for (size_t i = 0; i < r->n_files; i++) {
        k->n++;
        if (!read_item(r->files[i], &k->items[i], st))
            return false;
        if (k->items[i].create_only || k->items[i].conditional)
            k->has_conditions = true;
    }
    return check_no_path_twice(k, st);
}

void write_files_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__WriteFilesRequest *r = (const Sandbox__V1__WriteFilesRequest *)message;
    struct write *k = xcalloc(1, sizeof(*k));
    struct status st = STATUS_INIT;

    k->o.release = write_release;
    if (!read_request(k, r, &st)) {
        write_release(&k->o);
        call_finish(c, &st);
        return;
    }
    k->only_changed = r->only_changed;
    operation_begin(&k->o, c);
    k->o.op.done = step_done;
    /* Preconditions are checked before anything is sent, too: most that fail do so here. */
    if (k->only_changed || k->has_conditions)
        begin_verb(k, WRITE_CHECK);
    else
        begin_send(k);
    call_unref(c); /* each step has taken its own */
}
