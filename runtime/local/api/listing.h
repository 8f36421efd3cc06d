/* What GET /v2/sandboxes asks for, and the page it gets. Pure. */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"
#include "runtime/local/daemon/registry.h"
#include "runtime/local/daemon/template.h"

enum { LISTING_MAX = 100 };

struct listing {
    struct pairs metadata; /* a sandbox must have all of them */
    bool has_metadata;     /* one without any metadata matches only when this is not set */
    bool running;
    bool paused;
    bool ascending;
    char *template;   /* owned; the id of a template, or what a snapshot is called; NULL: any */
    int64_t after_ns; /* started then or later */
    size_t limit;
    bool has_start; /* the page continues behind this one: */
    int64_t start_ns;
    char start_id[SANDBOX_ID_LEN + 1];
};

/* INVALID_ARGUMENT with a sentence for the caller. */
bool listing_parse(struct listing *l, const char *query, const struct templates *templates,
                   struct status *st);
void listing_deinit(struct listing *l);

/* The metadata filter alone, as SDKs send it: encoded once per key and value, once as a form. */
bool listing_parse_metadata(struct pairs *ret, const char *encoded, struct status *st);

bool listing_matches(const struct listing *l, const struct sandbox *s);

/* Fills page (room for LISTING_MAX). Returns how many; *ret_more: there is another page. */
size_t listing_page(const struct listing *l, const struct registry *r, const struct sandbox **page,
                    bool *ret_more);
/* The token of the page behind s, as E2B writes it. */
bool listing_token(const struct listing *l, const struct sandbox *s, struct buf *out);
