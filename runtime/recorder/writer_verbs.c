/* What verbs ask of the writer, through its clients: see writer.h. In the writer's loop. */
#include "common/journal/verbs.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/proc.h"
#include "runtime/recorder/streams.h"
#include "runtime/recorder/terminal.h"
#include "runtime/recorder/writer.h"

#include <signal.h>
#include <unistd.h>

static size_t send_to(const struct writer *w, int signal, int target)
{
    pid_t pid = w->command.pid;

    switch (target) {
    case CONTROL_PROCESS:
        return !w->dead && kill(pid, signal) == 0;
    case CONTROL_GROUP:
        if (w->spec->meta.terminal && w->streams[0].open && !w->dead) {
            pid_t group = terminal_foreground(w->streams[0].source.fd);

            if (group != 0)
                return kill(-group, signal) == 0;
        }
        /* While it is not reaped its number is taken, so the group is its own. */
        return w->dead ? proc_signal_group_below(getpid(), pid, signal) : kill(-pid, signal) == 0;
    default:
        return proc_signal_descendants(getpid(), signal);
    }
}

int writer_signal(struct writer *w, int signal, int target)
{
    if (signal < 1 || signal > 64 || target < CONTROL_PROCESS || target > CONTROL_TREE)
        return RECORDER_USAGE;
    if (w->command.pid == 0)
        return RECORDER_ENDED;
    w->sent_signal = signal;
    if (send_to(w, signal, target) == 0)
        return RECORDER_ENDED;
    if (signal == SIGKILL && target == CONTROL_TREE)
        proc_kill_descendants(getpid());
    return RECORDER_OK;
}

int writer_ack(struct writer *w, uint64_t seq)
{
    if (seq > journal_file_last_seq(&w->journal))
        return RECORDER_OUT_OF_RANGE;
    if (seq > w->acked_seq) {
        w->acked_seq = seq;
        acked_write(w->dir, seq);
        streams_unblock(w);
    }
    return RECORDER_OK;
}

int writer_resize(struct writer *w, struct terminal_size size)
{
    if (!w->spec->meta.terminal)
        return RECORDER_NO_TERMINAL;
    if (size.cols == 0 || size.rows == 0)
        return RECORDER_USAGE;
    if (w->dead || !w->streams[0].open || !terminal_resize(w->streams[0].source.fd, size))
        return RECORDER_ENDED;
    size_write(w->dir, size);
    return RECORDER_OK;
}
