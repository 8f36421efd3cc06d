/* What a program that is started inherits of signals. */
#pragma once

/* All as they are by default, none blocked. */
void signals_reset(void);
