/* See network_field.h. */
#include "service/handlers/network_field.h"

#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"

#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    RULES_MAX = 100,
    RULE_MAX = 255,
};

static bool read_rules(const char *field, char *const *from, size_t n, char ***ret, size_t *ret_n,
                       struct status *st)
{
    if (n > RULES_MAX)
        return status_bad_field(st, INVALID_FIELD, field, "%s has a list of %zu rules: at most %d",
                                field, n, RULES_MAX);
    *ret = xcalloc(n ? n : 1, sizeof **ret);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(from[i]);

        if (len == 0 || len > RULE_MAX)
            return status_bad_field(st, INVALID_FIELD, field,
                                    "%s: a rule must have from 1 to %d bytes", field, RULE_MAX);
        (*ret)[(*ret_n)++] = xstrdup(from[i]);
    }
    return true;
}

bool network_field_read(const char *field, const Sandbox__V1__Network *from,
                        struct e2b_network *ret, struct status *st)
{
    ret->deny_internet = from->deny_internet_access;
    return read_rules(field, from->allow_out, from->n_allow_out, &ret->allow_out, &ret->n_allow_out,
                      st) &&
           read_rules(field, from->deny_out, from->n_deny_out, &ret->deny_out, &ret->n_deny_out,
                      st);
}
