/* A sandbox as the control plane describes it in JSON. */
#pragma once

#include "service/e2b/e2b.h"
#include "service/e2b/json.h"

/* A SandboxDetail or ListedSandbox. False: o is none; then nothing is to be freed. */
bool sandbox_from_json(struct json_object *o, struct e2b_sandbox *ret);

/* The Sandbox that create answers with: without times and resources. */
bool sandbox_from_created(struct json_object *o, struct e2b_sandbox *ret);

/* Borrowed; NULL when it has no such label. */
const char *sandbox_label(const struct e2b_sandbox *s, const char *key);

/* An array of ListedSandbox. False: it is none. */
bool sandbox_list_from_json(struct json_object *o, struct e2b_list *ret);

/* Path and query that ask for such a list; owned by the caller. tenant NULL: of everybody. */
char *sandbox_list_path(const struct e2b_list_args *args, const char *tenant);
