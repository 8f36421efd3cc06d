/*
 * See drive.h. Each is one question to the writer over its control socket. A command whose writer
 * is gone has ended, and its record answers what can still be answered.
 */
#include "runtime/recorder/drive.h"

#include "common/base/cleanup.h"
#include "runtime/recorder/claim.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/input.h"
#include "runtime/recorder/lost.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/spec.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool ended(const struct request *r, struct status *st)
{
    return fault(st, RECORDER_ENDED, "the command %s has ended", r->id);
}

/*
 * Opens the command and connects to its writer. *ret_fd is -1 when there is none any more; then the
 * journal has its end. A writer that is starting is waited for.
 */
static bool reach_writer(const struct state *s, const struct request *r, int *ret_dir, int *ret_fd,
                         struct status *st)
{
    enum { TRIES = 1000, TRY_US = 5000 };

    if (!state_open_command(s, r->id, ret_dir, st) || !claim_is_native(*ret_dir, r->sandbox, st))
        return false;
    for (int i = 0; i < TRIES; i++) {
        *ret_fd = control_connect(*ret_dir);
        if (*ret_fd >= 0)
            return true;
        switch (lost_settle(*ret_dir, st)) {
        case SETTLE_ENDED:
            return true;
        case SETTLE_FAILED:
            return false;
        case SETTLE_ALIVE:
            usleep(TRY_US);
            break;
        }
    }
    return fault(st, RECORDER_INTERNAL, "the recorder of the command does not answer");
}

static bool answered(const struct request *r, const struct control_packet *p, struct status *st)
{
    switch (p->m.status) {
    case RECORDER_OK:
        return true;
    case RECORDER_ENDED:
        return ended(r, st);
    case RECORDER_STDIN_CLOSED:
        return fault(st, RECORDER_STDIN_CLOSED, "the command has no stdin, or not any more");
    case RECORDER_STDIN_FULL:
        return fault(st, RECORDER_STDIN_FULL, "the command did not read its stdin for %d s",
                     INPUT_PATIENCE_MS / 1000);
    case RECORDER_OUT_OF_RANGE:
        return fault(st, RECORDER_OUT_OF_RANGE, "the last event is %llu",
                     (unsigned long long)p->m.seq);
    case RECORDER_INPUT_GAP:
        return fault(st, RECORDER_INPUT_GAP, "the next byte of its input is at offset %llu",
                     (unsigned long long)p->m.value);
    case RECORDER_NO_TERMINAL:
        return fault(st, RECORDER_NO_TERMINAL, "the command has no terminal");
    default:
        return fault(st, (int)p->m.status, "%.*s", (int)p->m.data_len, (const char *)p->data);
    }
}

/*
 * Reaches the writer and asks it by means of ask(). False in *ret_asked: there is none any more, be
 * it that it ended just now, with the question in its hands.
 */
static bool ask_writer(const struct state *s, const struct request *r, int *ret_dir,
                       bool (*ask)(int fd, void *question, struct control_packet *answer),
                       void *question, struct control_packet *answer, bool *ret_asked,
                       struct status *st)
{
    *ret_asked = false;
    for (int tries = 0; tries < 3; tries++) {
        AUTO_CLOSE int fd = -1;

        cleanup_close(ret_dir);
        *ret_dir = -1;
        if (!reach_writer(s, r, ret_dir, &fd, st))
            return false;
        if (fd < 0)
            return true;
        if (ask(fd, question, answer))
            return *ret_asked = true;
    }
    return fault(st, RECORDER_INTERNAL, "the recorder of the command does not answer");
}

static bool ask_once(int fd, void *question, struct control_packet *answer)
{
    return control_ask(fd, question, NULL, answer);
}

static bool ask_input(int fd, void *question, struct control_packet *answer)
{
    const struct input_spec *in = question;
    size_t at = 0, len = buf_len(&in->data), step;

    do {
        struct control_message m = {.kind = in->positioned ? CONTROL_INPUT_AT : CONTROL_INPUT,
                                    .flags = in->eof ? CONTROL_EOF : 0u,
                                    .value = in->offset};

        step = len - at < CONTROL_DATA_MAX ? len - at : CONTROL_DATA_MAX;
        m.flags |= at + step < len ? CONTROL_MORE : 0u;
        m.data_len = (uint32_t)step;
        if (!control_ask(fd, &m, buf_data(&in->data) + at, answer))
            return false;
        at += step;
    } while (at < len);
    return true;
}

/* Without a writer: what the command took before it ended is acknowledged all the same. */
static bool input_ended(int dir, const struct request *r, const struct input_spec *in,
                        struct status *st)
{
    const struct input view = {
        .data = in->data, .positioned = in->positioned, .offset = in->offset};
    struct end_record end;

    if (!end_read(dir, &end) || input_verdict(&view, end.input_offset, RECORDER_ENDED) != 0)
        return ended(r, st);
    printf("%llu\n", (unsigned long long)end.input_offset);
    return true;
}

bool drive_input(const struct state *s, const struct request *r, struct status *st)
{
    static struct control_packet answer;
    AUTO(input_spec_deinit) struct input_spec in = {.eof = false};
    AUTO_CLOSE int dir = -1;
    bool asked;

    if (!spec_read_input(r->spec, &in, st) ||
        !ask_writer(s, r, &dir, ask_input, &in, &answer, &asked, st))
        return false;
    if (!asked)
        return input_ended(dir, r, &in, st);
    printf("%llu\n", (unsigned long long)answer.m.value);
    return answered(r, &answer, st);
}

static bool parse_target(const char *name, uint32_t *ret, struct status *st)
{
    static const char *const names[] = {"process", "group", "tree"};

    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return *ret = i + CONTROL_PROCESS, true;
    return fault(st, RECORDER_USAGE, "--target is process, group or tree");
}

bool drive_signal(const struct state *s, const struct request *r, struct status *st)
{
    static struct control_packet answer;
    struct control_message m = {.kind = CONTROL_SIGNAL, .value = (uint64_t)r->signal};
    AUTO_CLOSE int dir = -1;
    bool asked;

    if (!parse_target(r->target, &m.flags, st) ||
        !ask_writer(s, r, &dir, ask_once, &m, &answer, &asked, st))
        return false;
    return asked ? answered(r, &answer, st) : ended(r, st);
}

bool drive_resize(const struct state *s, const struct request *r, struct status *st)
{
    static struct control_packet answer;
    struct control_message m = {.kind = CONTROL_RESIZE,
                                .value = (uint64_t)r->cols << 16 | (uint64_t)r->rows};
    AUTO_CLOSE int dir = -1;
    bool asked;

    if (!ask_writer(s, r, &dir, ask_once, &m, &answer, &asked, st))
        return false;
    return asked ? answered(r, &answer, st) : ended(r, st);
}

/* Without a writer the record of it is ours to change. */
static bool ack_ended(int dir, uint64_t seq, uint64_t *ret, struct status *st)
{
    struct end_record end;

    *ret = acked_read(dir);
    if (end_read(dir, &end) && seq > end.last_seq)
        return fault(st, RECORDER_OUT_OF_RANGE, "the last event is %llu",
                     (unsigned long long)end.last_seq);
    if (seq <= *ret)
        return true;
    *ret = seq;
    return acked_write(dir, seq) || fault_errno(st, "the acknowledgement cannot be kept");
}

bool drive_ack(const struct state *s, const struct request *r, struct status *st)
{
    static struct control_packet answer;
    struct control_message m = {.kind = CONTROL_ACK, .seq = (uint64_t)r->seq};
    AUTO_CLOSE int dir = -1;
    uint64_t acked;
    bool asked;

    if (!ask_writer(s, r, &dir, ask_once, &m, &answer, &asked, st))
        return false;
    if (asked ? !answered(r, &answer, st) : !ack_ended(dir, m.seq, &acked, st))
        return false;
    if (asked)
        acked = answer.m.value;
    printf("%llu\n", (unsigned long long)acked);
    return true;
}
