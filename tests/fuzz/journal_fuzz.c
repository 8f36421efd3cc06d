/*
 * Fuzzes the journal's parser, which reads what comes out of a sandbox: frames lie within their
 * bytes, events within their frames, and every prefix of a frame is PARTIAL.
 */
#include "common/journal/journal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_event(const struct journal_event *e, const uint8_t *frame, size_t frame_len)
{
    require(frame_len >= 2 && frame_len <= JOURNAL_FRAME_MAX);
    if (e->data == NULL)
        return;
    require(e->data >= frame && e->data_len <= frame_len);
    require(e->data + e->data_len <= frame + frame_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct journal_check check = {0};
    struct journal_event e;
    size_t n;

    while (journal_parse(data, len, &e, &n) == JOURNAL_FRAME) {
        struct journal_event cut;
        size_t ignored;

        require(n <= len);
        check_event(&e, data, n);
        require(journal_parse(data, n - 1, &cut, &ignored) == JOURNAL_PARTIAL);
        journal_check_next(&check, &e);
        data += n;
        len -= n;
    }
    return 0;
}
