/* The Network of a request, checked and copied for the adapter. */
#pragma once

#include "common/base/status.h"
#include "sandbox/v1/sandbox.pb-c.h"
#include "service/e2b/e2b.h"

/* At most 100 rules of each kind. What a rule may look like is E2B's to say. field: its name in
 * messages. *ret is to be freed (e2b_network_deinit) also after a failed read. */
bool network_field_read(const char *field, const Sandbox__V1__Network *from,
                        struct e2b_network *ret, struct status *st);
