/*
 * Signed URLs of files. When all sandboxes share one address, such a URL does not say which one it
 * means; its signature fits one access token only, and so it does. Pure.
 */
#pragma once

#include "common/http/parser.h"
#include "runtime/local/daemon/registry.h"

/* Whether the request is for a file by a signed URL. */
bool signature_is_there(const struct http_head *h);
/* Whether its signature was made with this token. */
bool signature_fits(const struct http_head *h, const char *token);
/* The sandbox it is for; NULL when there is none. */
struct sandbox *signature_find(const struct http_head *h, const struct registry *r);
