/* What a template.json may say. For template_file.c, which reads them. */
#pragma once

#include "runtime/local/daemon/template.h"

#include <json-c/json_object.h>

#define TEMPLATE_FILE "template.json"

struct template_reading {
    const char *dir;           /* borrowed; of all templates */
    struct template *it;       /* borrowed */
    const char *key;           /* borrowed; the one at hand; NULL: none */
    struct json_object *value; /* borrowed; its value */
    struct status *st;
};

/* Says what is wrong with the key at hand, or else the file. Always false. */
bool template_bad(const struct template_reading *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Of a template, or another name of it. */
bool template_is_name(const char *text);

/* Takes the key at hand into the template. */
bool template_take_key(struct template_reading *r);
