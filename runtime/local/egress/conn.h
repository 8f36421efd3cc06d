/*
 * One connection of a sandbox, from being accepted to being relayed. What egress_conn.c (the
 * judgement), egress_proxy.c (clients that take us for a proxy) and egress.c share.
 */
#pragma once

#include "runtime/local/edge/duplex.h"
#include "runtime/local/egress/ask.h"
#include "runtime/local/egress/dial.h"
#include "runtime/local/egress/egress.h"
#include "runtime/local/egress/http.h"

struct egress_conn {
    struct list in_egress;
    struct egress *egress; /* borrowed */
    struct duplex duplex;  /* side 0 is the sandbox's */
    uint32_t address;      /* where it goes: first as the sandbox has it, then as dialled */
    uint16_t port;
    char name[EGRESS_NAME_MAX + 1]; /* whom it is for, as far as known */
    bool proxied;                   /* the client takes us for a proxy, */
    bool connects;                  /* and said CONNECT */
    struct buf in;                  /* what the client has said until then */
    int reads;                      /* that took */
    struct loop_timer patience;
    struct egress_lookup *lookup;
    struct egress_asked *asked; /* the client takes us for a name server */
    struct egress_dial *dial;
    struct egress_http *http; /* owned; what the client says passes through it */
};

/* Takes an accepted socket of the sandbox. */
void egress_conn_start(struct egress *e, int fd);
/* Resets both sides. c is gone afterwards. */
void egress_conn_cut(struct egress_conn *c);
/* Whether the policy permits what it was made for. */
bool egress_conn_is_permitted(const struct egress_conn *c);

/* What the parts say to each other; after each of them c may be gone. */

/* Reads on into c->in. False: not now, or c is gone. */
bool egress_conn_read(struct egress_conn *c);
/* The end: denied, or nobody answers. */
void egress_conn_deny(struct egress_conn *c, const char *why);
void egress_conn_fail(struct egress_conn *c, const char *why);
/* Goes on to the name, or to the address. */
void egress_conn_resolve(struct egress_conn *c);
void egress_conn_dial(struct egress_conn *c, const uint32_t *addresses, size_t n);

/* egress_proxy.c: reads a request to us; then the answers to it. */
void egress_proxy_start(struct egress_conn *c);
void egress_proxy_reply(struct egress_conn *c, int status, const char *why);
