/* See tree.h. */
#include "runtime/recorder/tree.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"

#include <fnmatch.h>
#include <string.h>

/* One pattern against one path, not looking at what is above it. */
static bool matches(const char *pattern, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = strlen(pattern);
    AUTO_FREE char *bare = NULL;

    while (len > 1 && pattern[len - 1] == '/')
        len--;
    bare = xstrndup(pattern, len);
    if (strchr(bare, '/') != NULL)
        return fnmatch(bare + (bare[0] == '/'), path, FNM_PATHNAME) == 0;
    return fnmatch(bare, slash != NULL ? slash + 1 : path, 0) == 0;
}

bool tree_excludes(char *const *patterns, const char *path)
{
    AUTO_FREE char *part = patterns != NULL && path[0] != '\0' ? xstrdup(path) : NULL;
    char *slash = part;

    while (slash != NULL) {
        slash = strchr(slash, '/');
        if (slash != NULL)
            *slash = '\0';
        for (char *const *p = patterns; *p != NULL; p++) {
            if (matches(*p, part))
                return true;
        }
        if (slash != NULL)
            *slash++ = '/';
    }
    return false;
}

bool tree_add_counts(struct buf *to, uint32_t number, const struct tree_counts *counts)
{
    AUTO(buf_deinit) struct buf m = BUF_INIT(128);

    pb_add_uint(&m, 1, counts->files);
    pb_add_uint(&m, 2, counts->directories);
    pb_add_uint(&m, 3, counts->links);
    pb_add_uint(&m, 4, counts->bytes);
    pb_add_uint(&m, 5, counts->skipped);
    pb_add_uint(&m, 6, counts->others);
    return pb_add_element(to, number, buf_data(&m), buf_len(&m));
}
