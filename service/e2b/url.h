/* E2B's addresses and the headers that go with them. */
#pragma once

#include "service/e2b/private.h"
#include "service/e2b/transfer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All results are owned by the caller. */

/* RFC 3986: everything but letters, digits and -._~ becomes %XX. */
char *url_escape(const char *s);

/* "/sandboxes/<id>" and what follows. */
char *url_sandbox_path(const char *sandbox_id, const char *suffix);

/* Where a sandbox's envd answers; domain NULL: the configured one. No slash at the end. */
char *url_sandbox_base(const struct e2b *e, const char *sandbox_id, const char *domain);

/* The host under which a port of a sandbox answers, and its URL. */
void url_port(const struct e2b *e, const char *sandbox_id, const char *domain, unsigned port,
              char **ret_url, char **ret_host);

/* The value of the list's `metadata` parameter, ready for the query. E2B decodes it three times. */
char *url_metadata(const struct e2b_pair *pairs, size_t n);

/* With the caller's key, where it has one. */
void url_api_headers(struct transfer *t, const struct e2b *e, const struct scope *caller);
/* token may be NULL. */
void url_sandbox_headers(struct transfer *t, const char *sandbox_id, const char *token);

/* What makes a URL of envd's /files valid without a token (E2B's scheme, version 1). */
char *url_file_signature(const char *path, bool write, const char *user, const char *token,
                         int64_t expire_s);
