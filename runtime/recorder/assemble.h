/*
 * An upload that came in parts: files beside the path, each named by where it begins, because every
 * stream that went on after a cut wrote a file of its own. Answers are
 * sandbox.v1.UploadFileResponse.
 */
#pragma once

#include "runtime/recorder/replace.h"

/* How much is there, from the start on. c->staged: how the parts' names begin. */
bool assemble_look(const struct place *p, struct content *c, struct buf *out, struct status *st);

/*
 * Puts them together, checks size and digest, and gives the file its name if it may have it. Once
 * more, for a file that is there already, is a success. out is also filled with
 * RECORDER_UPLOAD_GAP.
 */
bool assemble(const struct state *s, const struct place *p, struct content *c, struct buf *out,
              struct status *st);
