/* POST /init: the sandbox's settings, given while it runs. */
#pragma once

struct agent;
struct http_exchange;

void init_post(struct agent *a, struct http_exchange *x);
