/* What config.c and its table share. */
#pragma once

#include "service/config.h"

/* What holds when nobody says anything. */
void config_defaults(struct config *c);
/* Fills c->options, which point into *c. */
void config_table(struct config *c);
