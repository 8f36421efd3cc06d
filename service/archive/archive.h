/*
 * The archive of commands as handlers see it: copies what a sandbox recorded before it is gone, and
 * reads it afterwards. All asynchronous, as service/e2b is, and with its struct e2b_op: an
 * operation ends exactly once, by op->done() on op->executor. Once started it is not cancelled but
 * by its deadline; e2b_cancel() does nothing to it.
 */
#pragma once

#include "common/journal/tail.h"
#include "common/journal/view.h"
#include "service/e2b/e2b.h"

#include <stdatomic.h>
#include <stdbool.h>

struct archive;
struct archive_figures;

struct archive_config {                  /* borrowed for the call */
    const char *place;                   /* a directory, or s3://BUCKET/PREFIX */
    const char *s3_endpoint, *s3_region; /* NULL: AWS's own */
    const char *s3_access_key_id, *s3_secret_access_key, *s3_session_token; /* secrets; NULL */
    int64_t timeout_ms;                                                     /* of a whole copy */
    int64_t before_end_ms;           /* sandboxes are copied so long before their end; 0: not */
    struct archive_figures *figures; /* borrowed for the archive's life */
};

bool archive_new(const struct archive_config *config, struct e2b *e, struct archive **ret,
                 struct status *st);
/* Waits for what runs. No stream may be left. */
void archive_free(struct archive *a);

/*
 * Copies what a sandbox has recorded. OK: all of it is in the archive, or nothing was recorded. A
 * failure left a part of it there; another try goes on from it.
 */
void archive_copy(struct archive *a, struct e2b_op *op, const char *sandbox_id);

/* --- of a sandbox that is gone; NOT_FOUND, LOG_EXPIRED: nothing of it is archived --- */

enum archive_until { ARCHIVE_NOW, ARCHIVE_EXITED, ARCHIVE_CLOSED };

struct archive_view {
    struct view_options view;
    uint64_t from; /* of one command; at least 1 */
    enum archive_until until;
    enum tail_unit tail;
    uint64_t tail_amount;
    const uint8_t *cursor; /* of all commands; borrowed for the call */
    size_t cursor_len;
};

/*
 * What a follower of the command would have written, or with an empty command_id a watcher; as
 * e2b_stream_start() and its like. readable and done come on op->executor.
 */
struct archive_stream;

struct archive_stream *archive_stream_start(struct archive *a, struct e2b_op *op,
                                            const char *sandbox_id, const char *command_id,
                                            const struct archive_view *view,
                                            void (*readable)(struct e2b_op *op),
                                            struct e2b_output *ret);
bool archive_stream_take(struct archive_stream *s, size_t headroom, uint8_t **ret_base,
                         size_t *ret_len);
/* Nobody wants any more of it: done comes soon. */
void archive_stream_cancel(struct archive_stream *s);
/* After done only. */
void archive_stream_free(struct archive_stream *s);

/* What the recorder's show and list would have printed, in ret->out. */
void archive_show(struct archive *a, struct e2b_op *op, const char *sandbox_id,
                  const char *command_id, struct e2b_output *ret);

struct archive_list_args { /* borrowed until done */
    const char *after;     /* "<start ns>:<id>" of the last command seen; NULL: from the start */
    size_t limit;
    unsigned states; /* bits 1 << Command.State; 0: all */
    const struct e2b_pair *labels;
    size_t n_labels;
};

void archive_list(struct archive *a, struct e2b_op *op, const char *sandbox_id,
                  const struct archive_list_args *args, struct e2b_output *ret);
