/* Every method that sandboxd serves, with its handler: the one place where they meet. */
#pragma once

#include "service/rpc/call.h"

extern const struct method methods[];
extern const size_t n_methods;
