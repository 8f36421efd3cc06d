/*
 * The way to what a stream shows: one follower in the sandbox at a time, or the archive when the
 * sandbox is gone. Each starts behind the last event that was delivered.
 */
#include "service/handlers/follow_impl.h"

#include "common/base/cleanup.h"
#include "common/journal/verbs.h"
#include "service/handlers/counts.h"
#include "service/handlers/input_spec.h"
#include "service/metrics/metrics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void on_stream_readable(struct e2b_op *op)
{
    follow_step(container_of(op, struct follow, op));
}

void follow_disconnect(struct follow *f)
{
    e2b_stream_free(TAKE(f->stream));
    archive_stream_free(TAKE(f->archived));
    f->stream_done = false;
}

static void on_stream_done(struct e2b_op *op)
{
    struct follow *f = follow_op_back(op);

    f->stream_done = true;
    if (f->state == FOLLOW_KILLING) {
        follow_disconnect(f);
        follow_kill(f);
    } else if (f->state == FOLLOW_FINISHED) {
        follow_disconnect(f);
    } else {
        follow_step(f);
    }
    call_unref(f->call);
}

static void count_resume(struct follow *f)
{
    bool asked = f->all != NULL ? f->all->cursor_len > 0 : f->from > 0;

    if (f->opened || asked)
        metric_count(f->app->resumes, f->opened ? RESUMED_BY_POD : RESUMED_BY_CALLER, 1);
    f->opened = true;
}

static void start_follower(struct follow *f, const struct log_view_args *args, const uint8_t *spec,
                           size_t spec_len)
{
    follow_enter(f, FOLLOW_OPEN);
    count_resume(f);
    follow_op_start(f, on_stream_done, INT64_MAX);
    f->stream = e2b_stream_start(f->app->e2b, &f->op, f->sandbox_id, args->list, spec, spec_len,
                                 on_stream_readable, &f->output);
}

/* Where it starts was found, even if nothing came from there yet. */
static bool has_begun(const struct follow *f)
{
    return f->delivered || f->relay.check.last_seq > f->from;
}

/* One for all commands, from where the last cursor says. */
static void start_watcher(struct follow *f)
{
    struct log_view_args args = {.n = 0};
    size_t len;
    AUTO_FREE uint8_t *spec = watch_spec_pack(f->all->cursor, f->all->cursor_len, &len);

    log_view_arg(&args, "watch");
    if (strcmp(f->until, "now") != 0)
        log_view_arg(&args, "--follow");
    log_view_args(&f->view, f->delivered, f->all->output, &args);
    relay_all_cut(f->all);
    start_follower(f, &args, spec, len);
}

void follow_connect(struct follow *f)
{
    struct log_view_args args = {.n = 0};
    bool begun = has_begun(f);

    if (f->all != NULL) {
        start_watcher(f);
        return;
    }
    if (f->spec != NULL) {
        log_view_arg(&args, "run");
    } else {
        log_view_arg(&args, "follow");
        log_view_arg(&args, "--id=%s", f->command_id);
    }
    if (f->watches)
        log_view_arg(&args, "--watches");
    log_view_arg(&args, "--from=%" PRIu64, f->relay.check.last_seq + 1);
    log_view_arg(&args, "--until=%s", f->until);
    log_view_args(&f->view, begun, f->relay.output, &args);
    f->relay.check.sparse = log_view_is_sparse(&f->view, begun);
    relay_cut(&f->relay);
    start_follower(f, &args, f->spec, f->spec_len);
}

/* The sandbox is gone: what follows, and the end of it all, is in the archive or nowhere. */
void follow_connect_archive(struct follow *f, const struct status *gone)
{
    bool begun = has_begun(f);
    struct archive_view view;

    log_view_archived(&f->view, f->until, begun, f->all != NULL ? f->all->output : f->relay.output,
                      &view);
    if (f->all != NULL) {
        view.cursor = f->all->cursor;
        view.cursor_len = f->all->cursor_len;
        relay_all_cut(f->all);
    } else {
        view.from = f->relay.check.last_seq + 1;
        f->relay.check.sparse = log_view_is_sparse(&f->view, begun);
        relay_cut(&f->relay);
    }
    f->gone = *gone;
    follow_enter(f, FOLLOW_OPEN);
    follow_op_start(f, on_stream_done, INT64_MAX);
    f->archived = archive_stream_start(f->app->archive, &f->op, f->sandbox_id, f->command_id, &view,
                                       on_stream_readable, &f->output);
}
