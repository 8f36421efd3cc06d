/* Ranges of ids, from the maps that user namespaces have. */
#include "runtime/local/zygote/sandbox_slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct {
    const char *users;
    const char *groups;
    uint32_t first;
    int n; /* 0: there is no range */
} maps[] = {
    {"         0          0 4294967295\n", "0 0 4294967295\n", SANDBOX_SLOTS_FIRST, 4096},
    {"0 0 4294967295\n", "0 0 1879179264\n", SANDBOX_SLOTS_FIRST, 2},
    {"0 100000 65536\n", "0 100000 65536\n", 0, 0},
    {"0 1000 1\n1 100000 165536\n", "0 1000 1\n1 100000 165536\n", SANDBOX_SLOTS_LOW, 1},
    {"0 0 165536\n", "0 0 165535\n", 0, 0},
    {"0 0 10\n90000 5000000 1000000\n", "0 0 2000000\n", SANDBOX_SLOTS_LOW, 15},
    {"", "", 0, 0},
    {"garbage", "0 0 4294967295\n", 0, 0},
};

static void test_what_there_is(void **state)
{
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        struct sandbox_slots slots;

        assert_int_equal(sandbox_slots_init(&slots, maps[i].users, maps[i].groups), maps[i].n > 0);
        if (maps[i].n > 0) {
            assert_int_equal(slots.first, maps[i].first);
            assert_int_equal(slots.n, maps[i].n);
        }
    }
}

static void test_each_is_taken_once(void **state)
{
    struct sandbox_slots slots;
    uint32_t last = 0;

    assert_true(sandbox_slots_init(&slots, "0 0 4294967295\n", "0 0 4294967295\n"));
    for (int i = 0; i < SANDBOX_SLOTS_MAX; i++) {
        uint32_t first = sandbox_slots_take(&slots);

        assert_true(first > last);
        assert_int_equal((first - SANDBOX_SLOTS_FIRST) % SANDBOX_SLOT_IDS, 0);
        last = first;
    }
    assert_true(last <= INT32_MAX - SANDBOX_SLOT_IDS + 1);
    assert_int_equal(sandbox_slots_take(&slots), 0);
    sandbox_slots_give(&slots, SANDBOX_SLOTS_FIRST + 77 * SANDBOX_SLOT_IDS);
    sandbox_slots_give(&slots, 0);
    assert_int_equal(sandbox_slots_take(&slots), SANDBOX_SLOTS_FIRST + 77 * SANDBOX_SLOT_IDS);
    assert_int_equal(sandbox_slots_take(&slots), 0);
}

static void test_one_for_all(void **state)
{
    struct sandbox_slots slots;

    assert_true(sandbox_slots_init(&slots, "0 0 4294967295\n", "0 0 4294967295\n"));
    slots.shared = true;
    assert_int_equal(sandbox_slots_take(&slots), SANDBOX_SLOTS_FIRST);
    assert_int_equal(sandbox_slots_take(&slots), SANDBOX_SLOTS_FIRST);
    sandbox_slots_give(&slots, SANDBOX_SLOTS_FIRST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_there_is),
        cmocka_unit_test(test_each_is_taken_once),
        cmocka_unit_test(test_one_for_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
