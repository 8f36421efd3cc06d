/*
 * What one reader sees of a journal: which events, and how output is written. Events go in, in
 * their order; frames for the reader come out.
 */
#pragma once

#include "common/base/buf.h"
#include "common/journal/lines.h"
#include "common/journal/tail.h"
#include "common/journal/text.h"

struct view_options {
    bool text, lines;
    unsigned streams;            /* whose output: a bit for each, from stdout on; see TAIL_… */
    int64_t since_ns, before_ns; /* 0: no bound */
    uint64_t limit_bytes;        /* 0: none */
};

struct view {
    const struct view_options *o; /* borrowed */
    uint64_t from;                /* the first event wanted */
    struct tail_place tail;       /* the start may be within events; all 0: it is not */
    struct lines *lines;          /* owned; NULL without */
    struct text text;
    uint64_t seen;   /* the last event that was considered */
    uint64_t told;   /* the last one that the reader knows to be: by an event, or a mark */
    uint64_t output; /* bytes of it that went out */
    bool exited, closed;
    bool over; /* limit or time: nothing more is wanted */
};

/* format: of the record, as its recorder numbers them. */
enum { VIEW_FORMAT_NOW = 2 };
void view_init(struct view *v, const struct view_options *o, uint64_t from, uint32_t format);
void view_deinit(struct view *v);

/* Finds what of earlier events still matters where part i starts. */
void view_look_back(struct view *v, struct parts *p, size_t i);

/* Whether events go out as they are recorded, from `from` on. */
bool view_is_plain(const struct view *v);

/* Takes an event. Frames, or none, are appended to to, which has room for VIEW_ROOM. False: the
 * event is none that a recorder writes. */
enum { VIEW_ROOM = JOURNAL_FRAME_MAX + 32 };
bool view_take(struct view *v, const struct journal_event *e, const uint8_t *frame, size_t len,
               struct buf *to);

/* The same for a plain view, where the caller writes the frame. */
void view_pass(struct view *v, const struct journal_event *e);

/* Appends a mark when the reader does not know what was considered. */
void view_mark(struct view *v, struct buf *to);
