/* The follower: writes a command's events to stdout, from any of them on, as they come. */
#pragma once

#include "common/base/status.h"
#include "common/journal/view.h"

#include <stdint.h>

enum follow_until { FOLLOW_EXITED, FOLLOW_CLOSED, FOLLOW_NOW };

struct follow_options {
    uint64_t from; /* at least 1 */
    enum follow_until until;
    enum tail_unit tail; /* starts so much before the end, if that is later than from */
    uint64_t tail_amount;
    struct view_options view;
    bool progress; /* KEEP_UP waits for it */
    bool attached; /* it stands for a run: of a record that was removed, the end is what counts */
};

/* dir: the command's directory. */
bool follow(int dir, const struct follow_options *o, struct status *st);
