/* See scope.h. */
#include "service/e2b/scope.h"

#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/sandbox.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

/* A key is named by its hash, so that no copy of it lies in a cache. */
static char *make_name(const struct e2b_caller *c)
{
    uint8_t hash[SHA256_DIGEST_LENGTH];
    char hex[2 * SHA256_DIGEST_LENGTH + 1] = "";

    if (c->api_key != NULL) {
        SHA256((const uint8_t *)c->api_key, strlen(c->api_key), hash);
        for (size_t i = 0; i < sizeof hash; i++)
            snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    }
    return xasprintf("%s/%s", hex, c->tenant != NULL ? c->tenant : "");
}

static char *copy_or_null(const char *s)
{
    return s != NULL ? xstrdup(s) : NULL;
}

struct scope *scope_new(const struct e2b_caller *caller)
{
    struct scope *s = xcalloc(1, sizeof *s);

    atomic_init(&s->refs, 1);
    s->tenant = copy_or_null(caller->tenant);
    s->api_key = copy_or_null(caller->api_key);
    s->name = make_name(caller);
    return s;
}

struct scope *scope_ref(struct scope *s)
{
    if (s != NULL)
        atomic_fetch_add(&s->refs, 1);
    return s;
}

void scope_unref(struct scope *s)
{
    if (s == NULL || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    if (s->api_key != NULL)
        explicit_bzero(s->api_key, strlen(s->api_key));
    free(s->api_key);
    free(s->tenant);
    free(s->name);
    free(s);
}

bool scope_owns(const struct scope *s, const struct e2b_sandbox *sandbox)
{
    const char *label = sandbox_label(sandbox, SCOPE_TENANT);

    return s->tenant == NULL || (label != NULL && strcmp(label, s->tenant) == 0);
}

void scope_filter(const struct scope *s, struct e2b_list *l)
{
    size_t kept = 0;

    for (size_t i = 0; i < l->n_items; i++) {
        if (scope_owns(s, &l->items[i]))
            l->items[kept++] = l->items[i];
        else
            e2b_sandbox_deinit(&l->items[i]);
    }
    l->n_items = kept;
}

/* --- snapshots --- */

static const char mark[] = "t_", end_mark[] = "__";

static const char *without_namespace(const char *id)
{
    const char *slash = strrchr(id, '/');

    return slash != NULL ? slash + 1 : id;
}

static bool is_any_tenants(const char *id)
{
    const char *name = without_namespace(id);

    return strncmp(name, mark, sizeof mark - 1) == 0 && strstr(name, end_mark) != NULL;
}

static bool is_tenants(const char *tenant, const char *id)
{
    const char *name = without_namespace(id);
    size_t len = strlen(tenant);

    return strncmp(name, mark, sizeof mark - 1) == 0 &&
           strncmp(name + sizeof mark - 1, tenant, len) == 0 &&
           strncmp(name + sizeof mark - 1 + len, end_mark, sizeof end_mark - 1) == 0;
}

char *scope_snapshot_name(const struct scope *s, const char *name)
{
    return xasprintf("%s%s%s%s", mark, s->tenant, end_mark, name);
}

bool scope_may_use_snapshot(const struct scope *s, const char *id)
{
    return is_tenants(s->tenant, id);
}

bool scope_may_use_template(const struct e2b_caller *caller, const char *template)
{
    if (caller->tenant != NULL && is_any_tenants(template))
        return is_tenants(caller->tenant, template);
    for (size_t i = 0; i < caller->n_templates; i++) {
        if (strcmp(caller->templates[i], template) == 0)
            return true;
    }
    return caller->n_templates == 0;
}

/* --- what callers hear --- */

void scope_not_found(struct status *st)
{
    status_set(st, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND),
               "there is no such sandbox: it never existed, was deleted, or its time ran out");
}

void scope_no_template(struct status *st)
{
    status_set(st, CODE_NOT_FOUND, REASON(TEMPLATE_NOT_FOUND),
               "there is no such template, or it is not one that the caller may use");
}

void scope_translate(const struct scope *s, struct status *st)
{
    if (s->tenant != NULL && st->reason == REASON(SANDBOX_NOT_FOUND))
        scope_not_found(st);
    if (s->tenant != NULL && st->reason == REASON(TEMPLATE_NOT_FOUND))
        scope_no_template(st);
    if (s->api_key != NULL && st->reason == REASON(E2B_UNAUTHENTICATED))
        status_set(st, CODE_UNAUTHENTICATED, REASON(UNAUTHENTICATED),
                   "E2B does not accept the key that came with the call");
}
