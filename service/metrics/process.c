/* See process.h. Read from /proc when a page is made, on the thread that makes it. */
#include "service/metrics/process.h"

#include "common/base/version.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void gauge(struct metrics_page *page, const char *name, const char *help, double value)
{
    metrics_head(page, name, METRIC_GAUGE, help);
    metrics_value(page, name, NULL, value);
}

static bool read_file(const char *path, char *to, size_t size)
{
    FILE *from = fopen(path, "re");
    size_t n = from != NULL ? fread(to, 1, size - 1, from) : 0;

    if (from != NULL)
        fclose(from);
    to[n] = '\0';
    return n > 0;
}

/* The program's name, in brackets, may hold anything: fields are counted behind it. */
static void from_stat(struct metrics_page *page)
{
    char text[1024], *behind;
    unsigned long user = 0, kernel = 0, size = 0;
    unsigned long long started = 0;
    long resident = 0, threads = 0;
    double tick = (double)sysconf(_SC_CLK_TCK);
    struct timespec wall, boot;

    if (!read_file("/proc/self/stat", text, sizeof(text)) ||
        (behind = strrchr(text, ')')) == NULL ||
        sscanf(behind + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d %llu "
               "%lu %ld",
               &user, &kernel, &threads, &started, &size, &resident) != 6)
        return;
    metrics_head(page, "process_cpu_seconds_total", METRIC_COUNTER,
                 "Total user and system CPU time spent in seconds.");
    metrics_value(page, "process_cpu_seconds_total", NULL, (double)(user + kernel) / tick);
    gauge(page, "process_virtual_memory_bytes", "Virtual memory size in bytes.", (double)size);
    gauge(page, "process_resident_memory_bytes", "Resident memory size in bytes.",
          (double)resident * (double)sysconf(_SC_PAGESIZE));
    gauge(page, "process_threads", "Number of threads.", (double)threads);
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    gauge(page, "process_start_time_seconds",
          "Start time of the process since unix epoch in seconds.",
          (double)(wall.tv_sec - boot.tv_sec) + (double)started / tick);
}

static void descriptors(struct metrics_page *page)
{
    DIR *dir = opendir("/proc/self/fd");
    struct rlimit limit;
    long open = -3; /* ".", "..", and that of the look itself */

    if (dir == NULL)
        return;
    while (readdir(dir) != NULL)
        open++;
    closedir(dir);
    gauge(page, "process_open_fds", "Number of open file descriptors.", (double)open);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        gauge(page, "process_max_fds", "Maximum number of open file descriptors.",
              (double)limit.rlim_cur);
}

static void collect(void *ctx, struct metrics_page *page)
{
    from_stat(page);
    descriptors(page);
    metrics_head(page, "sandboxd_build_info", METRIC_GAUGE, "Which build this is; always 1.");
    metrics_value(page, "sandboxd_build_info", "version=\"" SANDBOXD_VERSION "\"", 1);
}

void metrics_add_process(struct metrics *m)
{
    metrics_collect(m, collect, NULL);
}
