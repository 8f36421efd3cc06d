/* Processes, found through /proc: who came from whom, and ending what is left of a command. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Whom a process came from, and with whom it is. False: there is none. */
struct proc_ties {
    pid_t parent, session;
};

bool proc_ties(pid_t pid, struct proc_ties *ret);

/* When a process started, in ticks since boot; 0 when there is none. */
uint64_t proc_start_ticks(pid_t pid);
void proc_boot_id(char *to, size_t size);

/* How often the kernel ended something because memory ran out. */
uint64_t proc_oom_kills(void);

/* Sends a signal to all that descend from root, but not to root. Returns how many there were. */
size_t proc_signal_descendants(pid_t root, int signal);
/* The same for those of them that are in this process group. */
size_t proc_signal_group_below(pid_t root, pid_t group, int signal);
/* SIGKILL to all descendants, until none is left that could make new ones. */
void proc_kill_descendants(pid_t root);
/* SIGKILL to a session, given that its leader, if it is there, started at start_ticks. */
void proc_kill_session(pid_t session, uint64_t start_ticks);
