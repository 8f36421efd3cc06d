/* A command's terminal: the writer's end of a pseudo-terminal, and what is asked of it. */
#pragma once

#include "runtime/recorder/meta.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * Makes one. *ret_writer: the writer's end; *ret_command: the command's, which belongs to uid.
 * False with errno; then neither is open.
 */
bool terminal_open(struct terminal_size size, uid_t uid, int *ret_writer, int *ret_command);

/* In the command's process, after setsid(): fd becomes what its session is controlled from. */
bool terminal_control(int fd);

/* The new size; the processes in the foreground get SIGWINCH. */
bool terminal_resize(int writer, struct terminal_size size);

/* The process group in the foreground; 0 when there is none. */
pid_t terminal_foreground(int writer);

/* What to type for the end of the input. */
char terminal_eof(int writer);
