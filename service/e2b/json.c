/* See json.h. */
#include "service/e2b/json.h"

#include "common/base/clock.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct json_object *json_parse(const void *data, size_t len)
{
    struct json_tokener *tok;
    struct json_object *o;

    if (len == 0 || len > INT_MAX)
        return NULL;
    tok = json_tokener_new_ex(JSON_DEPTH);
    if (tok == NULL)
        return NULL;
    json_tokener_set_flags(tok, JSON_TOKENER_VALIDATE_UTF8);
    o = json_tokener_parse_ex(tok, data, (int)len);
    if (json_tokener_get_error(tok) != json_tokener_success) {
        json_object_put(o);
        o = NULL;
    } else {
        const char *rest = (const char *)data + json_tokener_get_parse_end(tok);
        const char *end = (const char *)data + len;

        while (rest < end && memchr(" \t\r\n", *rest, 4) != NULL)
            rest++;
        if (rest != end) {
            json_object_put(o);
            o = NULL;
        }
    }
    json_tokener_free(tok);
    return o;
}

const char *json_text_value(struct json_object *value, size_t max_len)
{
    size_t len;

    if (!json_object_is_type(value, json_type_string))
        return NULL;
    len = (size_t)json_object_get_string_len(value);
    if (len > max_len || strlen(json_object_get_string(value)) != len)
        return NULL;
    return json_object_get_string(value);
}

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *value;

    if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &value))
        return NULL;
    return value;
}

const char *json_text(struct json_object *o, const char *key, size_t max_len)
{
    return json_text_value(member(o, key), max_len);
}

bool json_int(struct json_object *o, const char *key, int64_t *ret)
{
    struct json_object *value = member(o, key);

    if (!json_object_is_type(value, json_type_int))
        return false;
    *ret = json_object_get_int64(value);
    return true;
}

bool json_number(struct json_object *o, const char *key, double *ret)
{
    struct json_object *value = member(o, key);

    if (!json_object_is_type(value, json_type_int) && !json_object_is_type(value, json_type_double))
        return false;
    *ret = json_object_get_double(value);
    return isfinite(*ret);
}

bool json_flag(struct json_object *o, const char *key, bool *ret)
{
    struct json_object *value = member(o, key);

    if (!json_object_is_type(value, json_type_boolean))
        return false;
    *ret = json_object_get_boolean(value);
    return true;
}

/* Reads ".123456789" into nanoseconds; digits beyond the ninth are dropped. */
static const char *read_fraction(const char *s, int64_t *ret_ns)
{
    int64_t unit = NS_PER_S / 10;

    *ret_ns = 0;
    if (*s != '.')
        return s;
    for (s++; *s >= '0' && *s <= '9'; s++) {
        *ret_ns += (*s - '0') * unit;
        unit /= 10;
    }
    return s;
}

bool json_time(struct json_object *o, const char *key, int64_t *ret_ns)
{
    const char *s = json_text(o, key, 64);
    struct tm tm = {0};
    int64_t fraction, zone = 0;
    int used = 0, hours, minutes;

    if (s == NULL || sscanf(s, "%4d-%2d-%2d%*1[Tt]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon,
                            &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used) != 6)
        return false;
    s = read_fraction(s + used, &fraction);
    used = 0;
    if (*s == '+' || *s == '-') {
        if (sscanf(s + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || used != 5)
            return false;
        zone = (*s == '-' ? -60 : 60) * (hours * 60 + minutes);
        s += 6;
    } else if (*s == 'Z' || *s == 'z') {
        s++;
    } else {
        return false;
    }
    if (*s != '\0' || tm.tm_year < 1970 || tm.tm_year > 2200 || tm.tm_mon < 1 || tm.tm_mon > 12)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *ret_ns = (timegm(&tm) - zone) * NS_PER_S + fraction;
    return true;
}

bool json_is_token(const char *s)
{
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        if (*s <= ' ' || *s >= 0x7f)
            return false;
    }
    return true;
}
