/*
 * See clients.h. Clients are on the same machine and of the same user, yet nothing they do may hold
 * up the command: nothing here blocks, and a client that breaks the protocol is dropped.
 */
#include "runtime/recorder/clients.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/spec.h"
#include "runtime/recorder/streams.h"
#include "runtime/recorder/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct client {
    struct source source;
    struct list link;
    struct clients *clients; /* borrowed */
    bool dead;               /* to be freed between rounds */
    bool attached, progress; /* a follower; one that KEEP_UP waits for */
    bool waiting;
    bool waits_for_exit;
    uint64_t next_seq; /* the event it wants next */
    int64_t moved_ns;  /* when it last advanced */
    struct input input;
    bool input_queued;
};

static void drop(struct client *c)
{
    if (c->dead)
        return;
    c->dead = true;
    source_watch(&c->source, c->clients->writer->epoll, 0);
    if (c->input_queued)
        input_queue_remove(&c->input);
    c->attached = false;
    streams_unblock(c->clients->writer);
}

static void answer_data(struct client *c, const struct control_message *m, const void *data,
                        size_t len)
{
    struct control_message full = *m;

    full.kind = CONTROL_RESULT;
    full.data_len = (uint32_t)len;
    if (!control_send(c->source.fd, &full, data, MSG_DONTWAIT))
        drop(c);
}

static void answer(struct client *c, const struct control_message *m)
{
    answer_data(c, m, NULL, 0);
}

static void wake(struct client *c, uint64_t last_seq)
{
    struct control_message m = {.kind = CONTROL_WAKE, .seq = last_seq};

    c->waiting = false;
    if (!control_send(c->source.fd, &m, NULL, MSG_DONTWAIT))
        drop(c);
}

static void on_position(struct client *c, const struct control_message *m)
{
    if (m->kind == CONTROL_ATTACH) {
        c->attached = true;
        c->progress = (m->flags & CONTROL_PROGRESS) != 0;
    }
    c->next_seq = m->seq;
    c->moved_ns = clock_monotonic_ns();
    streams_unblock(c->clients->writer);
}

static void on_wait(struct client *c, uint64_t seq)
{
    uint64_t last_seq = journal_file_last_seq(&c->clients->writer->journal);

    c->next_seq = seq;
    c->waiting = true;
    if (seq <= last_seq)
        wake(c, last_seq);
}

static void on_wait_exited(struct client *c)
{
    struct writer *w = c->clients->writer;

    c->waits_for_exit = true;
    if (w->exited)
        wake(c, journal_file_last_seq(&w->journal));
}

static void on_status(struct client *c)
{
    struct writer *w = c->clients->writer;
    struct control_message m = {
        .flags = w->blocked ? CONTROL_BLOCKED : 0,
        .seq = journal_file_last_seq(&w->journal),
        .value = w->acked_seq,
    };
    struct control_details details = {.input_offset = w->input.offset};

    answer_data(c, &m, &details, sizeof(details));
}

static void on_ack(struct client *c, uint64_t seq)
{
    struct writer *w = c->clients->writer;
    struct control_message m = {.status = (uint32_t)writer_ack(w, seq)};

    m.value = w->acked_seq;
    m.seq = journal_file_last_seq(&w->journal);
    answer(c, &m);
}

static void on_signal(struct client *c, const struct control_message *m)
{
    struct control_message result = {
        .status = (uint32_t)writer_signal(c->clients->writer, (int)m->value, (int)m->flags)};

    answer(c, &result);
}

static void on_resize(struct client *c, uint64_t value)
{
    struct terminal_size size = {.cols = (uint16_t)(value >> 16), .rows = (uint16_t)value};
    struct control_message result = {.status = (uint32_t)writer_resize(c->clients->writer, size)};

    answer(c, &result);
}

static void on_input_done(struct input *in, int exit_code)
{
    struct client *c = container_of(in, struct client, input);
    struct control_message m = {.status = (uint32_t)exit_code,
                                .value = c->clients->writer->input.offset};

    c->input_queued = false;
    buf_clear(&in->data);
    answer(c, &m);
}

static void on_input(struct client *c, const struct control_packet *p)
{
    struct writer *w = c->clients->writer;

    if (c->input_queued || !buf_append(&c->input.data, p->data, p->m.data_len)) {
        drop(c);
        return;
    }
    if ((p->m.flags & CONTROL_MORE) != 0)
        return;
    c->input.eof = (p->m.flags & CONTROL_EOF) != 0;
    c->input.positioned = p->m.kind == CONTROL_INPUT_AT;
    c->input.offset = p->m.value;
    if (w->dead) {
        on_input_done(&c->input, input_verdict(&c->input, w->input.offset, RECORDER_ENDED));
        return;
    }
    c->input_queued = true;
    input_queue_add(&w->input, &c->input);
}

static const char too_old[] = "the command's recorder is older and does not know this";

static void on_packet(struct client *c, const struct control_packet *p)
{
    struct control_message unknown = {.status = RECORDER_INTERNAL};

    switch (p->m.kind) {
    case CONTROL_ATTACH:
    case CONTROL_POSITION:
        on_position(c, &p->m);
        break;
    case CONTROL_WAIT:
        on_wait(c, p->m.seq);
        break;
    case CONTROL_WAIT_EXITED:
        on_wait_exited(c);
        break;
    case CONTROL_WAIT_CLOSED:
        break;
    case CONTROL_STATUS:
        on_status(c);
        break;
    case CONTROL_ACK:
        on_ack(c, p->m.seq);
        break;
    case CONTROL_SIGNAL:
        on_signal(c, &p->m);
        break;
    case CONTROL_INPUT:
    case CONTROL_INPUT_AT:
        on_input(c, p);
        break;
    case CONTROL_RESIZE:
        on_resize(c, p->m.value);
        break;
    default:
        answer_data(c, &unknown, too_old, sizeof(too_old) - 1);
        break;
    }
}

static void on_client_ready(struct source *s, uint32_t events)
{
    static struct control_packet packet; /* too large for every stack frame; one thread */
    struct client *c = container_of(s, struct client, source);

    while (!c->dead) {
        int got = control_receive(s->fd, &packet, MSG_DONTWAIT);

        if (got > 0)
            on_packet(c, &packet);
        else if (got == 0 || errno != EAGAIN)
            drop(c);
        else
            return;
    }
}

static bool is_own_user(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void on_listener_ready(struct source *s, uint32_t events)
{
    struct clients *clients = container_of(s, struct clients, listener);
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *c;

    if (fd < 0)
        return;
    if (clients->n >= CLIENTS_MAX || !is_own_user(fd)) {
        close(fd);
        return;
    }
    c = xcalloc(1, sizeof(*c));
    c->source = (struct source){.fd = fd, .ready = on_client_ready};
    c->clients = clients;
    c->input = (struct input){.data = BUF_INIT(INPUT_MAX + 1), .done = on_input_done};
    list_init(&c->input.link);
    list_append(&clients->list, &c->link);
    clients->n++;
    if (!source_watch(&c->source, clients->writer->epoll, EPOLLIN))
        drop(c);
}

void clients_init(struct clients *c, struct writer *w, int listener_fd)
{
    *c = (struct clients){.writer = w, .listener = {.fd = listener_fd, .ready = on_listener_ready}};
    list_init(&c->list);
    source_watch(&c->listener, w->epoll, EPOLLIN);
}

static void free_client(struct clients *clients, struct client *c)
{
    list_unlink(&c->link);
    clients->n--;
    buf_deinit(&c->input.data);
    close(c->source.fd);
    free(c);
}

void clients_sweep(struct clients *c)
{
    LIST_FOR_EACH_SAFE (node, &c->list) {
        struct client *client = container_of(node, struct client, link);

        if (client->dead)
            free_client(c, client);
    }
}

void clients_deinit(struct clients *c)
{
    LIST_FOR_EACH_SAFE (node, &c->list) {
        free_client(c, container_of(node, struct client, link));
    }
}

bool clients_are_reading(const struct clients *c)
{
    LIST_FOR_EACH (node, &c->list) {
        if (container_of(node, struct client, link)->attached)
            return true;
    }
    return false;
}

struct journal_readers clients_readers(const struct clients *c)
{
    struct journal_readers readers = {.acked_seq = c->writer->acked_seq, .slowest = UINT64_MAX};
    int64_t now = clock_monotonic_ns();

    LIST_FOR_EACH (node, &c->list) {
        const struct client *client = container_of(node, struct client, link);

        if (client->attached && client->progress && client->next_seq < readers.slowest &&
            now - client->moved_ns < READER_MOVES_MS * NS_PER_MS)
            readers.slowest = client->next_seq;
    }
    return readers;
}

void clients_wake_exited(struct clients *c)
{
    LIST_FOR_EACH (node, &c->list) {
        struct client *client = container_of(node, struct client, link);

        if (client->waits_for_exit)
            wake(client, journal_file_last_seq(&c->writer->journal));
    }
}

void clients_wake(struct clients *c, uint64_t last_seq)
{
    if (last_seq == c->woken_seq)
        return;
    c->woken_seq = last_seq;
    LIST_FOR_EACH (node, &c->list) {
        struct client *client = container_of(node, struct client, link);

        if (client->waiting && client->next_seq <= last_seq)
            wake(client, last_seq);
    }
}
