/* Who may do what: the access token, signatures of file URLs, and the user a request is for. */
#pragma once

#include "common/http/server.h"
#include "runtime/local/agent/config.h"
#include "runtime/local/agent/users.h"

#include <stdbool.h>

/*
 * Whether the request may go on: there is no token, it carries it, or its route does without (GET
 * /health; /files checks signatures itself, and /init the token it is to replace).
 */
bool access_is_allowed(const struct config *config, const struct http_head *head);

/* For /files: the token, or a signature over path, operation ("read", "write") and user. */
bool access_file_is_allowed(const struct config *config, const struct http_head *head,
                            const char *path, const char *operation, const char *user,
                            struct status *st);

/* The user of that name as one that things can be done as. UNAUTHENTICATED if there is none. */
bool access_user(const struct config *config, const char *name, struct user *ret,
                 struct status *st);

/* The user of the Authorization header, or the default one. */
bool access_request_user(const struct config *config, const struct http_head *head,
                         struct user *ret, struct status *st);

/* Compares secrets; takes as long wherever the difference is. Pure. */
bool access_is_same(const char *wanted, const char *given);

enum { ACCESS_SIGNATURE_SIZE = 64 };

/* Signature version 1; expiration NULL for none. Pure. */
void access_sign(const char *path, const char *operation, const char *user, const char *token,
                 const char *expiration, char to[ACCESS_SIGNATURE_SIZE]);
