/* See files.h: what reading and writing have in common. */
#include "runtime/local/agent/files.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/url.h"
#include "runtime/local/agent/access.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/path.h"
#include "runtime/local/agent/reply.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { EXPIRATION_SIZE = 24 };

static bool is_integer(const char *s)
{
    s += *s == '-' || *s == '+';
    return *s && !s[strspn(s, "0123456789")];
}

bool files_begin(struct agent *agent, struct http_exchange *x, const char *operation,
                 struct files_request *ret)
{
    const struct http_head *head = http_request(x);
    AUTO(buf_deinit) struct buf path = BUF_INIT(PATH_MAX);
    AUTO(buf_deinit) struct buf name = BUF_INIT(USER_NAME_MAX);
    enum url_query has_path = url_query_get(head->query, "path", &path);
    enum url_query has_name = url_query_get(head->query, "username", &name);
    AUTO(buf_deinit) struct buf expiration = BUF_INIT(EXPIRATION_SIZE);
    struct status st = STATUS_INIT;

    ret->path = NULL;
    if (url_query_get(head->query, "signature_expiration", &expiration) != URL_QUERY_ABSENT &&
        !is_integer(buf_str(&expiration))) {
        reply_error(x, 400, "the signature_expiration of the query is no number");
        return false;
    }
    if (has_path == URL_QUERY_BAD || has_name == URL_QUERY_BAD) {
        reply_error(x, 400, "the path or username of the query is malformed, or has a NUL in it");
        return false;
    }
    if (!access_file_is_allowed(&agent->config, head, buf_str(&path), operation, buf_str(&name),
                                &st) ||
        !access_user(&agent->config, buf_len(&name) ? buf_str(&name) : agent->config.user,
                     &ret->user, &st)) {
        reply_error(x, 401, "%s", st.message);
        return false;
    }
    if (has_path == URL_QUERY_ABSENT)
        return true;
    ret->path = path_resolve(buf_str(&path), &ret->user, agent->config.workdir, &st);
    if (!ret->path)
        reply_error(x, 400, "%s", st.message);
    return ret->path != NULL;
}

static bool take_number(const char **s, int64_t *ret)
{
    char *end;

    if (!isdigit((unsigned char)**s))
        return false;
    errno = 0;
    *ret = strtoll(*s, &end, 10);
    if (errno)
        *ret = INT64_MAX;
    *s = end;
    return true;
}

enum range_result range_parse(const char *header, int64_t size, struct range *ret)
{
    int64_t first = 0, last = INT64_MAX;
    bool has_first, has_last;

    if (!header || strncmp(header, "bytes=", 6) != 0)
        return RANGE_NONE;
    header += 6;
    has_first = take_number(&header, &first);
    if (*header++ != '-')
        return RANGE_NONE;
    has_last = take_number(&header, &last);
    if (*header || (!has_first && !has_last) || (has_first && has_last && last < first))
        return RANGE_NONE;
    if (!has_first) { /* the last so many */
        if (last == 0 || size == 0)
            return RANGE_IMPOSSIBLE;
        first = last < size ? size - last : 0;
        last = size - 1;
    }
    if (first >= size)
        return RANGE_IMPOSSIBLE;
    if (last >= size)
        last = size - 1;
    *ret = (struct range){first, last - first + 1};
    return RANGE_ONE;
}
