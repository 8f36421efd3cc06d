/*
 * See descriptors.h. The set is our own and trusted, so it is walked by hand for the few fields
 * that matter, once, when it is first asked for; thereafter it is only read, from any thread.
 */
#include "service/handlers/descriptors.h"

#include "common/base/mem.h"
#include "proto/embedded_descriptor_set.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Field numbers of google.protobuf.*Descriptor*. */
enum {
    SET_FILE = 1,
    FILE_NAME = 1,
    FILE_PACKAGE = 2,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    MESSAGE_FIELD = 2,
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    MESSAGE_ONEOF = 8,
    ENUM_VALUE = 2,
    SERVICE_METHOD = 2,
    ANY_NAME = 1,
};

enum { FILES_MAX = 64, SYMBOL_MAX = 256 };

struct symbol {
    char *name; /* owned, for the program's life */
    const struct descriptor_file *file;
};

static struct descriptor_file files[FILES_MAX];
static size_t n_files;
static struct symbol *file_names, *symbols;
static size_t n_file_names, n_symbols;
static pthread_once_t once = PTHREAD_ONCE_INIT;

struct field {
    unsigned number;
    const uint8_t *data; /* length-delimited ones only */
    size_t len;
};

static uint64_t read_varint(const uint8_t **at)
{
    uint64_t value = 0;

    for (int shift = 0;; shift += 7) {
        uint8_t byte = *(*at)++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

/* Steps to the next length-delimited field; the others in these messages are varints. */
static bool next_field(const uint8_t **at, const uint8_t *end, struct field *ret)
{
    while (*at < end) {
        uint64_t tag = read_varint(at), value = read_varint(at);

        if ((tag & 7) != 2)
            continue;
        *ret = (struct field){.number = (unsigned)(tag >> 3), .data = *at, .len = value};
        *at += value;
        return true;
    }
    return false;
}

static void find_text(const struct field *in, unsigned number, char *to, size_t size)
{
    const uint8_t *at = in->data;
    struct field f;

    to[0] = '\0';
    while (next_field(&at, in->data + in->len, &f)) {
        if (f.number == number)
            snprintf(to, size, "%.*s", (int)f.len, (const char *)f.data);
    }
}

static void add(struct symbol **list, size_t *n, const char *name,
                const struct descriptor_file *file)
{
    if ((*n & (*n - 1)) == 0) /* at each power of two */
        *list = xrealloc(*list, (*n != 0 ? 2 * *n : 1) * sizeof(**list));
    (*list)[(*n)++] = (struct symbol){.name = xstrdup(name), .file = file};
}

/* scope.NAME of the thing; also the symbols of what is in it, by the fields in inner. */
static void add_scoped(const struct field *thing, const char *scope, const unsigned *inner,
                       const struct descriptor_file *file)
{
    char name[SYMBOL_MAX / 2], symbol[SYMBOL_MAX];
    const uint8_t *at = thing->data;
    struct field f;

    find_text(thing, ANY_NAME, name, sizeof(name));
    snprintf(symbol, sizeof(symbol), "%.*s%s%s", (int)sizeof(symbol) / 2 - 2, scope,
             scope[0] != '\0' ? "." : "", name);
    add(&symbols, &n_symbols, symbol, file);
    while (next_field(&at, thing->data + thing->len, &f)) {
        for (const unsigned *i = inner; *i != 0; i++) {
            if (f.number == *i)
                add_scoped(&f, symbol, *i == MESSAGE_NESTED ? inner : (const unsigned[]){0}, file);
        }
    }
}

static void add_file(const struct field *in)
{
    static const unsigned message[] = {MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF,
                                       0};
    static const unsigned service[] = {SERVICE_METHOD, 0};
    static const unsigned enumeration[] = {ENUM_VALUE, 0};
    struct descriptor_file *file = &files[n_files++];
    const uint8_t *at = in->data;
    char package[SYMBOL_MAX / 2], name[SYMBOL_MAX];
    struct field f;

    *file = (struct descriptor_file){.data = in->data, .len = in->len};
    find_text(in, FILE_NAME, name, sizeof(name));
    find_text(in, FILE_PACKAGE, package, sizeof(package));
    add(&file_names, &n_file_names, name, file);
    while (next_field(&at, in->data + in->len, &f)) {
        if (f.number == FILE_MESSAGE)
            add_scoped(&f, package, message, file);
        else if (f.number == FILE_ENUM)
            add_scoped(&f, package, enumeration, file);
        else if (f.number == FILE_SERVICE)
            add_scoped(&f, package, service, file);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct symbol *)a)->name, ((const struct symbol *)b)->name);
}

static void load(void)
{
    const uint8_t *at = descriptor_set_start;
    struct field f;

    while (n_files < FILES_MAX && next_field(&at, descriptor_set_end, &f)) {
        if (f.number == SET_FILE)
            add_file(&f);
    }
    qsort(file_names, n_file_names, sizeof(struct symbol), by_name);
    qsort(symbols, n_symbols, sizeof(struct symbol), by_name);
}

static const struct descriptor_file *find(struct symbol *const *list, const size_t *n,
                                          const char *name)
{
    struct symbol key = {.name = (char *)name}, *found;

    pthread_once(&once, load);
    found = bsearch(&key, *list, *n, sizeof(key), by_name);
    return found != NULL ? found->file : NULL;
}

const struct descriptor_file *descriptors_by_name(const char *name)
{
    return find(&file_names, &n_file_names, name);
}

const struct descriptor_file *descriptors_by_symbol(const char *symbol)
{
    return find(&symbols, &n_symbols, symbol);
}
