/* Input for a command and cursors of watchers, as the recorder takes them. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input_spec {
    const uint8_t *data; /* borrowed */
    size_t len;
    bool eof;
    bool positioned; /* the data belongs at offset; else behind what is there */
    uint64_t offset;
};

/* A SpecFile for the verb input. Owned by the caller. */
uint8_t *input_spec_pack(const struct input_spec *input, size_t *ret_len);

/* The same for the verb watch. cursor: a WatchCursor; NULL for none. */
uint8_t *watch_spec_pack(const uint8_t *cursor, size_t len, size_t *ret_len);
