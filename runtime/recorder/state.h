/* The state directory: see common/journal/verbs.h for what it holds. */
#pragma once

#include "common/base/status.h"

struct state {
    int dir;        /* owned */
    int commands;   /* owned; cmd/, or watch/ */
    bool protected; /* kept by root, so that a command cannot change it */
};

#define STATE_INIT ((struct state){.dir = -1, .commands = -1})

/*
 * Opens it, and makes it first where it is missing. path: NULL for the place that fits the user.
 * watches: those of directories, instead of commands. Refuses a directory that another user could
 * change.
 */
bool state_open(struct state *s, const char *path, bool watches, struct status *st);
void state_deinit(struct state *s);

/* A command's or a sandbox's id: [A-Za-z0-9_-]{1,64}. */
bool id_is_valid(const char *id);

enum { ID_MAX = 64 };

/* Opens cmd/<id>. *ret is -1 with NOT_FOUND in st when there is none. */
bool state_open_command(const struct state *s, const char *id, int *ret, struct status *st);
