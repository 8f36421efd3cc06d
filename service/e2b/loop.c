/*
 * See loop.h. One round: wait for sockets, tasks or the earliest timer; tell curl; then, outside of
 * curl's callbacks, report what finished and run tasks and timers, which may add and remove
 * handles.
 */
#include "service/e2b/loop.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

enum { EVENTS_PER_ROUND = 128 };

struct loop {
    pthread_t thread;
    int epoll;
    int wake; /* eventfd: the inbox is not empty */
    CURLM *multi;
    int64_t curl_at_ns; /* when curl wants to be called; INT64_MAX: not */
    uint64_t random;
    bool stopping;

    struct timers timers;

    pthread_mutex_t lock; /* guards the inbox */
    struct task *inbox;
    struct task **inbox_end;
};

/* --- timers --- */

void loop_timer_stop(struct loop *l, struct loop_timer *t)
{
    timers_stop(&l->timers, &t->timer);
}

void loop_timer_start(struct loop *l, struct loop_timer *t, int64_t at_ns)
{
    if (at_ns == INT64_MAX)
        loop_timer_stop(l, t);
    else
        timers_set(&l->timers, &t->timer, at_ns);
}

static void run_timers(struct loop *l)
{
    int64_t now = clock_monotonic_ns();
    struct timer *timer;

    while ((timer = timers_take_due(&l->timers, now)) != NULL) {
        struct loop_timer *due = container_of(timer, struct loop_timer, timer);

        due->run(due);
    }
}

/* --- tasks --- */

void loop_post(struct loop *l, struct task *task)
{
    uint64_t one = 1;
    bool was_empty;

    task->next = NULL;
    pthread_mutex_lock(&l->lock);
    was_empty = l->inbox == NULL;
    *l->inbox_end = task;
    l->inbox_end = &task->next;
    pthread_mutex_unlock(&l->lock);
    if (was_empty && write(l->wake, &one, sizeof one) != sizeof one)
        assert(errno == EAGAIN); /* the counter is full: the loop will wake anyway */
}

static void run_tasks(struct loop *l)
{
    uint64_t count;
    struct task *task;

    /* Emptied before the inbox is taken, so that no later post goes unnoticed. */
    if (read(l->wake, &count, sizeof count) < 0)
        assert(errno == EAGAIN);
    pthread_mutex_lock(&l->lock);
    task = l->inbox;
    l->inbox = NULL;
    l->inbox_end = &l->inbox;
    pthread_mutex_unlock(&l->lock);
    while (task != NULL) {
        struct task *next = task->next;

        task->run(task);
        task = next;
    }
}

/* --- curl --- */

/* curl says what it waits for at a socket. The socket's own pointer, which curl keeps for us, tells
 * whether epoll has it already. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    struct loop *l = arg;
    struct epoll_event ev = {.data.fd = fd};

    if (what == CURL_POLL_REMOVE) {
        if (known != NULL)
            epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    if (what & CURL_POLL_IN)
        ev.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        ev.events |= EPOLLOUT;
    if (epoll_ctl(l->epoll, known != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) < 0)
        epoll_ctl(l->epoll, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
    if (known == NULL)
        curl_multi_assign(l->multi, fd, l);
    return 0;
}

static int on_curl_timer(CURLM *multi, long ms, void *arg)
{
    struct loop *l = arg;

    l->curl_at_ns = ms < 0 ? INT64_MAX : clock_monotonic_ns() + ms * NS_PER_MS;
    return 0;
}

static void tell_curl(struct loop *l, curl_socket_t fd, uint32_t events)
{
    int running, what = 0;

    if (events & EPOLLIN)
        what |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        what |= CURL_CSELECT_OUT;
    if (events & (EPOLLERR | EPOLLHUP))
        what |= CURL_CSELECT_ERR;
    curl_multi_socket_action(l->multi, fd, what, &running);
}

static void run_curl_timer(struct loop *l)
{
    if (l->curl_at_ns > clock_monotonic_ns())
        return;
    l->curl_at_ns = INT64_MAX; /* curl sets it anew where it needs one */
    tell_curl(l, CURL_SOCKET_TIMEOUT, 0);
}

static void report_finished(struct loop *l)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(l->multi, &left)) != NULL) {
        CURLcode result = msg->data.result;
        struct loop_handle *h;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &h);
        loop_remove_handle(l, h); /* msg is gone with it */
        h->done(h, result);
    }
}

void loop_add_handle(struct loop *l, struct loop_handle *h)
{
    CURLMcode mc;

    curl_easy_setopt(h->easy, CURLOPT_PRIVATE, h);
    mc = curl_multi_add_handle(l->multi, h->easy);
    assert(mc == CURLM_OK);
    (void)mc;
}

void loop_remove_handle(struct loop *l, struct loop_handle *h)
{
    curl_multi_remove_handle(l->multi, h->easy);
}

uint64_t loop_random(struct loop *l)
{
    /* splitmix64 */
    uint64_t z = l->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* --- the thread --- */

/* For epoll_wait: until the earliest timer, rounded up so as not to spin before it. */
static int wait_ms(const struct loop *l)
{
    int64_t at = timers_next_ns(&l->timers);
    int64_t now;

    if (l->curl_at_ns < at)
        at = l->curl_at_ns;
    if (at == INT64_MAX)
        return -1;
    now = clock_monotonic_ns();
    if (at <= now)
        return 0;
    at = (at - now + NS_PER_MS - 1) / NS_PER_MS;
    return at < 60000 ? (int)at : 60000;
}

static void *run(void *arg)
{
    struct loop *l = arg;
    struct epoll_event events[EVENTS_PER_ROUND];

    while (!l->stopping) {
        int n = epoll_wait(l->epoll, events, EVENTS_PER_ROUND, wait_ms(l));
        bool woken = false;

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == l->wake)
                woken = true;
            else
                tell_curl(l, events[i].data.fd, events[i].events);
        }
        report_finished(l);
        if (woken)
            run_tasks(l);
        run_timers(l);
        /* Last, because what was just started is due at once. */
        run_curl_timer(l);
        report_finished(l);
    }
    return NULL;
}

struct stop {
    struct task task;
    struct loop *loop;
};

static void on_stop(struct task *task)
{
    ((struct stop *)task)->loop->stopping = true;
}

static void release(struct loop *l)
{
    if (l->multi != NULL)
        curl_multi_cleanup(l->multi);
    if (l->wake >= 0)
        close(l->wake);
    if (l->epoll >= 0)
        close(l->epoll);
    pthread_mutex_destroy(&l->lock);
    timers_deinit(&l->timers);
    free(l);
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;

    struct stop stop = {.task.run = on_stop, .loop = l};

    loop_post(l, &stop.task);
    pthread_join(l->thread, NULL);
    release(l);
}

static bool start_thread(struct loop *l)
{
    sigset_t all, before;
    int error;

    /* Signals are the main thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&l->thread, NULL, run, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return error == 0;
}

bool loop_new(struct loop **ret, struct status *st)
{
    struct loop *l = xcalloc(1, sizeof *l);
    struct epoll_event ev = {.events = EPOLLIN};

    pthread_mutex_init(&l->lock, NULL);
    l->inbox_end = &l->inbox;
    l->curl_at_ns = INT64_MAX;
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->multi = curl_multi_init();
    ev.data.fd = l->wake;
    if (l->wake < 0 || l->epoll < 0 || l->multi == NULL ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &ev) < 0 ||
        getrandom(&l->random, sizeof l->random, 0) != sizeof l->random)
        goto fail;
    curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
    curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
    if (!start_thread(l))
        goto fail;
    *ret = l;
    return true;
fail:
    status_set(st, CODE_INTERNAL, 0, "cannot start a thread for the requests to E2B: %s",
               strerror(errno));
    release(l);
    return false;
}
