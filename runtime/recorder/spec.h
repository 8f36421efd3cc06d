/*
 * Specifications: recorder.v1.SpecFile messages that arrive as a file (proto/recorder/v1). They
 * hold secrets, so the file is gone once it was read, or given up.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"
#include "runtime/recorder/meta.h"

enum {
    SPEC_FILE_MAX = 8 * 1024 * 1024,
    SPEC_WAIT_MS = 10 * 1000,
    INPUT_MAX = 1024 * 1024,
    CURSOR_MAX = 1024 * 1024,
    DEFAULT_GRACE_MS = 5000,
};

static const uint64_t JOURNAL_BYTES_DEFAULT = 64ull << 20;
static const uint64_t JOURNAL_BYTES_MIN = 1ull << 20;
static const uint64_t JOURNAL_BYTES_MAX = 16ull << 30;

/* Of each process of the command, as setrlimit() has it; 0: none. */
struct command_limits {
    uint64_t memory, cpu, files, processes, file_size;
};

struct command_spec {
    struct meta meta; /* but for what only the claim knows */
    char **envs;      /* owned; NULL-terminated NAME=value pairs */
    uint64_t timeout_ms, idle_timeout_ms, grace_ms;
    bool stdin_pipe;
    struct command_limits limits;
    char *watch_path; /* owned; instead of args: a directory to be watched; NULL: none */
    bool watch_recursive;
    uint64_t unread_timeout_ms; /* it ends when nobody has read it for so long; 0: no limit */
};

struct input_spec {
    struct buf data;
    bool eof;
    bool positioned; /* it belongs at offset */
    uint64_t offset;
};

struct watch_spec {
    struct buf cursor; /* a recorder.v1.WatchCursor */
};

/* Wait until the file is whole, read it and unlink it, whatever comes of it. */
bool spec_read_command(const char *path, struct command_spec *ret, struct status *st);
bool spec_read_input(const char *path, struct input_spec *ret, struct status *st);
bool spec_read_watch(const char *path, struct watch_spec *ret, struct status *st);

void command_spec_deinit(struct command_spec *s);
void input_spec_deinit(struct input_spec *s);
void watch_spec_deinit(struct watch_spec *s);

/* The message alone, for tests. *ret_whole is false when more is to come. */
bool spec_parse_command(const uint8_t *data, size_t len, struct command_spec *ret, bool *ret_whole,
                        struct status *st);

/* The FileSpec in it, as it came. */
bool spec_read_file(const char *path, struct buf *ret, struct status *st);
