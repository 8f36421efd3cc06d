/*
 * Fuzzes what sandboxd relays out of a sandbox: a follower's bytes and a watcher's, in blocks of
 * all sizes. What passes is a message, its events follow each other, and the resume point never
 * goes back.
 */
#include "service/handlers/relay_all.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void relay_one(const uint8_t *data, size_t len, size_t step, bool sparse)
{
    struct relay r;
    uint64_t last_seq = 0;

    relay_init(&r, 1);
    r.check.sparse = sparse;
    while (len > 0) {
        size_t n = len < step ? len : step, headroom = relay_headroom(&r), message_len;
        uint8_t *block = malloc(headroom + n), *start;
        enum relay_result result;

        require(block != NULL);
        memcpy(block + headroom, data, n);
        result = relay_feed(&r, block, n, "c", &start, &message_len);
        if (result == RELAY_MESSAGE)
            require(start >= block && start + message_len <= block + headroom + n);
        free(block);
        if (result == RELAY_CORRUPT)
            break;
        require(r.check.last_seq >= last_seq);
        last_seq = r.check.last_seq;
        data += n;
        len -= n;
    }
    relay_deinit(&r);
}

static void relay_many(const uint8_t *data, size_t len, size_t step)
{
    struct relay_all r;
    enum relay_result result = RELAY_NOTHING;

    relay_all_init(&r, false);
    if (len > 0 && data[0] % 2 == 0)
        relay_all_set_cursor(&r, data, len);
    while (len > 0 && result != RELAY_CORRUPT) {
        size_t n = len < step ? len : step, message_len;
        uint8_t *message;

        require(relay_all_feed(&r, data, n));
        while ((result = relay_all_next(&r, &message, &message_len)) == RELAY_MESSAGE) {
            require(message_len > 0);
            free(message);
        }
        data += n;
        len -= n;
    }
    relay_all_deinit(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const size_t steps[] = {1, 7, 64, 100000};
    size_t step = steps[len % 4];

    relay_one(data, len, step, false);
    relay_one(data, len, step, true);
    relay_many(data, len, step);
    return 0;
}
