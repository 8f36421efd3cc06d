/* The loop's promises: timers in order and never early, posts from anywhere, removal in a round. */
#include "common/http/loop.h"

#include "common/base/clock.h"
#include "common/base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { N_TIMERS = 200 };

struct timed {
    struct loop_timer timer;
    int64_t *last;
    int *fired;
};

static void on_timed(struct loop_timer *timer)
{
    struct timed *t = container_of(timer, struct timed, timer);

    assert_true(clock_monotonic_ns() >= timer->timer.at_ns);
    assert_true(timer->timer.at_ns >= *t->last);
    *t->last = timer->timer.at_ns;
    ++*t->fired;
}

static void test_timers_fire_in_order(void **state)
{
    struct timed timers[N_TIMERS];
    struct loop l;
    int64_t start = clock_monotonic_ns(), last = 0;
    int fired = 0, cancelled = 0;

    assert_true(loop_init(&l, NULL));
    for (int i = 0; i < N_TIMERS; i++) {
        timers[i] = (struct timed){.timer.fire = on_timed, .last = &last, .fired = &fired};
        loop_timer_set(&l, &timers[i].timer, start + (i * 7919) % 1000 * 20000);
    }
    for (int i = 0; i < N_TIMERS; i += 3) {
        loop_timer_cancel(&l, &timers[i].timer);
        cancelled++;
    }
    for (int i = 1; i < N_TIMERS; i += 3)
        loop_timer_set(&l, &timers[i].timer, start + (i * 104729) % 1000 * 20000);
    while (l.timers.n > 0)
        loop_run_once(&l, -1);
    assert_int_equal(fired, N_TIMERS - cancelled);
    loop_deinit(&l);
}

struct posted {
    struct task task;
    struct loop *loop;
    int *count;
};

static void on_posted(struct task *task)
{
    struct posted *p = container_of(task, struct posted, task);

    if (++*p->count == 1000)
        loop_stop(p->loop);
}

static void *post_all(void *arg)
{
    struct posted *p = arg;

    for (int i = 0; i < 500; i++)
        executor_post(loop_executor(p[i].loop), &p[i].task);
    return NULL;
}

static void test_posts_from_threads_arrive(void **state)
{
    static struct posted p[1000];
    pthread_t threads[2];
    struct loop l;
    int count = 0;

    assert_true(loop_init(&l, NULL));
    for (int i = 0; i < 1000; i++)
        p[i] = (struct posted){.task.run = on_posted, .loop = &l, .count = &count};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_all, p + i * 500), 0);
    loop_run(&l);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(count, 1000);
    loop_deinit(&l);
}

struct pair {
    struct loop *loop;
    struct loop_fd io[2];
    int fired;
};

static struct pair pair;

/* Whichever comes first removes both: the other must not be called any more. */
static void on_pair(struct loop_fd *io, uint32_t events)
{
    pair.fired++;
    loop_remove(pair.loop, &pair.io[0]);
    loop_remove(pair.loop, &pair.io[1]);
}

static void test_removed_descriptors_are_not_reported(void **state)
{
    struct loop l;
    int pipes[2][2];

    assert_true(loop_init(&l, NULL));
    pair.loop = &l;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(write(pipes[i][1], "x", 1), 1);
        pair.io[i] = (struct loop_fd){.fd = pipes[i][0], .ready = on_pair};
        assert_true(loop_add(&l, &pair.io[i], EPOLLIN, NULL));
    }
    loop_run_once(&l, -1);
    loop_run_once(&l, 0);
    assert_int_equal(pair.fired, 1);
    for (int i = 0; i < 2; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    loop_deinit(&l);
}

static char order[3];

static void on_plain(struct loop_fd *io, uint32_t events)
{
    strcat(order, "p");
}

static void on_first(struct loop_fd *io, uint32_t events)
{
    strcat(order, "f");
}

static void test_what_is_first_is_called_before_the_others(void **state)
{
    struct loop l;
    int pipes[2][2];
    struct loop_fd io[2] = {{.ready = on_plain}, {.ready = on_first, .first = true}};

    assert_true(loop_init(&l, NULL));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        io[i].fd = pipes[i][0];
        assert_true(loop_add(&l, &io[i], EPOLLIN, NULL));
        assert_int_equal(write(pipes[i][1], "x", 1), 1);
    }
    loop_run_once(&l, -1);
    assert_string_equal(order, "fp");
    for (int i = 0; i < 2; i++) {
        loop_remove(&l, &io[i]);
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    loop_deinit(&l);
}

static void test_deinit_runs_what_was_posted(void **state)
{
    struct loop l;
    int count = 0;
    struct posted p = {.task.run = on_posted, .loop = &l, .count = &count};

    assert_true(loop_init(&l, NULL));
    executor_post(loop_executor(&l), &p.task);
    loop_deinit(&l);
    assert_int_equal(count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_order),
        cmocka_unit_test(test_posts_from_threads_arrive),
        cmocka_unit_test(test_removed_descriptors_are_not_reported),
        cmocka_unit_test(test_what_is_first_is_called_before_the_others),
        cmocka_unit_test(test_deinit_runs_what_was_posted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
