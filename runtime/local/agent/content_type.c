/*
 * See content_type.h. Bytes are looked at as browsers do it (mimesniff.spec.whatwg.org), in the
 * part of it that matters for files: signatures, else whether there is anything that no text has.
 */
#include "runtime/local/agent/content_type.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define TEXT "text/plain; charset=utf-8"
#define HTML "text/html; charset=utf-8"

static const struct {
    const char *extension;
    const char *type;
} by_name[] = {
    {"css", "text/css; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"htm", HTML},
    {"html", HTML},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"md", "text/markdown; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"txt", TEXT},
    {"wasm", "application/wasm"},
    {"webp", "image/webp"},
    {"xml", "text/xml; charset=utf-8"},
    {"zip", "application/zip"},
};

static const struct {
    const char *bytes;
    size_t len;
    const char *type;
} signatures[] = {
    {"%PDF-", 5, "application/pdf"},
    {"\x89PNG\r\n\x1a\n", 8, "image/png"},
    {"\xff\xd8\xff", 3, "image/jpeg"},
    {"GIF87a", 6, "image/gif"},
    {"GIF89a", 6, "image/gif"},
    {"\x1f\x8b\x08", 3, "application/x-gzip"},
    {"PK\x03\x04", 4, "application/zip"},
    {"\0asm", 4, "application/wasm"},
    {"%!PS-Adobe-", 11, "application/postscript"},
    {"\xef\xbb\xbf", 3, TEXT},
    {"\xff\xfe", 2, "text/plain; charset=utf-16le"},
    {"\xfe\xff", 2, "text/plain; charset=utf-16be"},
};

/* Behind blanks, in any case, and followed by a blank or ">". */
static const char *const html_starts[] = {
    "<!doctype html", "<html", "<head",  "<script", "<iframe", "<h1",   "<div", "<font",
    "<table",         "<a",    "<style", "<title",  "<b",      "<body", "<br",  "<p",
};

const char *content_type_of_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');

    for (size_t i = 0; dot && i < sizeof(by_name) / sizeof(*by_name); i++)
        if (strcasecmp(dot + 1, by_name[i].extension) == 0)
            return by_name[i].type;
    return NULL;
}

static const char *of_markup(const uint8_t *start, size_t len)
{
    const char *at = (const char *)start;
    size_t n = len;

    while (n > 0 && strchr("\t\n\f\r ", *at) && *at) {
        at++;
        n--;
    }
    for (size_t i = 0; i < sizeof(html_starts) / sizeof(*html_starts); i++) {
        size_t size = strlen(html_starts[i]);

        if (n > size && strncasecmp(at, html_starts[i], size) == 0 &&
            (at[size] == ' ' || at[size] == '>'))
            return HTML;
    }
    if (n >= 4 && memcmp(at, "<!--", 4) == 0)
        return HTML;
    return n >= 5 && memcmp(at, "<?xml", 5) == 0 ? "text/xml; charset=utf-8" : NULL;
}

static bool is_of_no_text(uint8_t byte)
{
    return byte <= 0x08 || byte == 0x0b || (byte >= 0x0e && byte <= 0x1a) ||
           (byte >= 0x1c && byte <= 0x1f);
}

const char *content_type_of_bytes(const uint8_t *start, size_t len)
{
    const char *markup = of_markup(start, len);

    if (markup)
        return markup;
    for (size_t i = 0; i < sizeof(signatures) / sizeof(*signatures); i++)
        if (len >= signatures[i].len && memcmp(start, signatures[i].bytes, signatures[i].len) == 0)
            return signatures[i].type;
    for (size_t i = 0; i < len; i++)
        if (is_of_no_text(start[i]))
            return "application/octet-stream";
    return TEXT;
}
