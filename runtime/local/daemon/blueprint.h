/*
 * What makes the sandboxes of one template what they are. Each sandbox and each snapshot has a copy
 * of its own, so that a template may change, or go, without changing what came of it.
 */
#pragma once

#include "runtime/local/daemon/pairs.h"
#include "runtime/local/zygote/zygote_limits.h"

struct json_object;

struct blueprint {
    char *rootfs;  /* owned; absolute; NULL: the host's system */
    char *start;   /* owned; the command that runs in each; NULL: none */
    char *ready;   /* owned; the command that succeeds when it is ready; NULL: it is at once */
    char *user;    /* owned; who is meant when nobody is named; NULL: the usual one */
    char *workdir; /* owned; absolute; NULL: the user's home */
    struct pairs envs;
    struct zygote_limits limits;
};

void blueprint_deinit(struct blueprint *b);
struct blueprint blueprint_copy(const struct blueprint *b);

/* As JSON and back: what is not there, or of another type, is as if it had not been given. */
struct json_object *blueprint_write(const struct blueprint *b);
struct blueprint blueprint_read(const struct json_object *o);
