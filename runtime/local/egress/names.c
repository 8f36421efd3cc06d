/* See egress_names.h. */
#include "runtime/local/egress/names.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

void egress_names_deinit(struct egress_names *n)
{
    for (size_t i = 0; n->at != NULL && i < EGRESS_NAMES_MAX; i++)
        free(n->at[i].name);
    free(n->at);
    *n = (struct egress_names){.at = NULL};
}

static struct egress_name *find_pair(const struct egress_names *n, const char *name,
                                     uint32_t address)
{
    for (size_t i = 0; i < EGRESS_NAMES_MAX; i++) {
        struct egress_name *e = &n->at[i];

        if (e->name != NULL && e->address == address && strcmp(e->name, name) == 0)
            return e;
    }
    return NULL;
}

void egress_names_add(struct egress_names *n, const char *name, uint32_t address, int64_t until_ns)
{
    struct egress_name *e;

    if (n->at == NULL)
        n->at = xcalloc(EGRESS_NAMES_MAX, sizeof(*n->at));
    e = find_pair(n, name, address);
    if (e == NULL) {
        e = &n->at[n->next];
        n->next = (n->next + 1) % EGRESS_NAMES_MAX;
        free(e->name);
        *e = (struct egress_name){.name = xstrdup(name), .address = address};
    }
    e->until_ns = until_ns;
}

const char *egress_names_find(const struct egress_names *n, uint32_t address,
                              const struct egress_policy *policy, int64_t now_ns)
{
    for (size_t i = 0; n->at != NULL && i < EGRESS_NAMES_MAX; i++) {
        const struct egress_name *e = &n->at[i];

        if (e->name != NULL && e->address == address && now_ns < e->until_ns &&
            egress_policy_domain(policy, e->name))
            return e->name;
    }
    return NULL;
}
