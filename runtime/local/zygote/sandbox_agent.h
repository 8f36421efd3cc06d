/* The agent program, built into the daemon. */
#pragma once

#include <stddef.h>
#include <stdint.h>

const uint8_t *sandbox_agent(void);
size_t sandbox_agent_len(void);
