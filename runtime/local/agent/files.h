/* GET and POST /files: contents of files, streamed, never whole in memory. */
#pragma once

#include "common/http/server.h"

struct agent;

void files_get(struct agent *agent, struct http_exchange *x);
void files_post(struct agent *agent, struct http_exchange *x);
void files_compose(struct agent *agent, struct http_exchange *x);

/* ---- shared by both; in files.c ---- */

#include "runtime/local/agent/users.h"

/* What a request is about: checked access, user, resolved path. */
struct files_request {
    struct user user;
    char *path; /* owned, absolute; NULL when the request names none */
};

/* operation is "read" or "write". False: the request is answered. */
bool files_begin(struct agent *agent, struct http_exchange *x, const char *operation,
                 struct files_request *ret);

/* One range of a file. */
enum range_result { RANGE_NONE, RANGE_ONE, RANGE_IMPOSSIBLE };

struct range {
    int64_t first;
    int64_t len;
};

/* What a Range header asks of a file of that size; more than one range is as none. Pure. */
enum range_result range_parse(const char *header, int64_t size, struct range *ret);
