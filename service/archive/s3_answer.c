/*
 * See s3_answer.h. Elements are found by their tags, which is enough for answers that have no
 * attributes where it matters and nest nothing of the same name: names of objects with characters
 * that would have to be escaped are none of ours.
 */
#include "service/archive/s3_answer.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

/* A part of the answer. */
struct span {
    const char *at;
    size_t len;
};

static const char *find(struct span s, const char *what)
{
    return s.len > 0 ? memmem(s.at, s.len, what, strlen(what)) : NULL;
}

/* The content of the first element of this name, and what is behind it. */
static bool next_element(struct span *s, const char *name, struct span *ret)
{
    AUTO_FREE char *open = xasprintf("<%s>", name);
    AUTO_FREE char *close = xasprintf("</%s>", name);
    const char *end = s->at + s->len, *start = find(*s, open), *stop;

    if (start == NULL)
        return false;
    start += strlen(open);
    stop = find((struct span){start, (size_t)(end - start)}, close);
    if (stop == NULL)
        return false;
    *ret = (struct span){start, (size_t)(stop - start)};
    stop += strlen(close);
    *s = (struct span){stop, (size_t)(end - stop)};
    return true;
}

static bool element(struct span s, const char *name, struct span *ret)
{
    return next_element(&s, name, ret);
}

void s3_error_code(const char *xml, size_t len, char ret[S3_CODE_MAX + 1])
{
    struct span code;

    ret[0] = '\0';
    if (!element((struct span){xml, len}, "Code", &code) || code.len > S3_CODE_MAX)
        return;
    for (size_t i = 0; i < code.len; i++)
        if (memchr("<>&", code.at[i], 3) != NULL || code.at[i] < ' ' || code.at[i] > '~')
            return;
    memcpy(ret, code.at, code.len);
    ret[code.len] = '\0';
}

/* The five entities that every XML has. */
static char *unescape(struct span s)
{
    static const struct {
        const char *entity;
        char means;
    } known[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char *text = xmalloc(s.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.len;) {
        size_t step = 1;

        text[n] = s.at[i];
        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
            size_t len = strlen(known[k].entity);

            if (s.len - i >= len && memcmp(s.at + i, known[k].entity, len) == 0) {
                text[n] = known[k].means;
                step = len;
            }
        }
        n++;
        i += step;
    }
    text[n] = '\0';
    return text;
}

static void take_key(struct span key, const char *prefix, struct store_names *to)
{
    size_t prefix_len = strlen(prefix), len;

    if (key.len <= prefix_len || memcmp(key.at, prefix, prefix_len) != 0)
        return;
    len = key.len - prefix_len;
    if (len <= STORE_NAME_MAX && memchr(key.at + prefix_len, '/', len) == NULL)
        store_names_add(to, key.at + prefix_len, len);
}

bool s3_read_list(const char *xml, size_t len, const char *prefix, struct store_names *to,
                  char **ret_token)
{
    struct span all = {xml, len}, result, key, truncated, token;

    *ret_token = NULL;
    if (find(all, "<ListBucketResult") == NULL || !element(all, "IsTruncated", &truncated))
        return false;
    result = all;
    while (to->n < STORE_LIST_MAX && next_element(&result, "Key", &key))
        take_key(key, prefix, to);
    if (truncated.len != 4 || memcmp(truncated.at, "true", 4) != 0)
        return true;
    if (!element(all, "NextContinuationToken", &token) || token.len == 0)
        return false;
    *ret_token = unescape(token);
    return true;
}
