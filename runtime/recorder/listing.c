/*
 * See listing.h. A token is the place of the last entry shown, below the directory: the order is
 * that of the names alone, so the next page starts behind that place whatever changed meanwhile,
 * and no page needs to remember another.
 */
#include "runtime/recorder/listing.h"

#include "common/base/base64.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "runtime/recorder/entry.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/names.h"
#include "runtime/recorder/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Fields of ListDirectoryResponse. */
enum { ENTRIES = 1, NEXT_PAGE_TOKEN = 2 };

enum {
    PLACE_MAX = 64 * 1024, /* bytes of a path below the directory */
    TOKEN_ROOM = 128 * 1024,
};

struct walk {
    const char *root;
    size_t n, limit;
    struct buf *out;
    struct buf at; /* the place of what is looked at, below root */
    char *last;    /* owned; the place of the last entry shown */
    bool full;     /* there is more than the page holds */
    bool too_many;
};

/* --- the walk --- */

static void walk_dir(struct walk *w, int dir, unsigned depth, const char *after);

static void show(struct walk *w, int dir, const char *name)
{
    AUTO_FREE char *path =
        xasprintf("%s/%s", strcmp(w->root, "/") == 0 ? "" : w->root, buf_str(&w->at));

    if (w->n == w->limit) {
        w->full = true;
        return;
    }
    if (!entry_add(w->out, ENTRIES, dir, name, path, &(struct entry_options){0})) {
        w->full = errno == EMSGSIZE; /* else it is gone meanwhile */
        return;
    }
    w->n++;
    free(w->last);
    w->last = xstrdup(buf_str(&w->at));
}

static void walk_below(struct walk *w, int dir, const char *name, unsigned depth, const char *after)
{
    AUTO_CLOSE int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (below >= 0) /* else it is none, or gone */
        walk_dir(w, below, depth, after);
}

/* after: what is shown already, up to this place below dir; NULL: nothing. */
static void walk_dir(struct walk *w, int dir, unsigned depth, const char *after)
{
    AUTO(names_deinit) struct names names = {0};
    size_t len = buf_len(&w->at), first_len = after != NULL ? strcspn(after, "/") : 0;
    AUTO_FREE char *first = after != NULL ? string_of(after, first_len) : NULL;

    if (!names_read(dir, &names))
        w->too_many = w->too_many || names.n >= NAMES_MAX;
    for (size_t i = 0; i < names.n && !w->full; i++) {
        const char *name = names.at[i];
        int order = first != NULL ? strcmp(name, first) : 1;
        const char *rest = NULL;

        w->at.len = len;
        if (order < 0 || !buf_printf(&w->at, "%s%s", len > 0 ? "/" : "", name))
            continue; /* or so deep down that no path reaches it */
        if (order > 0)
            show(w, dir, name);
        else if (after[first_len] == '/')
            rest = after + first_len + 1;
        if (depth > 1 && !w->full)
            walk_below(w, dir, name, depth - 1, rest);
    }
    w->at.len = len;
}

/* --- pages --- */

static bool read_token(const char *token, char **ret, struct status *st)
{
    size_t len = strlen(token), n = 0;
    AUTO_FREE uint8_t *bytes = xmalloc(base64_decoded_max(len) + 1);

    *ret = NULL;
    if (len == 0)
        return true;
    if (len > TOKEN_ROOM || !base64_decode(bytes, token, len, &n) || n == 0 ||
        memchr(bytes, '\0', n) != NULL || bytes[0] == '/')
        return fault(st, RECORDER_BAD_TOKEN, "page_token is not one that this method returned");
    *ret = string_of(bytes, n);
    return true;
}

static bool add_token(struct walk *w)
{
    size_t len = strlen(w->last);
    AUTO_FREE char *token = xmalloc(base64_encoded_len(len));

    return pb_add_bytes(w->out, NEXT_PAGE_TOKEN, token, base64_encode(token, w->last, len));
}

bool listing_page(const char *path, unsigned depth, const char *after, size_t limit,
                  struct buf *out, struct status *st)
{
    AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_FREE char *from = NULL;
    AUTO(buf_deinit) struct buf entries = BUF_INIT(out->cap - TOKEN_ROOM);
    struct walk w = {.root = path, .limit = limit, .out = &entries, .at = BUF_INIT(PLACE_MAX)};
    bool ok = true;

    if (dir < 0)
        return place_fault(st, path);
    if (!read_token(after, &from, st))
        return false;
    walk_dir(&w, dir, depth, from);
    if (w.too_many)
        ok = fault(st, RECORDER_TOO_LARGE, "a directory holds %d entries or more", NAMES_MAX);
    if (ok && w.full && w.last == NULL)
        ok = fault(st, RECORDER_INTERNAL, "an entry does not fit a page");
    if (ok) {
        buf_append(out, buf_data(&entries), buf_len(&entries));
        w.out = out;
        if (w.full)
            ok = add_token(&w) || fault(st, RECORDER_INTERNAL, "the token does not fit");
    }
    buf_deinit(&w.at);
    free(w.last);
    return ok;
}
