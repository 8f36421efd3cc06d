/* What the agent was told at its start (handover.h), for its whole life. */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config {
    const char *id;
    const char *template_id;
    const char *token;   /* NULL: open */
    const char *user;    /* who is meant when nobody is named */
    const char *workdir; /* "" for the user's home */
    bool single_user;    /* one id: everything runs as AGENT_USER */
    int64_t disk_bytes;
    int64_t memory_bytes;
    const char **envs; /* owned; "NAME=VALUE", pointing into the text */
    size_t n_envs;
    char *text; /* owned; what the strings point into */
};

/* Reads all of fd. */
bool config_read(struct config *c, int fd, struct status *st);
/* Takes text, which is len bytes long and ends with a NUL. */
bool config_parse(struct config *c, char *text, size_t len, struct status *st);
void config_deinit(struct config *c);
