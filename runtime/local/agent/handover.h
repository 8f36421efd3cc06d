/*
 * What the zygote hands to an agent: four descriptors and one text.
 *
 * The text is a run of "key=value\0" records: id, template, token (absent: open), user, workdir
 * (may be empty), uids ("range" or "single"), disk (bytes), memory (bytes), start and ready
 * (absent: none; see startup.h), and any number of env:NAME=VALUE.
 */
#pragma once

enum agent_fd {
    AGENT_FD_HTTP = 3,   /* listening stream socket */
    AGENT_FD_DIAL = 4,   /* listening SOCK_SEQPACKET socket, see zygote.h */
    AGENT_FD_CONFIG = 5, /* the text: a file, read from its start */
    AGENT_FD_READY = 6,  /* one byte is written when the agent serves; then closed */
    AGENT_FD_END,
};

enum { AGENT_CONFIG_MAX = 4 * 1024 * 1024 };

/* Sent in place of the byte: why the agent cannot serve, and ends. */
struct agent_failure {
    char message[512];
};

/* The envd whose behaviour the agent has; SDKs decide by it. */
#define AGENT_ENVD_VERSION "0.6.13"

/* The ordinary user of every sandbox. */
#define AGENT_USER "user"
#define AGENT_USER_HOME "/home/user"
enum { AGENT_USER_ID = 1000 };
