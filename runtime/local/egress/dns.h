/*
 * DNS messages as a name server sees them: one question in, one answer out (RFC 1035). Pure.
 *
 * Names are compared and resolved in lower case; the question is repeated in the answer as it came.
 */
#pragma once

#include "common/base/buf.h"
#include "runtime/local/egress/sniff.h"

#include <stdbool.h>

enum {
    EGRESS_DNS_MAX = 65535,
    EGRESS_DNS_UDP_MIN = 512,  /* what every client takes in one packet */
    EGRESS_DNS_UDP_MAX = 1232, /* what passes every network */
    EGRESS_DNS_QUESTION_MAX = 12 + EGRESS_NAME_MAX + 2 + 4,
    EGRESS_DNS_ADDRESSES_MAX = 16,
};

enum egress_dns_type {
    EGRESS_DNS_A = 1,
    EGRESS_DNS_NS = 2,
    EGRESS_DNS_CNAME = 5,
    EGRESS_DNS_SOA = 6,
    EGRESS_DNS_MX = 15,
    EGRESS_DNS_TXT = 16,
    EGRESS_DNS_SRV = 33,
    EGRESS_DNS_NAPTR = 35,
    EGRESS_DNS_CAA = 257,
};

enum egress_dns_code {
    EGRESS_DNS_OK = 0,
    EGRESS_DNS_FORMAT_ERROR = 1,
    EGRESS_DNS_SERVER_FAILURE = 2,
    EGRESS_DNS_NO_NAME = 3,
    EGRESS_DNS_NOT_IMPLEMENTED = 4,
    EGRESS_DNS_REFUSED = 5,
};

struct egress_dns_question {
    uint8_t bytes[EGRESS_DNS_QUESTION_MAX]; /* header and question section, as they came */
    size_t len;
    char name[EGRESS_NAME_MAX + 1]; /* empty: one that cannot be looked up */
    uint16_t type;
    bool internet;   /* its class */
    size_t max_size; /* of the answer over UDP */
};

enum egress_dns_read {
    EGRESS_DNS_QUESTION, /* *ret is filled */
    EGRESS_DNS_BAD,      /* *ret is filled as far as an answer with an error needs it */
    EGRESS_DNS_NOISE,    /* not to be answered at all */
};

enum egress_dns_read egress_dns_read(const uint8_t *data, size_t len,
                                     struct egress_dns_question *ret);

/* An address and for how many seconds it holds. Host byte order. */
struct egress_dns_address {
    uint32_t address;
    uint32_t ttl;
};

/* Appends a whole message. The buffer is to have room for EGRESS_DNS_MAX. */
void egress_dns_answer(const struct egress_dns_question *q, enum egress_dns_code code,
                       const struct egress_dns_address *addresses, size_t n, struct buf *out);
/* The answer to q in the message of another server. False: it is none. */
bool egress_dns_relay(const struct egress_dns_question *q, const uint8_t *data, size_t len,
                      struct buf *out);
/* What is sent instead of an answer that does not fit: come back over TCP. */
void egress_dns_truncated(const struct egress_dns_question *q, struct buf *out);
