/*
 * Fuzzes the parser of Connect's envelopes: whole, byte by byte and in pieces it must see the same
 * frames, each within its cap, and the same error.
 */
#include "common/connect/envelope.h"

#include <stdlib.h>
#include <string.h>

enum { CAP = 5000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What a parser saw: numbers that differ when anything does. */
struct seen {
    uint64_t sum;
    size_t frames, bytes;
    enum envelope_error error;
    bool between;
};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void add(struct seen *s, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        s->sum = s->sum * 31 + data[i] + 1;
    s->bytes += len;
}

static struct seen parse(const uint8_t *data, size_t len, size_t step)
{
    struct envelope_parser p;
    struct envelope_frame f;
    struct seen s = {0};
    enum envelope_result r = ENVELOPE_MORE;

    envelope_init(&p, CAP);
    while (len > 0 && r != ENVELOPE_ERROR) {
        const uint8_t *at = data;
        size_t n = step < len ? step : len, left = n;

        while ((r = envelope_next(&p, &at, &left, &f)) == ENVELOPE_FRAME) {
            require(f.len <= CAP);
            add(&s, f.data, f.len);
            s.frames += f.end ? 1000 : 1;
        }
        require(r == ENVELOPE_ERROR || left == 0);
        data += n;
        len -= n;
    }
    s.error = p.error;
    s.between = envelope_is_between(&p);
    envelope_deinit(&p);
    return s;
}

/* Pieces of a frame that never ends count too, so only whole frames are compared. */
static struct seen parse_pieces(const uint8_t *data, size_t len)
{
    struct envelope_parser p;
    struct envelope_piece piece;
    struct seen s = {0}, whole = {0};
    size_t at = 0;

    envelope_init(&p, CAP);
    while (envelope_next_piece(&p, &data, &len, &piece) == ENVELOPE_FRAME) {
        require(piece.at == at && piece.at + piece.len <= piece.frame_len);
        add(&s, piece.data, piece.len);
        at += piece.len;
        if (at < piece.frame_len)
            continue;
        s.frames += piece.end ? 1000 : 1;
        whole = s;
        at = 0;
    }
    whole.error = p.error;
    whole.between = envelope_is_between(&p);
    envelope_deinit(&p);
    return whole;
}

static void require_same(struct seen a, struct seen b)
{
    require(a.sum == b.sum && a.frames == b.frames && a.bytes == b.bytes && a.error == b.error &&
            a.between == b.between);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct seen whole = parse(data, len, len > 0 ? len : 1);

    require_same(whole, parse(data, len, 1));
    require_same(whole, parse(data, len, 7));
    require_same(whole, parse_pieces(data, len));
    return 0;
}
