/*
 * A follower's stdout: large writes that never block in the kernel, so that every bit of progress
 * of a slow reader is noticed, and one that is gone as well.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct output {
    int fd; /* owned when reopened */
    bool owned;
    bool gone; /* nobody reads any more */
};

void output_init(struct output *o, int fd);
void output_deinit(struct output *o);

/* Writes all of it; calls moved(arg) whenever some of it was taken. False: the reader is gone. */
bool output_write(struct output *o, const void *data, size_t len, void (*moved)(void *arg),
                  void *arg);
