/* GET /templates/aliases/{alias}: whether there is a template of that name. */
#include "runtime/local/api.h"

#include "common/base/cleanup.h"
#include "common/http/url.h"
#include "runtime/local/template.h"

#include <json-c/json_object.h>
#include <string.h>

enum { ALIAS_MAX = 256 };

/* The path's last segment, decoded; it may hold '/' and ':' that way. */
static bool read_alias(const struct http_head *h, struct buf *out)
{
    size_t at = h->path_len;

    while (at > 0 && h->path[at - 1] != '/')
        at--;
    return url_decode(out, h->path + at, h->path_len - at, false) &&
           memchr(buf_data(out), '\0', buf_len(out)) == NULL;
}

void api_template_alias(const struct api_call *call)
{
    AUTO(buf_deinit) struct buf alias = BUF_INIT(ALIAS_MAX);
    struct json_object *o;

    if (!read_alias(http_request(call->x), &alias)) {
        api_error(call->x, 400, "validation error: the alias is malformed");
        return;
    }
    switch (template_find(buf_str(&alias))) {
    case TEMPLATE_BASE:
        o = json_object_new_object();
        json_object_object_add(o, "templateID", json_object_new_string(TEMPLATE_ID));
        json_object_object_add(o, "public", json_object_new_boolean(true));
        api_json(call->x, 200, o);
        break;
    case TEMPLATE_UNKNOWN:
        api_error(call->x, 404, "Template alias '%s' not found", buf_str(&alias));
        break;
    case TEMPLATE_MALFORMED:
        api_error(call->x, 400, "validation error: the alias is malformed");
        break;
    }
}
