/*
 * What a request for a file says, and what a file starts with, as anything: what is wanted is
 * decided without reading outside of the bytes, and a range that is sent lies in the file.
 */
#include "common/base/cleanup.h"
#include "runtime/local/agent/content_type.h"
#include "runtime/local/agent/encoding.h"
#include "runtime/local/agent/files.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void ask_for_range(const char *text, int64_t size)
{
    struct range range = {0};

    if (range_parse(text, size, &range) == RANGE_ONE)
        require(range.first >= 0 && range.len > 0 && range.first < size &&
                range.len <= size - range.first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE uint8_t *bytes = malloc(len ? len : 1); /* so that reading beyond it is seen */
    AUTO_FREE char *text = calloc(len + 1, 1);

    if (len > 0) {
        memcpy(bytes, data, len);
        memcpy(text, data, len);
    }
    require(content_type_of_bytes(bytes, len) != NULL);
    content_type_of_name(text);
    require(encoding_choose(text, true) != ENCODING_GZIP);
    encoding_choose(text, false);
    ask_for_range(text, 0);
    ask_for_range(text, 10);
    ask_for_range(text, INT64_MAX);
    return 0;
}
