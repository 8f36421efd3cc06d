/*
 * The log of one sandbox: its own life, and the commands that its agent tells of. Bounded in
 * entries and in bytes; the oldest go first. Pure.
 */
#pragma once

#include "common/base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOGBOOK_NOTES_MAX = 2000, LOGBOOK_BYTES_MAX = 512 << 10, NOTE_FIELDS_MAX = 8 };

enum note_level { NOTE_DEBUG, NOTE_INFO, NOTE_WARN, NOTE_ERROR };

struct note_field {
    const char *name; /* a constant of ours, or checked to be one word */
    const char *value;
};

struct note {
    struct list node;
    int64_t time_ns;
    enum note_level level;
    size_t size;         /* all of it, in memory */
    const char *message; /* this and the values stand behind the record */
    size_t n_fields;
    struct note_field fields[NOTE_FIELDS_MAX];
};

struct logbook {
    struct list notes; /* oldest first */
    size_t n;
    size_t bytes;
};

void logbook_init(struct logbook *b);
void logbook_deinit(struct logbook *b);

/* Copies everything; at most NOTE_FIELDS_MAX fields. */
void logbook_add(struct logbook *b, int64_t time_ns, enum note_level level, const char *message,
                 const struct note_field *fields, size_t n_fields);

/* What is asked for. */
struct note_query {
    int64_t from_ns;       /* not before it */
    int64_t to_ns;         /* before it */
    bool backward;         /* newest first */
    enum note_level level; /* at least */
    const char *search;    /* in the message; NULL: anything */
    size_t limit;
};

void logbook_find(const struct logbook *b, const struct note_query *q,
                  void (*each)(void *ctx, const struct note *note), void *ctx);

const char *note_level_name(enum note_level level);
bool note_level_parse(const char *name, enum note_level *ret);
