/* See egress_dns.h. */
#include "runtime/local/egress/dns.h"

#include <string.h>

enum {
    HEADER = 12,
    FLAG_RESPONSE = 0x8000,
    FLAG_TRUNCATED = 0x0200,
    FLAG_RECURSION_DESIRED = 0x0100,
    FLAG_RECURSION_AVAILABLE = 0x0080,
    OPCODE = 0x7800,
    CLASS_INTERNET = 1,
    TYPE_OPT = 41,
    LABEL_MAX = 63,
    NAME_POINTER = 0xc000 | HEADER, /* to the name in the question */
};

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static void put16(struct buf *out, unsigned number)
{
    buf_append(out, (uint8_t[]){(uint8_t)(number >> 8), (uint8_t)number}, 2);
}

static void put32(struct buf *out, uint32_t number)
{
    put16(out, number >> 16);
    put16(out, number & 0xffff);
}

/*
 * The name at data[at], without pointers, which a question has no use for. Returns where it ends,
 * or 0. What is no host name (RFC 1035 allows any byte in a label) leaves the text empty.
 */
static size_t read_name(const uint8_t *data, size_t len, size_t at,
                        char text[static EGRESS_NAME_MAX + 1])
{
    char dotted[EGRESS_NAME_MAX + 2] = "";
    size_t used = 0;
    bool plain = true;

    while (at < len && data[at] != 0) {
        size_t label = data[at++];

        if (label > LABEL_MAX || label > len - at || used + label + 1 > EGRESS_NAME_MAX + 1)
            return 0;
        plain = plain && memchr(data + at, '.', label) == NULL;
        memcpy(dotted + used, data + at, label);
        used += label;
        dotted[used++] = '.';
        at += label;
    }
    if (!plain || egress_name_copy(dotted, used, text) != EGRESS_SNIFF_NAME)
        text[0] = '\0';
    return at < len ? at + 1 : 0;
}

/* How much the client takes over UDP: an OPT record, which is all that may follow, says so. */
static size_t read_size(const uint8_t *data, size_t len, size_t at, unsigned n_records)
{
    size_t size = EGRESS_DNS_UDP_MIN;

    if (n_records > 0 && len - at >= 11 && data[at] == 0 && get16(data + at + 1) == TYPE_OPT)
        size = get16(data + at + 3);
    if (size < EGRESS_DNS_UDP_MIN)
        size = EGRESS_DNS_UDP_MIN;
    return size > EGRESS_DNS_UDP_MAX ? EGRESS_DNS_UDP_MAX : size;
}

enum egress_dns_read egress_dns_read(const uint8_t *data, size_t len,
                                     struct egress_dns_question *ret)
{
    size_t end;

    *ret = (struct egress_dns_question){.max_size = EGRESS_DNS_UDP_MIN};
    if (len < HEADER || (get16(data + 2) & FLAG_RESPONSE))
        return EGRESS_DNS_NOISE;
    memcpy(ret->bytes, data, HEADER);
    ret->len = HEADER;
    if ((get16(data + 2) & OPCODE) != 0 || get16(data + 4) != 1 || get16(data + 6) != 0 ||
        get16(data + 8) != 0)
        return EGRESS_DNS_BAD;
    end = read_name(data, len, HEADER, ret->name);
    if (end == 0 || len - end < 4 || end + 4 > sizeof(ret->bytes))
        return EGRESS_DNS_BAD;
    ret->type = get16(data + end);
    ret->internet = get16(data + end + 2) == CLASS_INTERNET;
    ret->len = end + 4;
    memcpy(ret->bytes, data, ret->len);
    ret->max_size = read_size(data, len, ret->len, get16(data + 10));
    return EGRESS_DNS_QUESTION;
}

static void put_head(const struct egress_dns_question *q, unsigned flags, unsigned n_answers,
                     struct buf *out)
{
    unsigned kept = get16(q->bytes + 2) & (OPCODE | FLAG_RECURSION_DESIRED);

    buf_append(out, q->bytes, 2);
    put16(out, FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | kept | flags);
    put16(out, q->len > HEADER);
    put16(out, n_answers);
    put32(out, 0);
    buf_append(out, q->bytes + HEADER, q->len - HEADER);
}

void egress_dns_answer(const struct egress_dns_question *q, enum egress_dns_code code,
                       const struct egress_dns_address *addresses, size_t n, struct buf *out)
{
    put_head(q, code, (unsigned)n, out);
    for (size_t i = 0; i < n; i++) {
        put16(out, NAME_POINTER);
        put16(out, EGRESS_DNS_A);
        put16(out, CLASS_INTERNET);
        put32(out, addresses[i].ttl);
        put16(out, 4);
        put32(out, addresses[i].address);
    }
}

bool egress_dns_relay(const struct egress_dns_question *q, const uint8_t *data, size_t len,
                      struct buf *out)
{
    if (len < HEADER || len > EGRESS_DNS_MAX || !(get16(data + 2) & FLAG_RESPONSE))
        return false;
    buf_append(out, q->bytes, 2);
    buf_append(out, data + 2, len - 2);
    return true;
}

void egress_dns_truncated(const struct egress_dns_question *q, struct buf *out)
{
    put_head(q, FLAG_TRUNCATED, 0, out);
}
