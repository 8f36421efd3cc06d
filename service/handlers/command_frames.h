/* What `show` and `list` of the recorder print: frames (0x0A, length, sandbox.v1.Command). Pure. */
#pragma once

#include "sandbox/v1/commands.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command_frames {
    Sandbox__V1__Command **items; /* owned, each too */
    size_t n_items;
};

/* False when the bytes are anything else, or a text in them is not UTF-8. */
bool command_frames_read(struct command_frames *f, const uint8_t *data, size_t len);
void command_frames_deinit(struct command_frames *f);
