/* What a sandbox may use. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* 0 stands for the default in every number. */
struct zygote_limits {
    int64_t memory_bytes; /* 1 GiB; of all processes (tier B: of each) */
    int64_t disk_bytes;   /* 2 GiB; the writable layer */
    int64_t files;        /* 200,000; its inodes */
    int64_t pids;         /* 512 */
    int64_t cpu_millis;   /* 2000; CPU time per second, in thousandths (tier B: not limited) */
    int64_t open_files;   /* of each process; what the machine has to share, 4096 to 65536 */
    bool on_disk;         /* the writable layer is in a file of the data directory; else it is in
                             memory, and counts on top */
};

/* With the defaults filled in. */
struct zygote_limits zygote_limits(const struct zygote_limits *wanted);
