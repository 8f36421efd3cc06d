/* See egress_policy.h. */
#include "runtime/local/egress/policy.h"

#include "common/base/mem.h"
#include "common/http/head.h"

#include <arpa/inet.h>
#include <json-c/linkhash.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* E2B's limits, but for that of entries, which it has none of. */
enum {
    ENTRIES_MAX = 4096,
    RULE_DOMAINS_MAX = 10,
    RULE_DOMAIN_LEN_MAX = 128,
    RULE_TRANSFORMS_MAX = 1,
    RULE_HEADERS_MAX = 20,
    HEADER_NAME_MAX = 64,
    HEADER_VALUE_MAX = 2048,
};

static const char all_addresses[] = "0.0.0.0/0";
/* The name server of E2B's sandboxes: whoever allows its address wants names looked up. */
static const uint32_t e2b_name_server = 0x08080808;

bool egress_domain_fits(const char *pattern, const char *name)
{
    size_t name_len = strlen(name), len;

    if (*name == '\0' || *pattern == '\0')
        return false;
    if (strcmp(pattern, "*") == 0 || strcasecmp(pattern, name) == 0)
        return true;
    if (pattern[0] != '*' || pattern[1] != '.' || pattern[2] == '\0')
        return false;
    len = strlen(++pattern);
    return name_len > len && strcasecmp(name + name_len - len, pattern) == 0;
}

enum egress_verdict egress_policy_address(const struct egress_policy *p, uint32_t address)
{
    if (egress_ranges_have(&p->allow, address, 0))
        return EGRESS_ALLOWED;
    return egress_ranges_have(&p->deny, address, 0) ? EGRESS_DENIED : EGRESS_NO_RULE;
}

bool egress_policy_domain(const struct egress_policy *p, const char *name)
{
    for (size_t i = 0; i < p->n_domains; i++) {
        if (egress_domain_fits(p->domains[i], name))
            return true;
    }
    return false;
}

bool egress_policy_permits(const struct egress_policy *p, uint32_t address, const char *name)
{
    return egress_policy_address(p, address) != EGRESS_DENIED ||
           (name != NULL && egress_policy_domain(p, name));
}

bool egress_policy_resolves(const struct egress_policy *p, const char *name)
{
    bool denies_all = false;

    for (size_t i = 0; i < p->deny.n; i++)
        denies_all = denies_all || p->deny.at[i].mask == 0;
    return !denies_all || egress_policy_domain(p, name) ||
           egress_policy_address(p, e2b_name_server) == EGRESS_ALLOWED;
}

const struct pairs *egress_policy_headers(const struct egress_policy *p, const char *name)
{
    for (size_t i = 0; i < p->n_rules; i++) {
        if (strcasecmp(p->rules[i].domain, name) == 0)
            return &p->rules[i].headers;
    }
    return NULL;
}

static struct json_object *field(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    if (json_object_is_type(o, json_type_object))
        json_object_object_get_ex(o, key, &v);
    return v;
}

static bool bad(struct status *st, const char *what)
{
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "validation error: %s", what);
}

enum entry {
    ENTRY_ADDRESS,
    ENTRY_UNSPECIFIED, /* 0.0.0.0 or ::, of which only 0.0.0.0/0 has a meaning */
    ENTRY_NAME,
};

static enum entry parse_entry(const char *text, struct egress_ranges *to)
{
    struct egress_range range;
    bool v4, unset;

    if (egress_range_parse(text, false, &range)) {
        if (strncmp(text, "0.0.0.0", 7) == 0 && strcmp(text, all_addresses) != 0)
            return ENTRY_UNSPECIFIED;
        egress_ranges_add(to, range);
        return ENTRY_ADDRESS;
    }
    if (!egress_range_parse_v6(text, &range, &v4, &unset))
        return ENTRY_NAME;
    if (v4)
        egress_ranges_add(to, range);
    return unset ? ENTRY_UNSPECIFIED : ENTRY_ADDRESS;
}

/* The array of strings at key; *ret is NULL when there is none. */
static bool get_entries(const struct json_object *network, const char *key,
                        struct json_object **ret, struct status *st)
{
    *ret = field(network, key);
    if (*ret == NULL)
        return true;
    if (!json_object_is_type(*ret, json_type_array))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "validation error: %s must be an array of strings", key);
    if (json_object_array_length(*ret) > ENTRIES_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "validation error: %s has over %d entries",
                          key, ENTRIES_MAX);
    for (size_t i = 0; i < json_object_array_length(*ret); i++) {
        if (!json_object_is_type(json_object_array_get_idx(*ret, i), json_type_string))
            return status_set(st, CODE_INVALID_ARGUMENT, 0,
                              "validation error: %s must be an array of strings", key);
    }
    return true;
}

static const char *entry_at(struct json_object *entries, size_t i)
{
    return json_object_get_string(json_object_array_get_idx(entries, i));
}

static size_t count(struct json_object *entries)
{
    return entries != NULL ? json_object_array_length(entries) : 0;
}

static bool read_denied(struct egress_policy *p, const struct json_object *network,
                        bool *ret_denies_all, struct status *st)
{
    struct json_object *entries;

    if (!get_entries(network, "denyOut", &entries, st))
        return false;
    for (size_t i = 0; i < count(entries); i++) {
        const char *text = entry_at(entries, i);

        if (parse_entry(text, &p->deny) != ENTRY_ADDRESS)
            return status_set(st, CODE_INVALID_ARGUMENT, 0, "invalid denied CIDR %s", text);
        *ret_denies_all = *ret_denies_all || strcmp(text, all_addresses) == 0;
    }
    return true;
}

static bool read_allowed(struct egress_policy *p, const struct json_object *network,
                         struct status *st)
{
    struct json_object *entries;

    if (!get_entries(network, "allowOut", &entries, st))
        return false;
    p->domains = xcalloc(count(entries) + 1, sizeof(*p->domains));
    for (size_t i = 0; i < count(entries); i++) {
        const char *text = entry_at(entries, i);

        switch (parse_entry(text, &p->allow)) {
        case ENTRY_ADDRESS:
            break;
        case ENTRY_UNSPECIFIED:
            return status_set(st, CODE_INVALID_ARGUMENT, 0, "invalid allowed address %s", text);
        case ENTRY_NAME:
            p->domains[p->n_domains++] = xstrdup(text);
            break;
        }
    }
    return true;
}

static bool is_dns_name(const char *name)
{
    size_t label = 0;
    struct in_addr v4;

    for (const char *c = name; *c != '\0'; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || *c == '_';

        if (!(plain || (*c == '-' && label > 0) || (*c == '.' && label > 0)))
            return false;
        label = *c == '.' ? 0 : label + 1;
        if (label > 63)
            return false;
    }
    return inet_pton(AF_INET, name, &v4) != 1;
}

static bool read_header(struct egress_rule *r, const char *name, struct json_object *value,
                        struct status *st)
{
    const char *text = json_object_get_string(value);

    if (*name == '\0')
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Header name in rule for domain \"%s\" must not be empty.", r->domain);
    if (!http_is_token(name, strlen(name)))
        return status_set(
            st, CODE_INVALID_ARGUMENT, 0,
            "Header name \"%s\" in rule for domain \"%s\" must contain only valid HTTP token "
            "characters.",
            name, r->domain);
    if (strlen(name) > HEADER_NAME_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Header name \"%s\" in rule for domain \"%s\" exceeds maximum length of "
                          "%d characters.",
                          name, r->domain, HEADER_NAME_MAX);
    if (!json_object_is_type(value, json_type_string) ||
        strlen(text) != (size_t)json_object_get_string_len(value) ||
        !http_is_text(text, strlen(text)))
        return status_set(
            st, CODE_INVALID_ARGUMENT, 0,
            "Value for header \"%s\" in rule for domain \"%s\" contains invalid characters.", name,
            r->domain);
    if (strlen(text) > HEADER_VALUE_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Value for header \"%s\" in rule for domain \"%s\" exceeds maximum "
                          "length of %d characters.",
                          name, r->domain, HEADER_VALUE_MAX);
    if (strstr(text, "${e2b.") != NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "The local runtime has no secrets and identities to put into headers");
    pairs_add(&r->headers, name, text);
    return true;
}

static bool read_headers(struct egress_rule *r, struct json_object *headers, struct status *st)
{
    if (headers == NULL)
        return true;
    if (!json_object_is_type(headers, json_type_object))
        return bad(st, "the headers of a rule must be an object of strings");
    if (json_object_object_length(headers) > RULE_HEADERS_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Domain \"%s\" can have at most %d headers per rule.", r->domain,
                          RULE_HEADERS_MAX);
    json_object_object_foreach(headers, name, value)
    {
        if (!read_header(r, name, value, st))
            return false;
    }
    return true;
}

static bool read_rule(struct egress_policy *p, const char *domain, struct json_object *rules,
                      struct status *st)
{
    struct egress_rule *r = &p->rules[p->n_rules++];

    r->domain = xstrdup(domain);
    if (*domain == '\0')
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "Rule domain must not be empty.");
    if (strlen(domain) > RULE_DOMAIN_LEN_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Rule domain \"%s\" exceeds maximum length of %d characters.", domain,
                          RULE_DOMAIN_LEN_MAX);
    if (!is_dns_name(domain))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Rule domain \"%s\" is not a valid domain name.", domain);
    if (rules != NULL && !json_object_is_type(rules, json_type_array))
        return bad(st, "the rules of a domain must be an array");
    if (count(rules) > RULE_TRANSFORMS_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Domain \"%s\" can have at most %d transform rule.", domain,
                          RULE_TRANSFORMS_MAX);
    for (size_t i = 0; i < count(rules); i++) {
        struct json_object *transform = field(json_object_array_get_idx(rules, i), "transform");

        if (!read_headers(r, field(transform, "headers"), st))
            return false;
    }
    return true;
}

static bool read_rules(struct egress_policy *p, const struct json_object *network,
                       struct status *st)
{
    struct json_object *rules = field(network, "rules");

    if (rules == NULL)
        return true;
    if (!json_object_is_type(rules, json_type_object))
        return bad(st, "rules must be an object of arrays");
    if (json_object_object_length(rules) > RULE_DOMAINS_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "Network rules can have at most %d domains.", RULE_DOMAINS_MAX);
    p->rules = xcalloc((size_t)json_object_object_length(rules) + 1, sizeof(*p->rules));
    json_object_object_foreach(rules, domain, list)
    {
        if (!read_rule(p, domain, list, st))
            return false;
    }
    return true;
}

bool egress_policy_parse(struct egress_policy *p, const struct json_object *network, bool internet,
                         struct status *st)
{
    bool denies_all = false;

    *p = (struct egress_policy){.n_domains = 0};
    if (!read_denied(p, network, &denies_all, st) || !read_allowed(p, network, st))
        return false;
    if (p->n_domains > 0 && !denies_all)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "When specifying allowed domains in allow out, you must include "
                          "'ALL_TRAFFIC' in deny out to block all other traffic.");
    if (!read_rules(p, network, st))
        return false;
    if (field(network, "egressProxy") != NULL)
        return status_set(st, CODE_PERMISSION_DENIED, 0,
                          "Egress proxy (network.egressProxy) is not enabled: the local runtime "
                          "connects by itself.");
    if (!internet)
        egress_ranges_add(&p->deny, (struct egress_range){.mask = 0});
    return true;
}

void egress_policy_deinit(struct egress_policy *p)
{
    free(p->allow.at);
    free(p->deny.at);
    for (size_t i = 0; i < p->n_domains; i++)
        free(p->domains[i]);
    free(p->domains);
    for (size_t i = 0; i < p->n_rules; i++) {
        free(p->rules[i].domain);
        pairs_deinit(&p->rules[i].headers);
    }
    free(p->rules);
    *p = (struct egress_policy){.n_domains = 0};
}
