/*
 * The multipart parser on anything: whatever the bytes are, nothing outside of them is read, and
 * how they are split makes no difference to what is understood.
 */
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "runtime/local/agent/multipart.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void tell_text(struct buf *told, char kind, const char *text)
{
    buf_printf(told, "%c%s\n", kind, text ? text : "");
}

/* One piece. False: the parser has failed. */
static bool feed(struct multipart *m, struct buf *told, const uint8_t *data, size_t len)
{
    enum multipart_event event;
    const uint8_t *piece;
    size_t piece_len;

    while ((event = multipart_next(m, &data, &len, &piece, &piece_len)) != MULTIPART_MORE) {
        switch (event) {
        case MULTIPART_PART:
            tell_text(told, 'p', m->name);
            tell_text(told, 'f', m->filename);
            break;
        case MULTIPART_DATA:
            require(piece_len > 0);
            buf_append(told, piece, piece_len);
            break;
        case MULTIPART_END:
        case MULTIPART_DONE:
            tell_text(told, event == MULTIPART_END ? 'e' : 'd', NULL);
            break;
        case MULTIPART_ERROR:
            return false;
        case MULTIPART_MORE:
            break;
        }
    }
    require(len == 0);
    return true;
}

static void understand(const uint8_t *data, size_t len, size_t step, struct buf *told)
{
    struct multipart m;
    size_t at = 0;

    require(multipart_init(&m, "multipart/form-data; boundary=b"));
    while (at < len) {
        size_t n = step < len - at ? step : len - at;
        AUTO_FREE uint8_t *piece = malloc(n); /* so that reading beyond it is seen */

        memcpy(piece, data + at, n);
        if (!feed(&m, told, piece, n)) {
            tell_text(told, '!', NULL);
            break;
        }
        at += n;
    }
    multipart_deinit(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const size_t steps[] = {1, 2, 7};
    AUTO(buf_deinit) struct buf whole = BUF_INIT(1 << 24);

    understand(data, len, len ? len : 1, &whole);
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        AUTO(buf_deinit) struct buf split = BUF_INIT(1 << 24);

        understand(data, len, steps[i], &split);
        require(buf_len(&split) == buf_len(&whole) &&
                (buf_len(&whole) == 0 ||
                 memcmp(buf_data(&split), buf_data(&whole), buf_len(&whole)) == 0));
    }
    return 0;
}
