/* What a sandbox may reach, in E2B's JSON. */
#pragma once

#include "service/e2b/e2b.h"
#include "service/e2b/json.h"

/* Adds what create takes to o: allow_internet_access and network. */
void network_to_create(struct json_object *o, const struct e2b_network *network);
/* The body that replaces it; owned by the caller. */
char *network_body(const struct e2b_network *network);
/* Of a SandboxDetail. False: not of its form; what was read is to be freed all the same. */
bool network_from_detail(struct json_object *o, struct e2b_network *ret);
