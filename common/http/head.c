/*
 * See head.h. One pass over the lines of a head, each cut into strings where it lies; then what its
 * headers say together: how long the body is, and what becomes of the connection.
 */
#include "common/http/head.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LENGTH_DIGITS_MAX = 18 };

enum http_event http_fail(struct http_parser *p, int status, const char *why)
{
    p->state = HTTP_STATE_FAILED;
    p->error_status = p->is_response ? 502 : status;
    p->error = why;
    return HTTP_ERROR;
}

static bool is_token_char(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

bool http_is_token(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_token_char((unsigned char)s[i]))
            return false;
    }
    return len > 0;
}

bool http_is_text(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

const char *http_header(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->n_headers; i++) {
        if (strcasecmp(h->headers[i].name, name) == 0)
            return h->headers[i].value;
    }
    return NULL;
}

static bool list_has(const char *list, const char *token)
{
    size_t token_len = strlen(token);

    for (;;) {
        list += strspn(list, " \t,");
        if (*list == '\0')
            return false;

        size_t len = strcspn(list, ",");
        size_t word = len;

        while (word > 0 && (list[word - 1] == ' ' || list[word - 1] == '\t'))
            word--;
        if (word == token_len && strncasecmp(list, token, word) == 0)
            return true;
        list += len;
    }
}

bool http_header_has(const struct http_head *h, const char *name, const char *token)
{
    for (size_t i = 0; i < h->n_headers; i++) {
        if (strcasecmp(h->headers[i].name, name) == 0 && list_has(h->headers[i].value, token))
            return true;
    }
    return false;
}

bool http_path_is(const struct http_head *h, const char *path)
{
    return strlen(path) == h->path_len && memcmp(h->path, path, h->path_len) == 0;
}

bool http_method_is(const struct http_head *h, const char *method)
{
    return h->method != NULL && strcmp(h->method, method) == 0;
}

/* "HTTP/1.x" at s; anything else of HTTP is a version we do not speak. */
static bool parse_version(struct http_parser *p, const char *s)
{
    if (strncmp(s, "HTTP/", 5) != 0 || s[5] < '0' || s[5] > '9' || s[6] != '.' || s[7] < '0' ||
        s[7] > '9')
        return http_fail(p, 400, "the start line has no HTTP version"), false;
    if (s[5] != '1')
        return http_fail(p, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here"), false;
    p->head.minor = s[7] == '0' ? 0 : 1;
    return true;
}

/* Finds path and query: of "/p?q", of "http://host/p?q", of "*". */
static void split_target(struct http_head *h)
{
    const char *path = h->target;

    if (strncasecmp(path, "http://", 7) == 0 || strncasecmp(path, "https://", 8) == 0) {
        path = strchr(path, ':') + 3;
        path += strcspn(path, "/?");
    }
    h->path = path;
    h->path_len = strcspn(path, "?");
    h->query = path[h->path_len] == '?' ? path + h->path_len + 1 : "";
}

static bool parse_request_line(struct http_parser *p, char *line, size_t len)
{
    char *target = memchr(line, ' ', len);
    char *version = target != NULL ? strchr(target + 1, ' ') : NULL;

    if (version == NULL || version == target + 1 || !http_is_token(line, (size_t)(target - line)))
        return http_fail(p, 400, "the request line is malformed"), false;
    if (!parse_version(p, version + 1))
        return false;
    if (version[9] != '\0')
        return http_fail(p, 400, "the request line is malformed"), false;
    *target++ = '\0';
    *version = '\0';
    for (const char *c = target; *c != '\0'; c++) {
        if ((unsigned char)*c <= 0x20 || *c == 0x7f)
            return http_fail(p, 400, "the request target holds a control character"), false;
    }
    p->head.method = line;
    p->head.target = target;
    split_target(&p->head);
    return true;
}

static bool parse_status_line(struct http_parser *p, char *line, size_t len)
{
    if (!parse_version(p, line))
        return false;

    const char *digits = line + 8;

    if (len < 12 || digits[0] != ' ' || digits[1] < '1' || digits[1] > '9' || digits[2] < '0' ||
        digits[2] > '9' || digits[3] < '0' || digits[3] > '9' ||
        (digits[4] != ' ' && digits[4] != '\0'))
        return http_fail(p, 502, "the status line is malformed"), false;
    p->head.status = (digits[1] - '0') * 100 + (digits[2] - '0') * 10 + (digits[3] - '0');
    p->head.reason = digits[4] == ' ' ? digits + 5 : "";
    return true;
}

static bool parse_field(struct http_parser *p, char *line, size_t len)
{
    char *colon = memchr(line, ':', len);
    char *value, *end = line + len;

    if (line[0] == ' ' || line[0] == '\t')
        return http_fail(p, 400, "a header is folded over two lines"), false;
    if (colon == NULL || !http_is_token(line, (size_t)(colon - line)))
        return http_fail(p, 400, "a header has no valid name"), false;
    for (value = colon + 1; *value == ' ' || *value == '\t'; value++)
        continue;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = '\0';
    *colon = '\0';
    p->head.headers[p->head.n_headers++] = (struct http_header){line, value};
    return true;
}

/* Ends the line that starts at s with a NUL. NULL: it is not a line as it must be. */
static char *cut_line(struct http_parser *p, char *s, char *end, size_t *ret_len)
{
    char *nl = memchr(s, '\n', (size_t)(end - s));
    size_t len = (size_t)(nl - s);

    /* Old servers send bare LF; from a client it is an attempt to be understood in two ways. */
    if (len > 0 && s[len - 1] == '\r')
        len--;
    else if (!p->is_response)
        return http_fail(p, 400, "a line does not end with CRLF"), NULL;
    if (!http_is_text(s, len))
        return http_fail(p, 400, "the head holds a control character"), NULL;
    s[len] = '\0';
    *ret_len = len;
    return nl + 1;
}

static size_t count_lines(const char *s, const char *end)
{
    size_t n = 0;

    while (s < end && (s = memchr(s, '\n', (size_t)(end - s))) != NULL) {
        s++;
        n++;
    }
    return n;
}

static bool parse_lines(struct http_parser *p)
{
    char *s = (char *)buf_data(&p->bytes), *end = s + buf_len(&p->bytes);
    size_t n = count_lines(s, end), len;
    char *next = cut_line(p, s, end, &len);

    if (next == NULL)
        return false;
    if (n - 2 > HTTP_HEADERS_MAX)
        return http_fail(p, 431, "there are too many headers"), false;
    if (!(p->is_response ? parse_status_line(p, s, len) : parse_request_line(p, s, len)))
        return false;
    p->head.headers = xcalloc(n, sizeof(struct http_header));
    for (s = next; (next = cut_line(p, s, end, &len)) != NULL && len > 0; s = next) {
        if (!parse_field(p, s, len))
            return false;
    }
    return next != NULL;
}

static bool parse_length(struct http_parser *p, const char *value)
{
    size_t n = strspn(value, "0123456789");

    if (n == 0 || n > LENGTH_DIGITS_MAX || value[n] != '\0')
        return http_fail(p, 400, "Content-Length is not a number"), false;
    p->head.content_length = strtoull(value, NULL, 10);
    return true;
}

static size_t count_header(const struct http_head *h, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < h->n_headers; i++)
        n += strcasecmp(h->headers[i].name, name) == 0;
    return n;
}

static bool has_no_body(const struct http_parser *p)
{
    const struct http_head *h = &p->head;

    if (!p->is_response)
        return strcmp(h->method, "CONNECT") == 0;
    return p->bodyless || h->status < 200 || h->status == 204 || h->status == 304;
}

static bool find_framing(struct http_parser *p)
{
    struct http_head *h = &p->head;
    size_t lengths = count_header(h, "content-length");
    size_t codings = count_header(h, "transfer-encoding");

    if (lengths > 1 || codings > 1 || (lengths > 0 && codings > 0))
        return http_fail(p, 400, "the length of the body is given more than once"), false;
    if (lengths > 0 && !parse_length(p, http_header(h, "content-length")))
        return false;
    if (codings > 0 && h->minor == 0)
        return http_fail(p, 400, "HTTP/1.0 has no Transfer-Encoding"), false;
    if (codings > 0 && strcasecmp(http_header(h, "transfer-encoding"), "chunked") != 0)
        return http_fail(p, 501, "the only transfer encoding is chunked"), false;

    if (has_no_body(p))
        h->framing = HTTP_FRAMING_NONE;
    else if (codings > 0)
        h->framing = HTTP_FRAMING_CHUNKED;
    else if (lengths > 0)
        h->framing = h->content_length > 0 ? HTTP_FRAMING_LENGTH : HTTP_FRAMING_NONE;
    else
        h->framing = p->is_response ? HTTP_FRAMING_CLOSE : HTTP_FRAMING_NONE;
    return true;
}

static bool find_connection(struct http_parser *p)
{
    struct http_head *h = &p->head;
    size_t hosts = count_header(h, "host");

    if (!p->is_response && (hosts > 1 || (hosts == 0 && h->minor == 1)))
        return http_fail(p, 400, "there must be one Host header"), false;
    if (h->minor == 0)
        h->keep_alive = http_header_has(h, "connection", "keep-alive");
    else
        h->keep_alive = !http_header_has(h, "connection", "close");
    if (h->framing == HTTP_FRAMING_CLOSE)
        h->keep_alive = false;
    h->upgrade = http_header_has(h, "connection", "upgrade") && count_header(h, "upgrade") > 0;
    h->expect_continue = h->minor == 1 && h->framing != HTTP_FRAMING_NONE &&
                         http_header_has(h, "expect", "100-continue");
    return true;
}

bool http_parse_head(struct http_parser *p)
{
    return parse_lines(p) && find_framing(p) && find_connection(p);
}
