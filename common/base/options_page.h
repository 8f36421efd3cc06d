/*
 * Pages made of a program's table of options, so that none can be out of date: its manual page, a
 * reference for docs/, completion for shells, and a configuration file to start from.
 */
#pragma once

#include "common/base/options.h"

/* For program.print_page. what: man, markdown, bash, zsh, fish or config. */
bool options_page(const struct program *p, const char *what, FILE *to);
