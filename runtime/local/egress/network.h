/*
 * The `network` object of E2B's API: what a sandbox may reach, and who may reach it. As text it is
 * what a sandbox keeps of it; everything else is read from that again.
 */
#pragma once

#include "runtime/local/egress/policy.h"

struct network {
    struct egress_policy policy;
    bool public_traffic; /* its ports answer without a token */
    char *mask_host;     /* owned; Host of requests to its ports, with ${PORT} in it; NULL: as is */
    char *text;          /* owned; the object, without what is not known; NULL: there was none */
};

/* object: NULL for none. n is initialised in any case. The status is for the API. */
bool network_parse(struct network *n, const struct json_object *object, bool internet,
                   struct status *st);
/* The same from the text. */
bool network_parse_text(struct network *n, const char *text, bool internet, struct status *st);
/*
 * Replaces what is about reaching out by the object of an update, which has nothing about the other
 * direction: that stays as it is in the text.
 */
bool network_update(struct network *n, const char *text, const struct json_object *update,
                    bool internet, struct status *st);
void network_deinit(struct network *n);
