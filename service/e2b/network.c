/* See network.h. */
#include "service/e2b/network.h"

#include "common/base/mem.h"

enum { RULES_MAX = 1000, RULE_MAX = 512 };

static void add_rules(struct json_object *o, const char *key, char *const *rules, size_t n)
{
    struct json_object *array;

    if (n == 0)
        return;
    array = json_object_new_array();
    for (size_t i = 0; i < n; i++)
        json_object_array_add(array, json_object_new_string(rules[i]));
    json_object_object_add(o, key, array);
}

static void add_all(struct json_object *to, struct json_object *rules,
                    const struct e2b_network *network)
{
    if (network->deny_internet)
        json_object_object_add(to, "allow_internet_access", json_object_new_boolean(false));
    add_rules(rules, "allowOut", network->allow_out, network->n_allow_out);
    add_rules(rules, "denyOut", network->deny_out, network->n_deny_out);
}

void network_to_create(struct json_object *o, const struct e2b_network *network)
{
    struct json_object *rules = json_object_new_object();

    add_all(o, rules, network);
    if (json_object_object_length(rules) > 0)
        json_object_object_add(o, "network", rules);
    else
        json_object_put(rules);
}

char *network_body(const struct e2b_network *network)
{
    AUTO_JSON struct json_object *o = json_object_new_object();

    add_all(o, o, network);
    return xstrdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
}

static bool read_rules(struct json_object *o, const char *key, char ***ret, size_t *ret_n)
{
    struct json_object *array;
    size_t n;

    if (!json_object_object_get_ex(o, key, &array) || array == NULL)
        return true;
    if (!json_object_is_type(array, json_type_array))
        return false;
    n = json_object_array_length(array);
    if (n > RULES_MAX)
        return false;
    *ret = xcalloc(n ? n : 1, sizeof **ret);
    for (size_t i = 0; i < n; i++) {
        const char *rule = json_text_value(json_object_array_get_idx(array, i), RULE_MAX);

        if (rule == NULL)
            return false;
        (*ret)[(*ret_n)++] = xstrdup(rule);
    }
    return true;
}

bool network_from_detail(struct json_object *o, struct e2b_network *ret)
{
    struct json_object *rules;
    bool allowed = true;

    json_flag(o, "allowInternetAccess", &allowed);
    ret->deny_internet = !allowed;
    if (!json_object_object_get_ex(o, "network", &rules) || rules == NULL)
        return true;
    return json_object_is_type(rules, json_type_object) &&
           read_rules(rules, "allowOut", &ret->allow_out, &ret->n_allow_out) &&
           read_rules(rules, "denyOut", &ret->deny_out, &ret->n_deny_out);
}

void e2b_network_deinit(struct e2b_network *network)
{
    free_strings(network->allow_out, network->n_allow_out);
    free_strings(network->deny_out, network->n_deny_out);
    *network = (struct e2b_network){0};
}
