/* See sandbox_slots.h. Runs in the zygote; pure. */
#include "runtime/local/zygote/sandbox_slots.h"

#include <stdio.h>
#include <string.h>

/* How many slots fit between first and the end of the extent that it is in. */
static int count(const char *map, uint32_t first)
{
    unsigned long inside, outside, length;
    int read;

    for (; sscanf(map, "%lu %lu %lu%n", &inside, &outside, &length, &read) == 3; map += read) {
        unsigned long n;

        if (first < inside || first - inside >= length)
            continue;
        n = (length - (first - inside)) / SANDBOX_SLOT_IDS;
        return n < SANDBOX_SLOTS_MAX ? (int)n : SANDBOX_SLOTS_MAX;
    }
    return 0;
}

bool sandbox_slots_init(struct sandbox_slots *slots, const char *uid_map, const char *gid_map)
{
    static const uint32_t firsts[] = {SANDBOX_SLOTS_FIRST, SANDBOX_SLOTS_LOW};

    memset(slots, 0, sizeof *slots);
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts && slots->n == 0; i++) {
        int users = count(uid_map, firsts[i]), groups = count(gid_map, firsts[i]);

        slots->first = firsts[i];
        slots->n = users < groups ? users : groups;
    }
    return slots->n > 0;
}

uint32_t sandbox_slots_take(struct sandbox_slots *slots)
{
    if (slots->shared)
        return slots->first;
    for (int i = 0; i < slots->n; i++) {
        uint64_t bit = UINT64_C(1) << i % 64;

        if (slots->taken[i / 64] & bit)
            continue;
        slots->taken[i / 64] |= bit;
        return slots->first + (uint32_t)i * SANDBOX_SLOT_IDS;
    }
    return 0;
}

void sandbox_slots_give(struct sandbox_slots *slots, uint32_t first)
{
    uint32_t i = (first - slots->first) / SANDBOX_SLOT_IDS;

    if (first > 0 && !slots->shared)
        slots->taken[i / 64] &= ~(UINT64_C(1) << i % 64);
}
