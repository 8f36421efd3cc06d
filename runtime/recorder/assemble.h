/*
 * An upload that came in parts: files beside the path, each named by where it begins, because every
 * stream that went on after a cut wrote a file of its own. Answers are
 * sandbox.v1.UploadFileResponse.
 */
#pragma once

#include "runtime/recorder/replace.h"

/* What becomes of an upload. */
struct assembly {
    const struct state *state;
    const struct place *place;
    struct content *content;
    /* Nothing of it is there: whether that is because it is done. Then out is the answer. */
    bool (*is_done)(const struct assembly *a, struct buf *out, struct status *st);
    /* All of it is there, and right: base is open, and locked, and called base_name beside
     * content->staged. */
    bool (*use)(const struct assembly *a, const char *base_name, int base, struct buf *out,
                struct status *st);
    /* After a failure of that: whether the same bytes can never do. NULL: it is not known. */
    bool (*is_hopeless)(const struct status *st);
};

/* out is also filled with RECORDER_UPLOAD_GAP. */
bool assembly_run(const struct assembly *a, struct buf *out, struct status *st);

/* How much is there, from the start on. c->staged: how the parts' names begin. */
bool assemble_look(const struct place *p, struct content *c, struct buf *out, struct status *st);

/*
 * Puts them together, checks size and digest, and gives the file its name if it may have it. Once
 * more, for a file that is there already, is a success. out is also filled with
 * RECORDER_UPLOAD_GAP.
 */
bool assemble(const struct state *s, const struct place *p, struct content *c, struct buf *out,
              struct status *st);
