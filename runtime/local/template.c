/* See template.h. */
#include "runtime/local/template.h"

#include <string.h>
#include <strings.h>

static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

enum template_result template_find(const char *reference)
{
    const char *alias = reference;
    size_t len = strspn(alias, name_chars);

    if (len > 0 && alias[len] == '/') {
        alias += len + 1;
        len = strspn(alias, name_chars);
    }
    if (len == 0)
        return TEMPLATE_MALFORMED;

    const char *rest = alias + len;

    if (*rest == ':') {
        size_t tag = strspn(rest + 1, name_chars);

        while (rest[1 + tag] == '.')
            tag += 1 + strspn(rest + 2 + tag, name_chars);
        if (tag == 0 || rest[1 + tag] != '\0')
            return TEMPLATE_MALFORMED;
    } else if (*rest != '\0') {
        return TEMPLATE_MALFORMED;
    }
    if (alias != reference || len != strlen(TEMPLATE_ID) ||
        strncasecmp(alias, TEMPLATE_ID, len) != 0)
        return TEMPLATE_UNKNOWN;
    return *rest == '\0' || strcasecmp(rest, ":default") == 0 ? TEMPLATE_BASE : TEMPLATE_UNKNOWN;
}
