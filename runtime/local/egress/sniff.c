/*
 * See egress_sniff.h. A ClientHello is one handshake message, which may be cut into records; the
 * records are joined first, then the message is read from front to back, each part within the
 * bounds of the one around it.
 */
#include "runtime/local/egress/sniff.h"

#include "common/http/parser.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum {
    RECORD_HANDSHAKE = 22,
    RECORD_HEADER = 5,
    RECORD_MAX = 16384,
    CLIENT_HELLO = 1,
    EXTENSION_SERVER_NAME = 0,
    NAME_HOST = 0,
};

enum egress_sniff egress_name_copy(const char *from, size_t len,
                                   char name[static EGRESS_NAME_MAX + 1])
{
    struct in_addr v4;

    if (len > 0 && from[len - 1] == '.')
        len--;
    if (len == 0 || len > EGRESS_NAME_MAX || from[0] == '.')
        return EGRESS_SNIFF_NONE;
    for (size_t i = 0; i < len; i++) {
        char c = from[i];

        if (c >= 'A' && c <= 'Z')
            c = (char)(c + ('a' - 'A'));
        else if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                   c == '.'))
            return EGRESS_SNIFF_NONE;
        name[i] = c;
    }
    name[len] = '\0';
    return inet_pton(AF_INET, name, &v4) == 1 ? EGRESS_SNIFF_NONE : EGRESS_SNIFF_NAME;
}

/* Bytes still to be read. What is asked for beyond the end fails for good. */
struct reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static const uint8_t *take(struct reader *r, size_t n)
{
    const uint8_t *at = r->at;

    if (r->failed || n > r->left) {
        r->failed = true;
        return NULL;
    }
    r->at += n;
    r->left -= n;
    return at;
}

/* A number of n bytes, in network order. */
static size_t take_number(struct reader *r, size_t n)
{
    const uint8_t *at = take(r, n);
    size_t number = 0;

    for (size_t i = 0; at != NULL && i < n; i++)
        number = number << 8 | at[i];
    return number;
}

/* A part that begins with its length in n bytes. */
static struct reader take_part(struct reader *r, size_t n)
{
    size_t len = take_number(r, n);
    const uint8_t *at = take(r, len);

    return (struct reader){at, at != NULL ? len : 0, at == NULL};
}

static enum egress_sniff read_server_name(struct reader list, char *name)
{
    struct reader names = take_part(&list, 2);

    while (!names.failed && names.left > 0) {
        size_t type = take_number(&names, 1);
        struct reader host = take_part(&names, 2);

        if (!host.failed && type == NAME_HOST)
            return egress_name_copy((const char *)host.at, host.left, name);
    }
    return EGRESS_SNIFF_NONE;
}

static enum egress_sniff read_hello(struct reader hello, char *name)
{
    struct reader extensions;

    take(&hello, 2 + 32); /* version, random */
    take_part(&hello, 1); /* session */
    take_part(&hello, 2); /* ciphers */
    take_part(&hello, 1); /* compressions */
    extensions = take_part(&hello, 2);
    while (!extensions.failed && extensions.left > 0) {
        size_t type = take_number(&extensions, 2);
        struct reader extension = take_part(&extensions, 2);

        if (!extension.failed && type == EXTENSION_SERVER_NAME)
            return read_server_name(extension, name);
    }
    return EGRESS_SNIFF_NONE;
}

enum egress_sniff egress_sniff_tls(const uint8_t *data, size_t len,
                                   char name[static EGRESS_NAME_MAX + 1])
{
    uint8_t message[EGRESS_SNIFF_MAX];
    size_t message_len = 0, want = 4;

    while (message_len < want) {
        size_t part, here, room;

        if (len > 0 && data[0] != RECORD_HANDSHAKE)
            return EGRESS_SNIFF_NONE;
        if (len < RECORD_HEADER)
            return EGRESS_SNIFF_MORE;
        part = (size_t)data[3] << 8 | data[4];
        if (data[1] != 3 || part == 0 || part > RECORD_MAX)
            return EGRESS_SNIFF_NONE;
        here = part < len - RECORD_HEADER ? part : len - RECORD_HEADER;
        room = sizeof(message) - message_len; /* behind the message there may be others */
        memcpy(message + message_len, data + RECORD_HEADER, here < room ? here : room);
        message_len += here < room ? here : room;
        if (message_len >= 4) {
            want = 4 + ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
            if (message[0] != CLIENT_HELLO || want > sizeof(message))
                return EGRESS_SNIFF_NONE;
        }
        if (here < part && message_len < want)
            return EGRESS_SNIFF_MORE;
        data += RECORD_HEADER + here;
        len -= RECORD_HEADER + here;
    }
    return read_hello((struct reader){message + 4, want - 4, false}, name);
}

/* The authority's host in "http://host:port/…" is to be the one in the Host header. */
static bool target_agrees(const struct http_head *h, const char *host)
{
    size_t len = strlen(host);

    if (*h->target == '/' || strcmp(h->target, "*") == 0)
        return true;
    return strncasecmp(h->target, "http://", 7) == 0 &&
           strncasecmp(h->target + 7, host, len) == 0 &&
           (h->target[7 + len] == '/' || h->target[7 + len] == '?' || h->target[7 + len] == '\0');
}

enum egress_sniff egress_sniff_http(const uint8_t *data, size_t len,
                                    char name[static EGRESS_NAME_MAX + 1])
{
    enum egress_sniff result = EGRESS_SNIFF_NONE;
    struct http_parser parser;
    struct http_slice body;
    const char *host;
    size_t used;

    http_parser_init(&parser, false);
    switch (http_parser_next(&parser, data, len, &used, &body)) {
    case HTTP_NEED_MORE:
        result = EGRESS_SNIFF_MORE;
        break;
    case HTTP_HEAD:
        host = http_header(&parser.head, "host");
        if (host != NULL && target_agrees(&parser.head, host))
            result = egress_name_copy(host, strcspn(host, ":"), name);
        break;
    case HTTP_BODY:
    case HTTP_END:
    case HTTP_ERROR:
        break;
    }
    http_parser_deinit(&parser);
    return result;
}
