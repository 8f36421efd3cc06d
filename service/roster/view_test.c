/* Lists as E2B could give them, and what watchers of all speeds are told of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "service/roster/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "a" runs, "b-" is paused, "c=x" carries the label project=x; end times are the nth of `ends`. */
static struct roster_list *list_of(const char *text, int64_t end_ns,
                                   const struct roster_list *before)
{
    struct e2b_sandbox *all = xcalloc(32, sizeof(*all));
    char *copy = xstrdup(text), *rest = copy, *word;
    size_t n = 0;

    while ((word = strsep(&rest, " ")) != NULL) {
        struct e2b_sandbox *s = &all[n];
        char *label = strchr(word, '='), *paused = strchr(word, '-');

        if (*word == '\0')
            continue;
        n++;
        s->end_ns = end_ns;
        s->template_id = xstrdup("base");
        if (paused != NULL) {
            s->state = E2B_PAUSED;
            *paused = '\0';
        }
        if (label != NULL) {
            *label = '\0';
            s->metadata = xcalloc(2, sizeof(*s->metadata));
            s->metadata[0] = (struct e2b_pair){xstrdup("project"), xstrdup(label + 1)};
            s->metadata[1] = (struct e2b_pair){xstrdup("a"), xstrdup("b")};
            s->n_metadata = 2;
        }
        s->id = xstrdup(word);
    }
    free(copy);
    return roster_list_new(all, n, before);
}

/* The next list, in place of the one before; whether it is another. */
static bool become(struct roster_list **l, const char *text, int64_t end_ns)
{
    struct roster_list *next = list_of(text, end_ns, *l);

    if (next == NULL)
        return false;
    roster_list_unref(*l);
    *l = next;
    return true;
}

/* At most so many of what is to be told: "+a *b -c ~d", ~ for one that does not fit any more. */
static const char *tell(struct roster_view *v, const struct roster_list *l, int n)
{
    static char told[256];
    struct roster_change c;
    size_t len = 0;

    told[0] = '\0';
    while (n-- > 0 && roster_view_is_due(v, l) && roster_view_next(v, l, &c)) {
        char sign = c.kind == ROSTER_ADDED     ? '+'
                    : c.kind == ROSTER_CHANGED ? '*'
                    : c.entry != NULL          ? '~'
                                               : '-';

        assert_true((c.entry == NULL) == (c.id != NULL));
        len += (size_t)snprintf(told + len, sizeof(told) - len, "%s%c%s", len > 0 ? " " : "", sign,
                                c.entry != NULL ? c.entry->sandbox.id : c.id);
        free(c.id);
    }
    return told;
}

static void test_lists(void **state)
{
    struct roster_list *l = list_of("c a b a- =", 1, NULL);

    /* In order; of two the later one; one without a name is as good as any. */
    assert_int_equal(l->n, 4);
    assert_string_equal(l->entries[1].sandbox.id, "a");
    assert_int_equal(l->entries[1].sandbox.state, E2B_PAUSED);
    assert_int_equal(roster_list_after(l, "a"), 2);
    assert_int_equal(roster_list_after(l, "aa"), 2);
    assert_int_equal(roster_list_after(l, "c"), 4);
    assert_false(become(&l, "= b c a-", 1)); /* the same in another order */
    assert_true(become(&l, "= b c a-", 2));
    assert_int_equal(l->number, 2);
    assert_int_equal(l->entries[0].revision, 2);
    assert_true(become(&l, "b c a-", 2));
    assert_int_equal(l->entries[0].revision, 2); /* and this one stayed as it was */
    roster_list_unref(l);
}

static void test_each_change_is_told_once(void **state)
{
    static const struct {
        const char *list;
        int64_t end_ns;
        const char *told;
    } steps[] = {
        {"a b c", 1, "+a +b +c"},   {"a b- c", 1, "*b"},  {"b- c d", 1, "-a +d"},
        {"b- c d", 2, "*b *c *d"},  {"", 2, "-b -c -d"},  {"c", 2, "+c"},
        {"a c=x e", 2, "+a *c +e"}, {"a c=y e", 2, "*c"}, {"0 a c=y e z", 2, "+0 +z"},
    };
    struct roster_view v = {0};
    struct roster_list *l = list_of("", 1, NULL);

    assert_true(roster_view_is_due(&v, l)); /* that there is nothing is to be told, too */
    assert_string_equal(tell(&v, l, 100), "");
    assert_int_equal(v.done, l->number);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        assert_true(become(&l, steps[i].list, steps[i].end_ns));
        assert_string_equal(tell(&v, l, 100), steps[i].told);
        assert_false(roster_view_is_due(&v, l));
    }
    roster_view_deinit(&v);
    roster_list_unref(l);
}

static void test_filters(void **state)
{
    struct e2b_pair label = {(char *)"project", (char *)"x"};
    struct roster_view running = {.filter.running = true},
                       labelled = {.filter = {&label, 1, false, true}};
    struct roster_list *l = list_of("a b- c=x- d=y- e=x", 1, NULL);

    assert_string_equal(tell(&running, l, 100), "+a +e");
    assert_string_equal(tell(&labelled, l, 100), "+c");
    assert_true(become(&l, "a- b c=x d=y- e=x-", 1));
    assert_string_equal(tell(&running, l, 100), "~a +b +c ~e");
    assert_string_equal(tell(&labelled, l, 100), "~c +e");
    assert_true(become(&l, "b", 1));
    assert_string_equal(tell(&running, l, 100), "-c");
    assert_string_equal(tell(&labelled, l, 100), "-e");
    roster_view_deinit(&running);
    roster_view_deinit(&labelled);
    roster_list_unref(l);
}

/* Between any two things that a slow watcher is told the list may be another. */
static void test_a_slow_watcher_hears_how_it_is_now(void **state)
{
    struct roster_view v = {0};
    struct roster_list *l = list_of("b c d", 1, NULL);

    assert_string_equal(tell(&v, l, 1), "+b");
    assert_true(become(&l, "a b- d- e", 1)); /* behind it, and before it */
    assert_string_equal(tell(&v, l, 1), "+d");
    assert_int_equal(v.done, 0);
    assert_string_equal(tell(&v, l, 2), "+e"); /* the walk ends: all that was there is told */
    assert_int_equal(v.done, 1);
    assert_true(become(&l, "a b d- e-", 1));
    assert_string_equal(tell(&v, l, 100), "+a *b *e"); /* b was paused meanwhile: not told */
    assert_false(roster_view_is_due(&v, l));
    assert_true(become(&l, "a d- e-", 1));
    assert_true(become(&l, "a b d- e-", 1)); /* it went and came */
    assert_string_equal(tell(&v, l, 100), "*b");
    roster_view_deinit(&v);
    roster_list_unref(l);
}

/* Whatever the lists and the pauses, what was told adds up to the last list. */
static void test_what_is_told_adds_up(void **state)
{
    unsigned seed = 7;
    struct roster_view v = {0};
    struct roster_list *l = list_of("", 1, NULL);
    bool there[26] = {false};

    for (int round = 0; round < 2000; round++) {
        char text[80] = "";
        const char *word;

        for (char id = 'a'; id <= 'z'; id++) {
            if ((seed = seed * 1103515245 + 12345) >> 16 & 1)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%c ", id);
        }
        become(&l, text, round / 3);
        word = tell(&v, l, round % 20 == 19 ? 1000 : (int)(seed >> 20) % 12);
        for (; *word != '\0'; word += strcspn(word, " "), word += *word == ' ') {
            bool *t = &there[word[1] - 'a'];

            assert_true(*word == '+' ? !*t : *t);
            *t = *word != '-';
        }
        if (round % 20 != 19)
            continue;
        /* The walk that was under way has ended, and the one that it made needed. */
        word = tell(&v, l, 1000);
        for (; *word != '\0'; word += strcspn(word, " "), word += *word == ' ')
            there[word[1] - 'a'] = *word != '-';
        assert_false(roster_view_is_due(&v, l));
        for (char id = 'a'; id <= 'z'; id++)
            assert_true(there[id - 'a'] == (strchr(text, id) != NULL));
    }
    roster_view_deinit(&v);
    roster_list_unref(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_each_change_is_told_once),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_a_slow_watcher_hears_how_it_is_now),
        cmocka_unit_test(test_what_is_told_adds_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
