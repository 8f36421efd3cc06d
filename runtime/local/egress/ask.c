/*
 * See egress_ask.h. What a sandbox may not reach it does not learn of either: addresses that are
 * never dialled are left out of answers, and when everything but some domains is denied, only their
 * names are looked up. Questions are a way to carry data out; so are refused ones not passed on.
 *
 * There is no IPv6 and no HTTP/3, so what is asked for them is answered with "none of that type".
 */
#include "runtime/local/egress/ask.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { REMEMBER_S = 3600, DATAGRAMS_PER_ROUND = 32, DATAGRAM_MAX = 1500 };

struct egress_asked {
    struct list in_egress;
    struct egress *egress; /* borrowed */
    struct egress_dns_question question;
    struct egress_lookup *lookup;
    struct sockaddr_in from; /* of a datagram */
    egress_answered *done;
    void *ctx; /* borrowed */
};

void egress_ask_cancel(struct egress_asked *a)
{
    if (a == NULL)
        return;
    egress_lookup_cancel(a->lookup);
    list_unlink(&a->in_egress);
    a->egress->n_questions--;
    free(a);
}

void egress_ask_cancel_all(struct egress *e)
{
    LIST_FOR_EACH_SAFE (node, &e->questions)
        egress_ask_cancel(container_of(node, struct egress_asked, in_egress));
}

/* The answer is there: a is gone afterwards. */
static void finish(struct egress_asked *a, struct buf *answer)
{
    a->lookup = NULL;
    a->done(a->ctx, &a->question, answer);
    egress_ask_cancel(a);
}

static void on_resolved(void *ctx, enum egress_dns_code code,
                        const struct egress_dns_address *addresses, size_t n)
{
    AUTO(buf_deinit) struct buf answer = BUF_INIT(EGRESS_DNS_MAX);
    struct egress_dns_address told[EGRESS_DNS_ADDRESSES_MAX];
    struct egress_asked *a = ctx;
    struct egress *e = a->egress;
    int64_t until_ns = clock_monotonic_ns() + REMEMBER_S * NS_PER_S;
    size_t n_told = 0;

    for (size_t i = 0; i < n; i++) {
        if (!egress_may_reach(e->server, addresses[i].address, 0))
            continue;
        told[n_told++] = addresses[i];
        egress_names_add(&e->names, a->question.name, addresses[i].address, until_ns);
    }
    egress_dns_answer(&a->question, code, told, n_told, &answer);
    finish(a, &answer);
}

static void on_relayed(void *ctx, const uint8_t *data, size_t len)
{
    AUTO(buf_deinit) struct buf answer = BUF_INIT(EGRESS_DNS_MAX);
    struct egress_asked *a = ctx;

    if (data == NULL || !egress_dns_relay(&a->question, data, len, &answer))
        egress_dns_answer(&a->question, EGRESS_DNS_SERVER_FAILURE, NULL, 0, &answer);
    finish(a, &answer);
}

static bool is_relayed(uint16_t type)
{
    switch (type) {
    case EGRESS_DNS_NS:
    case EGRESS_DNS_CNAME:
    case EGRESS_DNS_SOA:
    case EGRESS_DNS_MX:
    case EGRESS_DNS_TXT:
    case EGRESS_DNS_SRV:
    case EGRESS_DNS_NAPTR:
    case EGRESS_DNS_CAA:
        return true;
    default:
        return false;
    }
}

/* What can be said without asking anybody. False: nothing. */
static bool answer_here(struct egress *e, const struct egress_dns_question *q, bool is_question,
                        enum egress_dns_code *ret)
{
    if (!is_question)
        *ret = EGRESS_DNS_FORMAT_ERROR;
    else if (!q->internet || (q->name[0] != '\0' && !egress_policy_resolves(&e->policy, q->name)))
        *ret = EGRESS_DNS_REFUSED;
    else if (q->name[0] == '\0')
        *ret = EGRESS_DNS_NO_NAME;
    else if (q->type != EGRESS_DNS_A && !is_relayed(q->type))
        *ret = EGRESS_DNS_OK;
    else if (e->n_questions >= EGRESS_QUESTIONS_MAX)
        *ret = EGRESS_DNS_SERVER_FAILURE;
    else
        return false;
    return true;
}

static struct egress_asked *look_up(struct egress *e, const struct egress_dns_question *q,
                                    egress_answered *done, void *ctx)
{
    struct egress_asked *a = xcalloc(1, sizeof(*a));

    *a = (struct egress_asked){.egress = e, .question = *q, .done = done, .ctx = ctx};
    list_append(&e->questions, &a->in_egress);
    e->n_questions++;
    if (q->type == EGRESS_DNS_A)
        a->lookup = egress_resolve(e->server->resolver, q->name, on_resolved, a);
    else
        a->lookup = egress_query(e->server->resolver, q->name, q->type, on_relayed, a);
    return a;
}

struct egress_asked *egress_ask(struct egress *e, const uint8_t *data, size_t len,
                                egress_answered *done, void *ctx)
{
    AUTO(buf_deinit) struct buf answer = BUF_INIT(EGRESS_DNS_MAX);
    struct egress_dns_question q;
    enum egress_dns_read read = egress_dns_read(data, len, &q);
    enum egress_dns_code code;

    if (read == EGRESS_DNS_NOISE)
        return NULL;
    if (!answer_here(e, &q, read == EGRESS_DNS_QUESTION, &code))
        return look_up(e, &q, done, ctx);
    egress_dns_answer(&q, code, NULL, 0, &answer);
    done(ctx, &q, &answer);
    return NULL;
}

static void send_datagram(struct egress *e, const struct sockaddr_in *to,
                          const struct egress_dns_question *q, struct buf *answer)
{
    if (buf_len(answer) > q->max_size) {
        buf_clear(answer);
        egress_dns_truncated(q, answer);
    }
    /* What cannot be sent now is asked for again. */
    sendto(e->dns.fd, buf_data(answer), buf_len(answer), MSG_DONTWAIT | MSG_NOSIGNAL,
           (const struct sockaddr *)to, sizeof(*to));
}

/* A datagram, until it is either answered or being looked up. */
struct datagram {
    struct egress *egress; /* borrowed */
    struct sockaddr_in from;
};

static void on_answered_at_once(void *ctx, const struct egress_dns_question *q, struct buf *answer)
{
    const struct datagram *d = ctx;

    send_datagram(d->egress, &d->from, q, answer);
}

static void on_answered(void *ctx, const struct egress_dns_question *q, struct buf *answer)
{
    const struct egress_asked *a = ctx;

    send_datagram(a->egress, &a->from, q, answer);
}

void egress_ask_datagrams(struct egress *e)
{
    uint8_t data[DATAGRAM_MAX];

    for (int i = 0; i < DATAGRAMS_PER_ROUND; i++) {
        struct datagram d = {.egress = e};
        socklen_t size = sizeof(d.from);
        ssize_t n = recvfrom(e->dns.fd, data, sizeof(data), MSG_DONTWAIT,
                             (struct sockaddr *)&d.from, &size);
        struct egress_asked *a;

        if (n < 0)
            return;
        a = egress_ask(e, data, (size_t)n, on_answered_at_once, &d);
        if (a == NULL)
            continue;
        a->from = d.from;
        a->done = on_answered;
        a->ctx = a;
    }
}
