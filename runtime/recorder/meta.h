/*
 * What is kept of a command beside its journal, as small protobuf messages of the recorder's own:
 *
 *   meta   what it is; written before the command is published, never changed
 *   pid    its first process, so that what is left of it can be found; written before it runs
 *   end    its last events, so that they are known without a walk through the journal
 *   size   of its terminal, once that was changed
 *   acked  the highest acknowledged event
 */
#pragma once

#include "common/base/status.h"
#include "common/journal/journal.h"
#include "runtime/recorder/state.h"

#include <stddef.h>
#include <stdint.h>

#ifndef RECORDER_FORMAT
#define RECORDER_FORMAT 2 /* a build that stands for the next version has another */
#endif

enum {
    /* Of the journal and everything around it. 1: had no empty events where a line was unfinished.
     */
    META_FORMAT = RECORDER_FORMAT,
    DIGEST_MAX = 64,
    META_MAX = 4 * 1024 * 1024,
};

struct terminal_size {
    uint16_t cols, rows;
};

struct meta {
    uint32_t format;
    char command_id[ID_MAX + 1];
    char sandbox_id[ID_MAX + 1];
    uint8_t digest[DIGEST_MAX];
    size_t digest_len;
    char **args;      /* owned; NULL-terminated */
    char *cwd;        /* owned; as asked for */
    char *user;       /* owned; who runs it */
    char **env_names; /* owned; NULL-terminated; values are never kept */
    int64_t start_ns;
    uint32_t overflow; /* sandbox.v1.Overflow */
    uint64_t max_bytes;
    bool protected;
    char **labels;                /* owned; NULL-terminated key=value pairs */
    bool terminal;                /* it runs in one */
    struct terminal_size initial; /* of it */
};

void meta_deinit(struct meta *m);
bool meta_write(int dir, const struct meta *m, struct status *st);
bool meta_read(int dir, struct meta *ret, struct status *st);

struct pid_record {
    uint32_t pid;
    uint64_t start_ticks; /* since boot: tells a reused number */
    char boot_id[64];
};

bool pid_write(int dir, const struct pid_record *p);
bool pid_read(int dir, struct pid_record *ret);

struct end_record {
    uint8_t exited[JOURNAL_EXITED_MAX]; /* the frame */
    size_t exited_len;
    uint64_t exited_seq;
    int64_t exited_ns;
    uint64_t bytes_before; /* output of the command before its exit */
    uint64_t last_seq;     /* of `closed`; 0 while something may follow */
    int64_t closed_ns;
    uint64_t bytes_total;  /* output, up to `closed` */
    uint64_t input_offset; /* bytes of input that the command took */
    bool input_eof;        /* and its end */
};

bool end_write(int dir, const struct end_record *e);
bool end_read(int dir, struct end_record *ret);

bool size_write(int dir, struct terminal_size size);
/* The size now, of a command with a terminal. */
struct terminal_size size_read(int dir, const struct meta *m);

bool acked_write(int dir, uint64_t seq);
uint64_t acked_read(int dir);

/* A string of len bytes, which need not be terminated. Owned by the caller. */
char *string_of(const void *bytes, size_t len);

/* A list of strings that grows; freed with strings_free(). */
void strings_add(char ***list, const char *s, size_t len);
size_t strings_count(char *const *list);
void strings_free(char **list);
