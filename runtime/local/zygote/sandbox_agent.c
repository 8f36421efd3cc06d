/* See sandbox_agent.h. The symbols are the linker's, made from the program's file (BUILD.bazel). */
#include "runtime/local/zygote/sandbox_agent.h"

extern const uint8_t _binary_agent_program_start[];
extern const uint8_t _binary_agent_program_end[];

const uint8_t *sandbox_agent(void)
{
    return _binary_agent_program_start;
}

size_t sandbox_agent_len(void)
{
    return (size_t)(_binary_agent_program_end - _binary_agent_program_start);
}
