/*
 * See multipart.h.
 *
 * The delimiter is CRLF "--" boundary, and CR occurs in it only at its start. So when a partial
 * match breaks, the matched bytes are content (they are the delimiter's own first bytes and need
 * not have been kept), and only a CR can begin a new match: no backtracking over input that is
 * gone.
 */
#include "runtime/local/agent/multipart.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t");
}

/*
 * One "; name=value" of a header, value quoted or not, unquoted into *ret_value (owned). Returns
 * what follows; NULL at the end, or when it is malformed.
 */
static const char *next_parameter(const char *s, const char **ret_name, size_t *ret_name_len,
                                  char **ret_value)
{
    size_t n = 0;

    s = skip_blanks(s);
    if (*s != ';')
        return NULL;
    *ret_name = s = skip_blanks(s + 1);
    *ret_name_len = strcspn(s, "=; \t");
    s = skip_blanks(s + *ret_name_len);
    if (*s != '=')
        return NULL;
    s = skip_blanks(s + 1);
    if (*s != '"') {
        n = strcspn(s, "; \t");
        *ret_value = xstrndup(s, n);
        return s + n;
    }
    *ret_value = xmalloc(strlen(s));
    for (s++; *s && *s != '"'; s++) {
        if (*s == '\\' && (s[1] == '"' || s[1] == '\\'))
            s++;
        (*ret_value)[n++] = *s;
    }
    (*ret_value)[n] = '\0';
    if (*s == '"')
        return s + 1;
    free(*ret_value);
    *ret_value = NULL;
    return NULL;
}

/* The parameter of that name, owned; NULL when there is none. */
static char *find_parameter(const char *s, const char *name)
{
    const char *found;
    size_t len;
    char *value;

    s += strcspn(s, ";");
    while ((s = next_parameter(s, &found, &len, &value)) != NULL) {
        if (len == strlen(name) && strncasecmp(found, name, len) == 0)
            return value;
        free(value);
    }
    return NULL;
}

bool multipart_init(struct multipart *m, const char *content_type)
{
    AUTO_FREE char *boundary = find_parameter(content_type, "boundary");

    *m = (struct multipart){.head = BUF_INIT(MULTIPART_HEAD_MAX)};
    if (!boundary || !*boundary || strlen(boundary) > MULTIPART_BOUNDARY_MAX ||
        strpbrk(boundary, "\r\n"))
        return false;
    memcpy(m->delimiter, "\r\n--", 4);
    strcpy(m->delimiter + 4, boundary);
    m->delimiter_len = strlen(m->delimiter);
    m->matched = 2; /* at the very start there is no CRLF in front of it */
    return true;
}

static void forget_part(struct multipart *m)
{
    free(m->name);
    free(m->filename);
    m->name = m->filename = NULL;
    buf_clear(&m->head);
}

void multipart_deinit(struct multipart *m)
{
    forget_part(m);
    buf_deinit(&m->head);
}

static enum multipart_event fail(struct multipart *m)
{
    m->state = MULTIPART_FAILED;
    return MULTIPART_ERROR;
}

static void enter(struct multipart *m, enum multipart_state state)
{
    m->state = state;
    m->matched = 0;
    buf_clear(&m->head);
}

/*
 * Looks for the delimiter. Returns how many input bytes are content for sure; *ret_found when the
 * delimiter is complete (it is consumed then, and so is what is only content).
 */
static size_t scan(struct multipart *m, const uint8_t **data, size_t *len, bool *ret_found)
{
    const uint8_t *start = *data;
    size_t content = 0;

    *ret_found = false;
    while (*len > 0) {
        const uint8_t c = **data;

        if (m->matched == 0 && c != '\r') {
            const uint8_t *cr = memchr(*data, '\r', *len);
            size_t n = cr ? (size_t)(cr - *data) : *len;

            *data += n;
            *len -= n;
            content = (size_t)(*data - start);
            continue;
        }
        if (c == (uint8_t)m->delimiter[m->matched]) {
            ++*data;
            --*len;
            if (++m->matched == m->delimiter_len) {
                *ret_found = true;
                return content;
            }
            continue;
        }
        /* Not it after all. What matched before this input is to be given out first. */
        if ((size_t)(*data - start) < m->matched) {
            m->replay = m->matched - (size_t)(*data - start);
            m->matched = 0;
            return 0;
        }
        m->matched = 0;
        content = (size_t)(*data - start);
    }
    return content;
}

static enum multipart_event in_content(struct multipart *m, const uint8_t **data, size_t *len,
                                       const uint8_t **ret, size_t *ret_len)
{
    const uint8_t *start = *data;
    bool found;
    size_t content = scan(m, data, len, &found);

    if (m->replay > 0) {
        /* What was consumed of this input was part of the broken match too. */
        *ret = (const uint8_t *)m->delimiter;
        *ret_len = m->replay + (size_t)(*data - start);
        m->replay = 0;
        return MULTIPART_DATA;
    }
    if (found)
        m->state = MULTIPART_AT_END;
    if (content == 0)
        return found ? MULTIPART_END : MULTIPART_MORE;
    *ret = start;
    *ret_len = content;
    return MULTIPART_DATA;
}

static void in_preamble(struct multipart *m, const uint8_t **data, size_t *len)
{
    bool found;

    scan(m, data, len, &found);
    m->replay = 0;
    if (found)
        enter(m, MULTIPART_IN_TAIL);
}

/* Gathers bytes up to and with `until`. False: not complete yet, or failed. */
static bool gather(struct multipart *m, const uint8_t **data, size_t *len, const char *until)
{
    size_t n = strlen(until);

    while (*len > 0) {
        if (!buf_append_byte(&m->head, **data)) {
            fail(m);
            return false;
        }
        ++*data;
        --*len;
        if (buf_len(&m->head) >= n &&
            memcmp(buf_data(&m->head) + buf_len(&m->head) - n, until, n) == 0)
            return true;
    }
    return false;
}

/* Behind a delimiter: "--" ends the body, blanks and CRLF begin a part. */
static enum multipart_event in_tail(struct multipart *m, const uint8_t **data, size_t *len)
{
    while (*len > 0) {
        const char *tail;

        if (!buf_append_byte(&m->head, **data))
            return fail(m);
        ++*data;
        --*len;
        tail = buf_str(&m->head);
        if (strcmp(tail, "--") == 0) {
            enter(m, MULTIPART_IS_DONE);
            return MULTIPART_DONE;
        }
        tail = skip_blanks(tail);
        if (strcmp(tail, "\r\n") == 0) {
            enter(m, MULTIPART_IN_HEAD);
            /* The line break may be the first half of the empty line: a part without fields. */
            buf_append_str(&m->head, "\r\n");
            return MULTIPART_MORE;
        }
        if (*tail && strcmp(tail, "\r") != 0 && strcmp(tail, "-") != 0)
            return fail(m);
    }
    return MULTIPART_MORE;
}

/* "filename*", which has its character set in front and is percent-encoded (RFC 8187). */
static char *find_encoded_filename(const char *line)
{
    AUTO_FREE char *coded = find_parameter(line, "filename*");
    AUTO(buf_deinit) struct buf name = BUF_INIT(MULTIPART_NAME_MAX);
    const char *value = coded ? strchr(coded, '\'') : NULL;

    if (!value || !(value = strchr(value + 1, '\'')) || strncasecmp(coded, "utf-8'", 6) != 0)
        return NULL;
    value++;
    if (!url_decode(&name, value, strlen(value), false) ||
        memchr(buf_str(&name), '\0', buf_len(&name)))
        return NULL;
    return buf_take_str(&name);
}

static bool read_field(struct multipart *m, const char *line)
{
    static const char wanted[] = "content-disposition:";

    if (strncasecmp(line, wanted, strlen(wanted)) != 0)
        return true;
    line = skip_blanks(line + strlen(wanted));
    if (strncasecmp(line, "form-data", 9) != 0)
        return true;
    m->name = find_parameter(line, "name");
    m->filename = find_encoded_filename(line);
    if (!m->filename)
        m->filename = find_parameter(line, "filename");
    return (!m->name || strlen(m->name) < MULTIPART_NAME_MAX) &&
           (!m->filename || strlen(m->filename) < MULTIPART_NAME_MAX);
}

static enum multipart_event in_head(struct multipart *m, const uint8_t **data, size_t *len)
{
    AUTO_FREE char *text = NULL;
    char *rest;

    if (!gather(m, data, len, "\r\n\r\n"))
        return m->state == MULTIPART_FAILED ? MULTIPART_ERROR : MULTIPART_MORE;
    if (memchr(buf_data(&m->head), '\0', buf_len(&m->head)))
        return fail(m);
    rest = text = xstrdup(buf_str(&m->head));
    forget_part(m);
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        line[strcspn(line, "\r")] = '\0';
        if (!m->name && !m->filename && !read_field(m, line))
            return fail(m);
    }
    m->state = MULTIPART_IN_CONTENT;
    m->matched = 0;
    return MULTIPART_PART;
}

enum multipart_event multipart_next(struct multipart *m, const uint8_t **data, size_t *len,
                                    const uint8_t **ret, size_t *ret_len)
{
    for (;;) {
        enum multipart_event event = MULTIPART_MORE;
        enum multipart_state before = m->state;

        switch (m->state) {
        case MULTIPART_IN_PREAMBLE:
            in_preamble(m, data, len);
            break;
        case MULTIPART_IN_TAIL:
            event = in_tail(m, data, len);
            break;
        case MULTIPART_IN_HEAD:
            event = in_head(m, data, len);
            break;
        case MULTIPART_IN_CONTENT:
            event = in_content(m, data, len, ret, ret_len);
            if (event == MULTIPART_END)
                enter(m, MULTIPART_IN_TAIL);
            break;
        case MULTIPART_AT_END: /* its last content was told before */
            enter(m, MULTIPART_IN_TAIL);
            return MULTIPART_END;
        case MULTIPART_IS_DONE:
            *data += *len;
            *len = 0;
            return MULTIPART_MORE;
        case MULTIPART_FAILED:
            return MULTIPART_ERROR;
        }
        if (event != MULTIPART_MORE || (*len == 0 && m->state == before))
            return event;
    }
}
