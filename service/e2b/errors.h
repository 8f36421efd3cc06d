/*
 * What an upstream failure means to our callers: one table from curl's results, HTTP statuses and
 * Connect's codes to a code, a reason, and whether and how to try again.
 */
#pragma once

#include "common/base/status.h"
#include "service/e2b/retry.h"
#include "service/e2b/transfer.h"

/* Who said it; the rules are different. */
enum source {
    SOURCE_CURL = 1,     /* nobody: the way there failed */
    SOURCE_API = 2,      /* the control plane, about a sandbox */
    SOURCE_CREATE = 4,   /* the control plane, asked to create */
    SOURCE_FILES = 8,    /* the edge or envd, about a file */
    SOURCE_START = 16,   /* the edge or envd, asked to start a process, in HTTP */
    SOURCE_CONNECT = 32, /* envd, in Connect's terms */
    SOURCE_SNAPSHOT = 64 /* the control plane, about a snapshot */
};

/* What may help before trying again. */
enum remedy {
    REMEDY_NONE,
    REMEDY_LOOK, /* ask the control plane what became of the sandbox (and for its new token) */
    REMEDY_USER, /* the user does not exist in the sandbox */
};

struct verdict {
    struct status st; /* CODE_OK: it worked */
    enum again again;
    enum remedy remedy;
    int64_t told_ms; /* Retry-After; -1: none */
};

#define VERDICT_INIT ((struct verdict){.told_ms = -1})

/* Judges what is known of a finished transfer whose result or HTTP status is not as hoped for. */
void errors_judge(const struct transfer *t, enum source source, struct verdict *ret);

/* An answer that is not E2B's protocol. detail: what about it. */
void errors_garbage(enum source source, const char *detail, struct verdict *ret);

/* An error in Connect's terms; code is its name, "not_found". message may be NULL. */
void errors_connect(const char *code, const char *message, struct verdict *ret);

/* The table alone. number: a CURLcode, an HTTP status or an enum code, as source says; words: what
 * the peer wrote, or NULL. */
void errors_lookup(enum source source, int number, const char *words, struct verdict *ret);

/* The number of Connect's code; CODE_UNKNOWN for what is none. */
enum code errors_connect_code(const char *name);
