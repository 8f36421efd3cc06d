/*
 * Small files below a directory descriptor. Nothing follows a symbolic link, nothing but regular
 * files is read, and every size is capped: the state directory is not trusted more than needed.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <sys/types.h>

/* Appends the file's content to to. False with errno set (EFBIG: more than to may hold). */
bool file_read(int dir, const char *name, struct buf *to);

/* Replaces the file as a whole, or not at all. False with errno set. */
bool file_write(int dir, const char *name, const void *data, size_t len);

/* Makes a file that must not exist yet. */
bool file_create(int dir, const char *name, const void *data, size_t len);

/* Removes a directory that holds only files. */
void remove_flat_dir(int parent, const char *name);

/* The names in a directory that is open as dir. The callback returns false to stop. */
void for_each_name(int dir, bool (*visit)(void *arg, const char *name), void *arg);

/* A decimal number that ends at *ret_end. False when there is none, or more than 64 bits. */
bool parse_u64(const char *text, const char **ret_end, uint64_t *ret);
