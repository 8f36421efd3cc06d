/*
 * The outcome of anything that can fail: a plain value, copied by assignment, nothing to free.
 *
 * A function that can fail returns bool (true: done) and fills its last parameter only on failure,
 * so a failure is one line: return status_set(st, CODE_NOT_FOUND, REASON, "sandbox %s is gone",
 * id); Outcomes that are no errors (need more bytes, would block) are an enum of that function
 * instead.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* gRPC's status codes, by number (grpc/status.h, which not every program here may include). */
enum code {
    CODE_OK = 0,
    CODE_CANCELLED = 1,
    CODE_UNKNOWN = 2,
    CODE_INVALID_ARGUMENT = 3,
    CODE_DEADLINE_EXCEEDED = 4,
    CODE_NOT_FOUND = 5,
    CODE_ALREADY_EXISTS = 6,
    CODE_PERMISSION_DENIED = 7,
    CODE_RESOURCE_EXHAUSTED = 8,
    CODE_FAILED_PRECONDITION = 9,
    CODE_ABORTED = 10,
    CODE_OUT_OF_RANGE = 11,
    CODE_UNIMPLEMENTED = 12,
    CODE_INTERNAL = 13,
    CODE_UNAVAILABLE = 14,
    CODE_DATA_LOSS = 15,
    CODE_UNAUTHENTICATED = 16,
};

enum { STATUS_DETAILS = 4 };

struct status {
    enum code code;    /* CODE_OK: the rest is empty */
    int reason;        /* sandbox.v1.ErrorReason; goes out as google.rpc.ErrorInfo */
    int64_t retry_ms;  /* how long to wait before trying again; 0: unknown (google.rpc.RetryInfo) */
    char field[64];    /* the request field at fault, if one is (google.rpc.BadRequest) */
    char message[512]; /* for people: valid UTF-8, cut when longer, never parsed */
    struct {
        char key[24]; /* empty: unused */
        char value[104];
    } detail[STATUS_DETAILS]; /* ErrorInfo metadata */
};

#define STATUS_INIT ((struct status){.code = CODE_OK})

/* All return false, for `return status_set(...)`. st may be NULL: then nothing is recorded. */
bool status_set(struct status *st, enum code code, int reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts context in front of the message. */
bool status_prefix(struct status *st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds one ErrorInfo metadata pair; beyond STATUS_DETAILS pairs it is dropped. */
bool status_detail(struct status *st, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* An INVALID_ARGUMENT that names the field. */
bool status_bad_field(struct status *st, int reason, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* "NOT_FOUND" and so on; "UNKNOWN" for a number that is no code. */
const char *code_name(enum code code);
