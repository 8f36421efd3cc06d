/* See timestamp.h. */
#include "runtime/local/timestamp.h"

#include "common/base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void timestamp_format(int64_t ns, char text[static TIMESTAMP_SIZE])
{
    time_t s = (time_t)(ns / NS_PER_S);
    struct tm tm;
    size_t used;

    gmtime_r(&s, &tm);
    used = strftime(text, TIMESTAMP_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + used, TIMESTAMP_SIZE - used, ".%06dZ", (int)(ns % NS_PER_S / 1000));
}

/* Reads exactly n digits. NULL: they are not there. */
static const char *digits(const char *s, int n, int *ret)
{
    *ret = 0;
    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return NULL;
        *ret = *ret * 10 + (s[i] - '0');
    }
    return s + n;
}

static const char *fraction(const char *s, int64_t *ret_ns)
{
    int64_t unit = NS_PER_S / 10;

    *ret_ns = 0;
    if (*s != '.')
        return s;
    for (s++; *s >= '0' && *s <= '9'; s++) {
        *ret_ns += (*s - '0') * unit;
        unit /= 10;
    }
    return s[-1] == '.' ? NULL : s;
}

static const char *offset(const char *s, int *ret_seconds)
{
    int hours, minutes, sign = *s == '-' ? -1 : 1;

    *ret_seconds = 0;
    if (*s == 'Z' || *s == 'z')
        return s + 1;
    if (*s != '+' && *s != '-')
        return NULL;
    if ((s = digits(s + 1, 2, &hours)) == NULL || *s != ':' ||
        (s = digits(s + 1, 2, &minutes)) == NULL)
        return NULL;
    *ret_seconds = sign * (hours * 3600 + minutes * 60);
    return s;
}

bool timestamp_parse(const char *text, int64_t *ret_ns)
{
    static const char separators[] = "--T::";
    int fields[6], east;
    const char *s = text;
    int64_t ns;

    for (int i = 0; i < 6; i++) {
        s = digits(s, i == 0 ? 4 : 2, &fields[i]);
        if (s == NULL || (i < 5 && *s++ != separators[i]))
            return false;
    }
    if ((s = fraction(s, &ns)) == NULL || (s = offset(s, &east)) == NULL || *s != '\0')
        return false;
    if (fields[1] < 1 || fields[1] > 12 || fields[2] < 1 || fields[2] > 31 || fields[3] > 23 ||
        fields[4] > 59 || fields[5] > 60)
        return false;

    struct tm tm = {
        .tm_year = fields[0] - 1900,
        .tm_mon = fields[1] - 1,
        .tm_mday = fields[2],
        .tm_hour = fields[3],
        .tm_min = fields[4],
        .tm_sec = fields[5],
    };
    int64_t seconds = (int64_t)timegm(&tm) - east;

    return !__builtin_mul_overflow(seconds, NS_PER_S, ret_ns) &&
           !__builtin_add_overflow(*ret_ns, ns, ret_ns);
}
