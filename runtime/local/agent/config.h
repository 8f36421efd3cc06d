/* What the agent was told at its start (handover.h), and since then (init.h). */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config {
    const char *id; /* in the text, as the next */
    const char *template_id;
    const char *start; /* a shell's command; NULL: none */
    const char *ready; /* succeeds once the sandbox is ready; NULL: it is at once */
    char *token;       /* owned; NULL: open */
    char *user;        /* owned; who is meant when nobody is named */
    char *workdir;     /* owned; "" for the user's home */
    bool single_user;  /* one id: everything runs as AGENT_USER */
    int64_t disk_bytes;
    int64_t memory_bytes;
    char **envs; /* owned, and so are its strings: "NAME=VALUE" */
    size_t n_envs;
    char *text; /* owned */
};

/* Reads all of fd. */
bool config_read(struct config *c, int fd, struct status *st);
/* Takes text, which is len bytes long and ends with a NUL. */
bool config_parse(struct config *c, char *text, size_t len, struct status *st);
void config_deinit(struct config *c);

/* Changes token, user or workdir. */
void config_set(char **setting, const char *value);
void config_clear_envs(struct config *c);
void config_add_env(struct config *c, const char *name, const char *value);
/* Whether it is the token, of which there is one. Tells nothing by how long it takes. */
bool config_has_token(const struct config *c, const char *given);
