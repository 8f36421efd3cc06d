/* See record.h. Used by the copier and the readers. */
#include "service/archive/record.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"

#include <ctype.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 20, KEY_BYTES = 16 };

/* The key itself is nobody's business. */
static void name_key(const char *api_key, char *to)
{
    uint8_t sha[RECORD_SHA_LEN];

    record_sha(api_key, strlen(api_key), sha);
    to += sprintf(to, "k.");
    for (int i = 0; i < KEY_BYTES; i++)
        to += sprintf(to, "%02x", sha[i]);
}

bool record_owner(const char *tenant, const char *api_key, char ret[RECORD_OWNER_MAX + 1])
{
    size_t n;

    if (tenant == NULL && api_key != NULL) {
        name_key(api_key, ret);
        return true;
    }
    if (tenant == NULL) {
        strcpy(ret, "-");
        return true;
    }
    n = (size_t)sprintf(ret, "t.");
    for (const char *c = tenant; *c != '\0'; c++) {
        if (n + 3 > RECORD_OWNER_MAX)
            return false;
        if (isalnum((unsigned char)*c) || *c == '_' || *c == '-')
            ret[n++] = *c;
        else
            n += (size_t)sprintf(ret + n, ".%02x", (unsigned char)*c);
    }
    ret[n] = '\0';
    return true;
}

/* --- names --- */

int record_name_compare(const struct record_name *a, const struct record_name *b)
{
    if (a->start_ns != b->start_ns)
        return a->start_ns < b->start_ns ? -1 : 1;
    return strcmp(a->command_id, b->command_id);
}

void record_hex(char *to, const uint8_t sha[RECORD_SHA_LEN])
{
    for (int i = 0; i < RECORD_SHA_LEN; i++)
        sprintf(to + 2 * i, "%02x", sha[i]);
}

char *record_prefix(const char *owner, const char *sandbox_id)
{
    return xasprintf("%s/%s/commands", owner, sandbox_id);
}

char *record_key(const char *owner, const char *sandbox_id, const struct record_name *n)
{
    char sha[2 * RECORD_SHA_LEN + 1];

    record_hex(sha, n->sha);
    return xasprintf("%s/%s/commands/%0*" PRId64 ".%s.%0*" PRIu64 ".%s", owner, sandbox_id, DIGITS,
                     n->start_ns, n->command_id, DIGITS, n->last_seq, sha);
}

char *record_piece_key(const char *owner, const char *sandbox_id, const char *command_id,
                       uint64_t first_seq, const uint8_t sha[RECORD_SHA_LEN])
{
    char hex[2 * RECORD_SHA_LEN + 1];

    record_hex(hex, sha);
    return xasprintf("%s/%s/journals/%s/%0*" PRIu64 ".%s", owner, sandbox_id, command_id, DIGITS,
                     first_seq, hex);
}

/* Reads a number of DIGITS digits and what must follow it. NULL: that is not there. */
static const char *take_number(const char *s, char behind, uint64_t *ret)
{
    char digits[DIGITS + 1];

    if (strspn(s, "0123456789") != DIGITS || s[DIGITS] != behind)
        return NULL;
    memcpy(digits, s, DIGITS);
    digits[DIGITS] = '\0';
    if (strcmp(digits, "18446744073709551615") > 0)
        return NULL;
    *ret = strtoull(digits, NULL, 10);
    return s + DIGITS + 1;
}

static const char *take_id(const char *s, char id[RECORD_ID_MAX + 1])
{
    size_t len = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

    if (len == 0 || len > RECORD_ID_MAX || s[len] != '.')
        return NULL;
    memcpy(id, s, len);
    id[len] = '\0';
    return s + len + 1;
}

static bool take_sha(const char *s, uint8_t sha[RECORD_SHA_LEN])
{
    if (strspn(s, "0123456789abcdef") != 2 * RECORD_SHA_LEN || s[2 * RECORD_SHA_LEN] != '\0')
        return false;
    for (int i = 0; i < RECORD_SHA_LEN; i++) {
        char pair[3] = {s[2 * i], s[2 * i + 1], '\0'};

        sha[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return true;
}

static bool parse_name(const char *s, struct record_name *ret)
{
    uint64_t start;

    s = take_number(s, '.', &start);
    if (s == NULL || start > INT64_MAX)
        return false;
    ret->start_ns = (int64_t)start;
    s = take_id(s, ret->command_id);
    if (s != NULL)
        s = take_number(s, '.', &ret->last_seq);
    return s != NULL && take_sha(s, ret->sha);
}

/* An id is one command of a sandbox, so it has one start; if two claim it, the later one counts. */
static bool is_newer(const struct record_name *a, const struct record_name *b)
{
    if (a->start_ns != b->start_ns)
        return a->start_ns > b->start_ns;
    if (a->last_seq != b->last_seq)
        return a->last_seq > b->last_seq;
    return memcmp(a->sha, b->sha, sizeof(a->sha)) > 0;
}

static int by_id_then_newest(const void *a, const void *b)
{
    int order = strcmp(((const struct record_name *)a)->command_id,
                       ((const struct record_name *)b)->command_id);

    return order != 0 ? order : is_newer(a, b) ? -1 : is_newer(b, a);
}

static int by_age(const void *a, const void *b)
{
    return record_name_compare(a, b);
}

size_t record_names(const struct store_names *l, struct record_name **ret)
{
    struct record_name *names = xcalloc(l->n + 1, sizeof(names[0]));
    size_t n = 0, kept = 0;

    for (size_t i = 0; i < l->n; i++)
        n += parse_name(l->at[i], &names[n]);
    qsort(names, n, sizeof(names[0]), by_id_then_newest);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || strcmp(names[kept - 1].command_id, names[i].command_id) != 0)
            names[kept++] = names[i];
    qsort(names, kept, sizeof(names[0]), by_age);
    *ret = names;
    return kept;
}

/* --- contents --- */

void record_sha(const void *data, size_t len, uint8_t ret[RECORD_SHA_LEN])
{
    SHA256(data, len, ret);
}

bool record_corrupt(const char *command_id, struct status *st)
{
    return status_set(st, CODE_DATA_LOSS, SANDBOX__V1__ERROR_REASON__ERROR_REASON_JOURNAL_CORRUPT,
                      "what is archived of command %s does not hold together: the archive was "
                      "changed",
                      command_id);
}

bool record_cut_short(const char *command_id, uint64_t last_seq, struct status *st)
{
    return status_set(st, CODE_DATA_LOSS, SANDBOX__V1__ERROR_REASON__ERROR_REASON_JOURNAL_CORRUPT,
                      "the record of command %s could only be archived up to event %" PRIu64
                      ": what followed was changed from inside the sandbox, or is too much",
                      command_id, last_seq);
}

/* The pieces follow one another without a gap. */
static bool pieces_hold(const Archive__V1__Record *r, uint64_t last_seq)
{
    uint64_t seq = 0, bytes = 0;

    if (r->n_pieces > RECORD_PIECES_MAX)
        return false;
    for (size_t i = 0; i < r->n_pieces; i++) {
        const Archive__V1__Piece *p = r->pieces[i];

        if (p->first_seq != seq + 1 || p->last_seq < p->first_seq || p->last_seq == UINT64_MAX ||
            p->bytes_before < bytes || p->size == 0 || p->size > RECORD_PIECE_MAX ||
            p->sha256.len != RECORD_SHA_LEN)
            return false;
        seq = p->last_seq;
        bytes = p->bytes_before;
    }
    return seq == last_seq && r->exited_seq <= seq;
}

int64_t record_start_ns(const Sandbox__V1__Command *c)
{
    int64_t ns;

    if (c->start_time == NULL || __builtin_mul_overflow(c->start_time->seconds, NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, c->start_time->nanos, &ns) || ns < 0)
        return 0;
    return ns;
}

bool record_read(const struct buf *object, const struct record_name *name,
                 Archive__V1__Record **ret, struct status *st)
{
    uint8_t sha[RECORD_SHA_LEN];
    Archive__V1__Record *r;

    record_sha(buf_data(object), buf_len(object), sha);
    if (memcmp(sha, name->sha, sizeof(sha)) != 0)
        return record_corrupt(name->command_id, st);
    r = archive__v1__record__unpack(NULL, buf_len(object), buf_data(object));
    if (r == NULL)
        return record_corrupt(name->command_id, st);
    if (r->command == NULL || strcmp(r->command->command_id, name->command_id) != 0 ||
        r->command->last_seq != name->last_seq || record_start_ns(r->command) != name->start_ns ||
        !pieces_hold(r, r->command->expired ? 0 : name->last_seq)) {
        archive__v1__record__free_unpacked(r, NULL);
        return record_corrupt(name->command_id, st);
    }
    *ret = r;
    return true;
}

struct segment *record_segments(const Archive__V1__Record *r)
{
    struct segment *list = xcalloc(r->n_pieces + 1, sizeof(list[0]));

    for (size_t i = 0; i < r->n_pieces; i++)
        list[i] = (struct segment){.first_seq = r->pieces[i]->first_seq,
                                   .bytes_before = r->pieces[i]->bytes_before,
                                   .size = r->pieces[i]->size};
    return list;
}
