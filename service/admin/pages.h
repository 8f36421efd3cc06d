/* The pages of the admin port. Each answers its exchange; all on the admin thread. */
#pragma once

#include "common/http/server.h"
#include "service/admin/admin.h"

void page_metrics(const struct admin_config *config, enum admin_state state,
                  struct http_exchange *x);
void page_livez(const struct admin_config *config, enum admin_state state, struct http_exchange *x);
void page_readyz(const struct admin_config *config, enum admin_state state,
                 struct http_exchange *x);
void page_version(const struct admin_config *config, enum admin_state state,
                  struct http_exchange *x);
void page_config(const struct admin_config *config, enum admin_state state,
                 struct http_exchange *x);
void page_channelz(const struct admin_config *config, enum admin_state state,
                   struct http_exchange *x);
