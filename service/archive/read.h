/*
 * Reads what is archived of a sandbox and writes what the recorder's verbs would have written in
 * it: a follower's frames and marks, a watcher's messages, the frames of show and list. So who asks
 * need not know where the answer comes from. Waits, on the thread of a job.
 */
#pragma once

#include "common/base/buf.h"
#include "service/archive/archive.h"
#include "service/archive/archived.h"

/* Where the bytes go. False: nobody wants any more. */
struct read_sink {
    bool (*write)(struct read_sink *s, const uint8_t *data, size_t len);
};

/*
 * All return false with what is wrong in st. True: *ret->exit_code is enum recorder_exit, as the
 * verb's would be. Nothing archived of the sandbox at all is NOT_FOUND, LOG_EXPIRED.
 */
bool read_command(const struct archived_place *p, const char *command_id,
                  const struct archive_view *o, struct read_sink *to, struct e2b_output *ret,
                  struct status *st);
bool read_all(const struct archived_place *p, const struct archive_view *o, struct read_sink *to,
              struct status *st);

bool read_show(const struct archived_place *p, const char *command_id, struct buf *to,
               struct e2b_output *ret, struct status *st);
bool read_list(const struct archived_place *p, const struct archive_list_args *o, struct buf *to,
               struct status *st);

/* The sandbox is gone, and so nothing can follow event last_seq; always false. */
bool read_no_more(const char *sandbox_id, uint64_t last_seq, struct status *st);
bool read_nothing(const char *sandbox_id, struct status *st);
