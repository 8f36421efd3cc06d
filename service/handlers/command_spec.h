/* From a RunCommandRequest to what the recorder is told: checked, completed, and digested. */
#pragma once

#include "common/base/status.h"
#include "sandbox/v1/commands.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace;

enum { COMMAND_DIGEST_LEN = 32, COMMAND_ID_MADE_LEN = 32 };

/*
 * Serializes a recorder.v1.SpecFile. command_id: the request's or the one made for it. *ret_bytes
 * is the caller's. ret_digest: SHA-256 of everything that makes two specifications the same: what
 * is run, with which environment, directory, user, limits and policy; not how its output is read.
 * trace: goes into the command's environment, unless the request sets TRACEPARENT, and not into the
 * digest: a repetition is another step of the same command. NULL: none.
 */
bool command_spec_make(const Sandbox__V1__RunCommandRequest *request, const char *command_id,
                       const struct trace *trace, uint8_t **ret_bytes, size_t *ret_len,
                       uint8_t ret_digest[COMMAND_DIGEST_LEN], struct status *st);

struct Recorder__V1__CommandSpec;

/* The end of it, for whoever fills in a specification otherwise: digests and serializes it. */
void command_spec_seal(struct Recorder__V1__CommandSpec *spec,
                       uint8_t ret_digest[COMMAND_DIGEST_LEN], uint8_t **ret_bytes,
                       size_t *ret_len);

/* A fresh command_id: 128 random bits in hex. to: COMMAND_ID_MADE_LEN + 1 bytes. */
void command_id_make(char *to);
