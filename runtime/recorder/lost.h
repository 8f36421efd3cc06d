/* The end of commands whose writer is gone without having recorded one. */
#pragma once

#include "common/base/status.h"

enum settle_result {
    SETTLE_ALIVE, /* a writer is there, or somebody is settling it now */
    SETTLE_ENDED, /* no writer; the journal has its end, `closed` included */
    SETTLE_FAILED,
};

/*
 * Where no writer is and no end is recorded: ends what is left of the command, then appends
 * exited{LOST} and closed, so that every later reader sees the same.
 */
enum settle_result lost_settle(int dir, struct status *st);
