/* See watch.h. Looking by stat() costs nothing worth mentioning, works on every file system, and
 * cannot miss what happened in between, as a queue of events can. */
#include "service/identity/watch.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct watch {
    struct list files; /* of struct watched */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t stop;
    bool stopping; /* under lock */
};

static int64_t ns_of(struct timespec t)
{
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* A file that is not there has a stamp too: all zeros. */
static struct watch_stamp stamp(const char *path)
{
    struct stat s;

    if (path == NULL || stat(path, &s) != 0)
        return (struct watch_stamp){0};
    return (struct watch_stamp){
        .device = s.st_dev,
        .inode = s.st_ino,
        .size = (uint64_t)s.st_size,
        .modified_ns = ns_of(s.st_mtim),
        .changed_ns = ns_of(s.st_ctim),
    };
}

static void look_at(struct watched *f)
{
    struct watch_stamp now[WATCHED_FILES];
    bool still;

    for (int i = 0; i < WATCHED_FILES; i++)
        now[i] = stamp(f->paths[i]);
    still = memcmp(now, f->last, sizeof(now)) == 0;
    memcpy(f->last, now, sizeof(now));
    if (!still || memcmp(now, f->known, sizeof(now)) == 0)
        return;
    memcpy(f->known, now, sizeof(now));
    f->changed(f);
}

void watch_look(struct watch *w)
{
    LIST_FOR_EACH (node, &w->files)
        look_at(container_of(node, struct watched, node));
}

struct watch *watch_new(void)
{
    struct watch *w = xcalloc(1, sizeof(*w));
    pthread_condattr_t attr;

    list_init(&w->files);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->stop, &attr);
    pthread_condattr_destroy(&attr);
    return w;
}

void watch_add(struct watch *w, struct watched *files)
{
    for (int i = 0; i < WATCHED_FILES; i++)
        files->known[i] = files->last[i] = stamp(files->paths[i]);
    list_append(&w->files, &files->node);
}

/* False: it is time to stop. */
static bool sleep_a_while(struct watch *w)
{
    int64_t until_ns = clock_monotonic_ns() + WATCH_INTERVAL_MS * NS_PER_MS;
    struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
    int error = 0;
    bool stopping;

    pthread_mutex_lock(&w->lock);
    while (!w->stopping && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&w->stop, &w->lock, &until);
    stopping = w->stopping;
    pthread_mutex_unlock(&w->lock);
    return !stopping;
}

static void *watch_main(void *arg)
{
    struct watch *w = arg;

    pthread_setname_np(pthread_self(), "watch");
    while (sleep_a_while(w))
        watch_look(w);
    return NULL;
}

bool watch_start(struct watch *w, struct status *st)
{
    int error = pthread_create(&w->thread, NULL, watch_main, w);

    if (error != 0)
        return status_set(st, CODE_INTERNAL, 0, "cannot start a thread: %s", strerror(error));
    w->running = true;
    return true;
}

void watch_free(struct watch *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->stop);
    pthread_mutex_unlock(&w->lock);
    if (w->running)
        pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->stop);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

bool watch_read_file(const char *path, struct buf *ret, struct status *st)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 1;

    if (fd < 0)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "cannot read %s: %s", path,
                          strerror(errno));
    while (n != 0) {
        char piece[4096];

        n = read(fd, piece, sizeof(piece));
        if (n < 0 && errno != EINTR)
            return status_set(st, CODE_INVALID_ARGUMENT, 0, "cannot read %s: %s", path,
                              strerror(errno));
        if (n > 0 && !buf_append(ret, piece, (size_t)n))
            return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s is longer than %zu bytes", path,
                              ret->cap);
    }
    return true;
}
