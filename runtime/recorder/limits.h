/* Resource limits of a command's processes. */
#pragma once

#include "runtime/recorder/spec.h"

/* Sets them for this process. False with errno; *ret_what names the one that cannot be set. */
bool limits_apply(const struct command_limits *l, const char **ret_what);
