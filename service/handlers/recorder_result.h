/* What an exit code of the recorder means to the caller of the API: one table. */
#pragma once

#include "common/base/status.h"
#include "service/e2b/e2b.h"

#include <stdint.h>

enum recorder_result {
    RECORDER_RESULT_OK,
    RECORDER_RESULT_RETRY,  /* the recorder itself was killed or cut short: st says so */
    RECORDER_RESULT_FAILED, /* st is the answer */
};

/* digest: of the specification that was sent (32 bytes), for COMMAND_MISMATCH; NULL without one. */
enum recorder_result recorder_result(const struct e2b_output *out, const char *command_id,
                                     const uint8_t *digest, struct status *st);

/* The decimal number that a verb printed, and nothing else. */
bool recorder_number(const struct e2b_output *out, uint64_t *ret);
