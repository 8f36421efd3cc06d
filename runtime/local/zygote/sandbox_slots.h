/*
 * Ranges of the host's ids for sandboxes: in tier A each has one of its own, so that what the
 * kernel counts or permits by user (pipes, watches, signals, files) never mixes two of them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    SANDBOX_SLOT_IDS = 65536,
    SANDBOX_SLOTS_MAX = 4096,
    /* Given to nobody, as systemd's table of users and groups has it, and enough for all slots. */
    SANDBOX_SLOTS_FIRST = 1879048192,
    SANDBOX_SLOTS_LOW = 100000, /* in a user namespace those are rare, and these less so */
};

struct sandbox_slots {
    uint32_t first; /* id */
    int n;
    bool shared; /* all sandboxes have the first one */
    uint64_t taken[SANDBOX_SLOTS_MAX / 64];
};

/* From what maps ("/proc/self/uid_map", and of groups) say there is. False: there is no range. */
bool sandbox_slots_init(struct sandbox_slots *slots, const char *uid_map, const char *gid_map);

/* The first id of a slot that is the caller's now; 0: none is left. */
uint32_t sandbox_slots_take(struct sandbox_slots *slots);
void sandbox_slots_give(struct sandbox_slots *slots, uint32_t first);
