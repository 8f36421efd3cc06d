/*
 * See lost.h. Called by whoever looks at a command. Looking is done without the lock: only a
 * command that is found without a writer and without an end is locked, and looked at again.
 */
#include "runtime/recorder/lost.h"

#include "common/base/cleanup.h"
#include "common/journal/text.h"
#include "runtime/recorder/claim.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/journal_file.h"
#include "runtime/recorder/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { REASON_LOST = 8 };

static bool end_is_known(int dir)
{
    struct end_record end;

    return end_read(dir, &end) && end.last_seq != 0;
}

/* Looks for the end in one segment. */
static void find_in(int dir, const struct segment *s, struct end_record *end)
{
    AUTO_CLOSE int fd = segment_open(dir, s, O_RDONLY);
    uint64_t bytes = s->bytes_before;
    struct segment_walk w;
    struct journal_event e;

    if (fd < 0)
        return;
    segment_walk_init(&w, fd, 0);
    while (segment_walk_next(&w, &e) == JOURNAL_FRAME) {
        if (e.kind == JOURNAL_EXITED && w.frame_len <= sizeof(end->exited)) {
            memcpy(end->exited, w.frame, w.frame_len);
            end->exited_len = w.frame_len;
            end->exited_seq = e.seq;
            end->bytes_before = bytes;
        }
        if (e.kind == JOURNAL_CLOSED)
            end->last_seq = e.seq;
        bytes += event_bytes(&e);
    }
    segment_walk_deinit(&w);
}

/* What is recorded of the end; exited_len is 0 when nothing is. */
static void find_end(const struct journal_file *j, struct end_record *ret)
{
    end_read(j->dir, ret);
    /* `closed` can only be in the newest. */
    for (size_t i = j->segments.n; i > 0; i--) {
        find_in(j->dir, &j->segments.list[i - 1], ret);
        if (ret->exited_len != 0)
            break;
    }
}

/* Where the writer's guard has not done it yet, or was killed too. */
static void kill_rest(const struct pid_record *pid)
{
    char boot_id[sizeof(pid->boot_id)];

    proc_boot_id(boot_id, sizeof(boot_id));
    if (pid->start_ticks != 0 && strcmp(pid->boot_id, boot_id) == 0)
        proc_kill_session((pid_t)pid->pid, pid->start_ticks);
}

/* The writer notes the process, lets it go, and records that it started: in this order. */
static const char *explain_lost(bool has_process, bool started)
{
    if (started)
        return "what recorded the command was killed, and the command with it";
    if (has_process)
        return "what was to record the command was killed as it started: it may have begun to run";
    return "the command was never started: what was to record it was killed";
}

/*
 * What the command left unfinished gets the empty event that ends it, as the writer does. Best
 * effort: on a full disk readers of whole lines do without.
 */
static void end_lines(struct journal_file *j)
{
    AUTO(segments_deinit) struct segments s = {0};
    struct segment_parts parts;
    struct text text = {0};

    segments_list(j->dir, &s);
    segment_parts_init(&parts, j->dir, &s);
    text_look_back(&text, &parts.parts, s.n);
    for (int i = 0; i < TEXT_STREAMS; i++) {
        const struct utf8_tail *tail = &text.streams[i].tail;

        if (tail->n > 0 && tail->bytes[tail->n - 1] != '\n') {
            j->offsets[i] = text.streams[i].offset;
            journal_file_output(j, JOURNAL_STDOUT + i, NULL, 0);
        }
    }
}

static bool append_lost(struct journal_file *j, struct end_record *end)
{
    struct pid_record pid = {0};
    bool has_process = pid_read(j->dir, &pid);
    struct journal_exit exit = {
        .reason = REASON_LOST,
        .code = 137,
        .message = explain_lost(has_process, j->next_seq > 1),
    };

    if (has_process)
        kill_rest(&pid);
    end_lines(j);
    if (journal_file_exited(j, &exit, end))
        return true;
    unlinkat(j->dir, "reserve", 0);
    return journal_file_exited(j, &exit, end);
}

static bool append_closed(struct journal_file *j, struct end_record *end)
{
    if (journal_file_closed(j, end))
        return true;
    unlinkat(j->dir, "reserve", 0);
    return journal_file_closed(j, end);
}

/* With the lock held. */
static bool settle(int dir, struct status *st)
{
    AUTO(journal_file_deinit) struct journal_file j = {.fd = -1};
    AUTO(meta_deinit) struct meta m = {0};
    struct end_record end;

    if (end_is_known(dir))
        return true;
    if (!meta_read(dir, &m, st))
        return false;
    journal_file_init(&j, dir, &m);
    if (!journal_file_resume(&j)) {
        if (errno == EBADMSG)
            return fault(st, RECORDER_DATA_LOSS, "the journal does not hold together");
        return fault_errno(st, "the journal cannot be opened");
    }
    find_end(&j, &end);
    if ((end.exited_len == 0 && !append_lost(&j, &end)) ||
        (end.last_seq == 0 && !append_closed(&j, &end)))
        return fault_errno(st, "the end of a lost command cannot be recorded");
    unlinkat(dir, "reserve", 0);
    unlinkat(dir, "control", 0);
    end_write(dir, &end); /* a convenience: without it the next one finds the same */
    return true;
}

enum settle_result lost_settle(int dir, struct status *st)
{
    AUTO_CLOSE int lock = -1;

    if (lock_is_held(dir))
        return SETTLE_ALIVE;
    if (end_is_known(dir))
        return SETTLE_ENDED;
    lock = lock_take(dir);
    if (lock < 0)
        return SETTLE_ALIVE;
    return settle(dir, st) ? SETTLE_ENDED : SETTLE_FAILED;
}
