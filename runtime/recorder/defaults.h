/*
 * The template's own user and directory, for commands that name none. Only E2B's agent knows them,
 * so sandboxd asks it when it installs the recorder, and they are kept in the state directory.
 */
#pragma once

#include "runtime/recorder/spec.h"
#include "runtime/recorder/state.h"

/* user and cwd: not empty, one line each. */
bool defaults_write(const struct state *s, const char *user, const char *cwd, struct status *st);

/* Fills in what the specification leaves empty. Without defaults it stays as it is: the command
 * runs as the recorder's own user then. */
void defaults_apply(const struct state *s, struct command_spec *spec);

/* The template's own user; owned by the caller. NULL: none is kept. */
char *defaults_user(const struct state *s);
