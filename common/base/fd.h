/* Descriptors that may do less at a time than was asked of them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Writes all of it, waiting where fd blocks. False with errno set. */
bool fd_write_all(int fd, const void *data, size_t len);
