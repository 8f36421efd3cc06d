/* See log.h. A line is built in a capped buffer; a longer text is cut, never the JSON around it. */
#include "common/base/log.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/utf8.h"

#include <stdatomic.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 16384, TEXT_MAX_BYTES = 2048 };

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int threshold = LOG_INFO;
static bool as_text;

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

void log_set_text(bool text)
{
    as_text = text;
}

bool log_level_from_name(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcasecmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static void append_char(struct buf *b, const char *s, int len)
{
    unsigned char c = (unsigned char)*s;

    if (len > 1)
        buf_append(b, s, (size_t)len);
    else if (c == '"' || c == '\\')
        buf_printf(b, "\\%c", c);
    else if (c < 0x20 || c == 0x7f)
        buf_printf(b, "\\u%04x", c);
    else
        buf_append_byte(b, c);
}

static void append_text(struct buf *b, const char *s)
{
    size_t left = strlen(s);

    if (left > TEXT_MAX_BYTES)
        left = TEXT_MAX_BYTES;
    buf_append_byte(b, '"');
    while (left > 0) {
        int n = utf8_sequence((const uint8_t *)s, left);

        if (n > 0) {
            append_char(b, s, n);
        } else {
            buf_append_str(b, "\\ufffd");
            n = n < 0 ? -n : 1;
        }
        s += n;
        left -= (size_t)n;
    }
    buf_append_byte(b, '"');
}

static void append_time(struct buf *b)
{
    struct timespec now;
    struct tm tm;
    char text[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(b, "%s.%03ldZ", text, now.tv_nsec / 1000000);
}

static bool fits(const struct buf *line)
{
    return buf_room(line) > 6 * TEXT_MAX_BYTES / 2;
}

static void write_json(struct buf *line, enum log_level level, const char *msg,
                       const struct log_field *fields, size_t n)
{
    buf_append_str(line, "{\"time\":\"");
    append_time(line);
    buf_printf(line, "\",\"level\":\"%s\",\"msg\":", level_names[level]);
    append_text(line, msg);
    for (size_t i = 0; i < n && fits(line); i++) {
        buf_printf(line, ",\"%s\":", fields[i].key);
        if (fields[i].text != NULL)
            append_text(line, fields[i].text);
        else
            buf_printf(line, "%lld", (long long)fields[i].number);
    }
    buf_append_str(line, "}\n");
}

/* A word stands as it is; all else in quotes, as in JSON. */
static bool is_word(const char *s)
{
    size_t len = 0;

    while (s[len] > ' ' && s[len] < 0x7f && s[len] != '"' && s[len] != '\\' && s[len] != '=')
        len++;
    return len > 0 && s[len] == '\0' && len < TEXT_MAX_BYTES;
}

static void write_text(struct buf *line, enum log_level level, const char *msg,
                       const struct log_field *fields, size_t n)
{
    static const char *const levels[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};

    append_time(line);
    buf_printf(line, " %s ", levels[level]);
    /* The message is ours, but for what libraries say: no line of theirs may look like another. */
    buf_printf(line, "%.*s", (int)strcspn(msg, "\r\n"), msg);
    for (size_t i = 0; i < n && fits(line); i++) {
        buf_printf(line, " %s=", fields[i].key);
        if (fields[i].text == NULL)
            buf_printf(line, "%lld", (long long)fields[i].number);
        else if (is_word(fields[i].text))
            buf_append_str(line, fields[i].text);
        else
            append_text(line, fields[i].text);
    }
    buf_append_byte(line, '\n');
}

void log_write(enum log_level level, const char *msg, const struct log_field *fields, size_t n)
{
    AUTO(buf_deinit) struct buf line = BUF_INIT(LINE_MAX_BYTES);

    if ((int)level < atomic_load(&threshold))
        return;
    if (as_text)
        write_text(&line, level, msg, fields, n);
    else
        write_json(&line, level, msg, fields, n);

    /* Nothing can be done about a log that cannot be written. */
    if (write(STDERR_FILENO, buf_data(&line), buf_len(&line)) < 0)
        return;
}
