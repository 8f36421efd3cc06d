/*
 * The templates there are: "base", which is the host's own system, and those that stand in a
 * folder, one subfolder with a template.json for each. See docs/e2b-local.md for what that may say.
 */
#pragma once

#include "common/base/status.h"
#include "runtime/local/daemon/blueprint.h"

#define TEMPLATE_ID "base"

enum { TEMPLATE_NAME_MAX = 64, TEMPLATE_BUILD_SIZE = 37, TEMPLATES_MAX = 1000 };

struct template
{
    char id[TEMPLATE_NAME_MAX + 1]; /* its folder's name */
    char **aliases;                 /* owned */
    size_t n_aliases;
    struct blueprint blueprint;         /* all limits are given */
    char build_id[TEMPLATE_BUILD_SIZE]; /* a UUID, another one when it says something else */
    int64_t changed_ns;                 /* wall clock */
    int64_t spawned_ns;                 /* the last time that a sandbox came of it; 0: none did */
    int64_t n_spawned;
};

struct templates {
    struct template *items; /* owned; ordered by id */
    size_t n;
};

/*
 * Reads them. dir: NULL when there is none; now_ns: when "base" has changed, if it is in no folder;
 * limits: those that a template does not give. INVALID_ARGUMENT names file and key.
 */
bool templates_read(struct templates *ret, const char *dir, int64_t now_ns,
                    const struct zygote_limits *limits, struct status *st);
void templates_deinit(struct templates *t);
/* Replaces them by others, and keeps what was counted. */
void templates_replace(struct templates *t, struct templates *take);

enum template_result { TEMPLATE_FOUND, TEMPLATE_UNKNOWN, TEMPLATE_MALFORMED };

/* By a reference: "[namespace/]alias[:tag]". Upper and lower case are the same. */
enum template_result templates_find(const struct templates *t, const char *reference,
                                    struct template **ret);
/* By its id; NULL: there is none. */
struct template *templates_get(const struct templates *t, const char *id);
