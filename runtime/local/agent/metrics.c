/*
 * See metrics.h. The sandbox has no view of its control groups, so it counts: the processes it can
 * see are all of its own, and of what ended the kernel keeps the sum with whoever waited for it, in
 * the end the agent, their common ancestor.
 */
#include "runtime/local/agent/metrics.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/reply.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

struct usage {
    int64_t cpu_ns;
    int64_t memory;
};

/*
 * Fields 14 to 17 (user and system time, its own and that of children it has waited for) and 24
 * (resident pages) of /proc/PID/stat.
 */
static void add_process(struct usage *u, const char *pid)
{
    char path[64], text[1024], *at;
    uint64_t user, system, pages;
    int64_t waited_user, waited_system;
    int fd;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')'); /* the name may hold anything */
    if (!at || sscanf(at + 1,
                      " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
                      " %" SCNd64 " %" SCNd64 " %*d %*d %*d %*d %*u %*u %" SCNu64,
                      &user, &system, &waited_user, &waited_system, &pages) != 5)
        return;
    u->cpu_ns += ((int64_t)(user + system) + waited_user + waited_system) *
                 (NS_PER_S / sysconf(_SC_CLK_TCK));
    u->memory += (int64_t)(pages * (uint64_t)sysconf(_SC_PAGESIZE));
}

static struct usage look(void)
{
    struct usage u = {0};
    struct dirent *entry;
    DIR *dir = opendir("/proc");

    while (dir && (entry = readdir(dir)) != NULL)
        if (isdigit((unsigned char)*entry->d_name))
            add_process(&u, entry->d_name);
    if (dir)
        closedir(dir);
    return u;
}

void metrics_describe(const struct agent *agent, struct metrics *m, struct buf *out)
{
    struct usage now = look();
    int64_t at_ns = clock_monotonic_ns();
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t total = agent->config.memory_bytes;
    struct statvfs disk = {0};
    double percent = 0;

    if (m->at_ns > 0 && at_ns > m->at_ns && now.cpu_ns > m->cpu_ns)
        percent = 100.0 * (double)(now.cpu_ns - m->cpu_ns) / (double)(at_ns - m->at_ns) /
                  (double)(cpus > 0 ? cpus : 1);
    *m = (struct metrics){at_ns, now.cpu_ns};
    statvfs("/", &disk);
    buf_printf(out,
               "{\"ts\":%lld,\"cpu_count\":%ld,\"cpu_used_pct\":%.2f,\"mem_total_mib\":%" PRId64
               ",\"mem_used_mib\":%" PRId64 ",\"mem_total\":%" PRId64 ",\"mem_used\":%" PRId64
               ",\"mem_cache\":0,\"disk_used\":%" PRIu64 ",\"disk_total\":%" PRIu64 "}",
               (long long)time(NULL), cpus, percent, total >> 20, now.memory >> 20, total,
               now.memory, (uint64_t)(disk.f_blocks - disk.f_bfree) * disk.f_frsize,
               (uint64_t)disk.f_blocks * disk.f_frsize);
}

void metrics_get(struct agent *agent, struct http_exchange *x)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(METRICS_TEXT_MAX);

    metrics_describe(agent, &agent->metrics, &text);
    reply_fresh_json(x, buf_str(&text), buf_len(&text));
}
