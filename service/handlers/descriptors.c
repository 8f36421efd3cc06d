/*
 * See descriptors.h. The set is our own, so it is walked on the wire for the few fields that
 * matter, once, when it is first asked for; after that it is only read.
 */
#include "service/handlers/descriptors.h"

#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "proto/embedded_descriptor_set.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Field numbers of google.protobuf.FileDescriptorSet and FileDescriptorProto. */
enum { SET_FILE = 1, FILE_NAME = 1, FILE_PACKAGE = 2, FILE_DEPENDENCY = 3 };
/* Of every other descriptor. */
enum { ANY_NAME = 1 };

/* A field that holds something with a name, and what that in turn holds. */
struct part {
    uint32_t field; /* 0 ends a table */
    const struct part *inner;
    bool beside; /* its name is in the scope around, not within */
};

static const struct part enum_parts[] = {
    {2, NULL, true}, /* value */
    {0},
};

static const struct part service_parts[] = {
    {2}, /* method */
    {0},
};

static const struct part message_parts[] = {
    {2},                /* field */
    {3, message_parts}, /* nested_type */
    {4, enum_parts},    /* enum_type */
    {6},                /* extension */
    {8},                /* oneof_decl */
    {0},
};

static const struct part file_parts[] = {
    {4, message_parts}, /* message_type */
    {5, enum_parts},    /* enum_type */
    {6, service_parts}, /* service */
    {7},                /* extension */
    {0},
};

struct entry {
    char *name; /* owned, for the program's life */
    const struct descriptor_file *file;
};

struct index {
    struct entry *entries; /* owned; sorted by name */
    size_t n, size;
};

static struct descriptor_file files[DESCRIPTORS_MAX];
static struct index names, symbols;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- an index --- */

static void index_add(struct index *x, char *name_taken, const struct descriptor_file *file)
{
    if (x->n == x->size) {
        x->size = x->size != 0 ? 2 * x->size : 64;
        x->entries = xrealloc(x->entries, x->size * sizeof(x->entries[0]));
    }
    x->entries[x->n++] = (struct entry){.name = name_taken, .file = file};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void index_sort(struct index *x)
{
    qsort(x->entries, x->n, sizeof(x->entries[0]), by_name);
}

static const struct descriptor_file *index_find(const struct index *x, const char *name)
{
    const struct entry key = {.name = (char *)name};
    const struct entry *found = bsearch(&key, x->entries, x->n, sizeof(key), by_name);

    return found != NULL ? found->file : NULL;
}

/* --- filling them --- */

static char *text_field(const uint8_t *data, size_t len, uint32_t number)
{
    struct pb_reader r = pb_reader(data, len);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (f.number == number && f.wire == PB_BYTES)
            return xstrndup((const char *)f.data, f.len);
    }
    return xstrdup("");
}

static char *join(const char *scope, const char *name)
{
    return xasprintf("%s%s%s", scope, *scope != '\0' ? "." : "", name);
}

/* Everything with a name in data, whose own full name is scope; around: the scope it is in. */
static void add_parts(const uint8_t *data, size_t len, const struct part *parts, const char *scope,
                      const char *around, const struct descriptor_file *file)
{
    struct pb_reader r = pb_reader(data, len);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        for (const struct part *p = parts; p->field != 0; p++) {
            char *name, *full;

            if (f.number != p->field || f.wire != PB_BYTES)
                continue;
            name = text_field(f.data, f.len, ANY_NAME);
            full = join(p->beside ? around : scope, name);
            index_add(&symbols, full, file);
            if (p->inner != NULL)
                add_parts(f.data, f.len, p->inner, full, scope, file);
            free(name);
        }
    }
}

static void add_file(const struct descriptor_file *file)
{
    char *package = text_field(file->data, file->len, FILE_PACKAGE);

    index_add(&names, text_field(file->data, file->len, FILE_NAME), file);
    add_parts(file->data, file->len, file_parts, package, "", file);
    free(package);
}

static void load(void)
{
    struct pb_reader r =
        pb_reader(descriptor_set_start, (size_t)(descriptor_set_end - descriptor_set_start));
    struct pb_field f;
    size_t n = 0;

    while (n < DESCRIPTORS_MAX && pb_next(&r, &f)) {
        if (f.number != SET_FILE)
            continue;
        files[n] = (struct descriptor_file){.data = f.data, .len = f.len};
        add_file(&files[n++]);
    }
    index_sort(&names);
    index_sort(&symbols);
}

/* --- asking --- */

const struct descriptor_file *descriptors_by_name(const char *name)
{
    pthread_once(&once, load);
    return index_find(&names, name);
}

const struct descriptor_file *descriptors_by_symbol(const char *symbol)
{
    pthread_once(&once, load);
    return index_find(&symbols, symbol);
}

static bool is_among(const struct descriptor_file *const *list, size_t n,
                     const struct descriptor_file *file)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i] == file)
            return true;
    }
    return false;
}

/* Appends what the file imports, then the file: nothing imports in a circle. */
static void add_behind_imports(const struct descriptor_file *file,
                               const struct descriptor_file *ret[DESCRIPTORS_MAX], size_t *n)
{
    struct pb_reader r = pb_reader(file->data, file->len);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        const struct descriptor_file *import;
        char *name;

        if (f.number != FILE_DEPENDENCY || f.wire != PB_BYTES)
            continue;
        name = xstrndup((const char *)f.data, f.len);
        import = descriptors_by_name(name);
        free(name);
        if (import != NULL && !is_among(ret, *n, import))
            add_behind_imports(import, ret, n);
    }
    ret[(*n)++] = file; /* one of files[], each at most once: it fits */
}

size_t descriptors_with_imports(const struct descriptor_file *file,
                                const struct descriptor_file *ret[DESCRIPTORS_MAX])
{
    size_t n = 0;

    add_behind_imports(file, ret, &n);
    for (size_t i = 0; i < n / 2; i++) {
        const struct descriptor_file *other = ret[n - 1 - i];

        ret[n - 1 - i] = ret[i];
        ret[i] = other;
    }
    return n;
}
