/*
 * Fuzzes what sandboxd reads of a process in a sandbox: wherever the bytes are cut, the output, the
 * exit code and the verdict are the same.
 */
#include "service/e2b/process.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t sum;

static void on_stdout(struct process *p, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + data[i] + 1;
}

struct outcome {
    uint64_t sum;
    bool started, ended, exited, failed;
    int exit_code;
    uint32_t pid;
    enum code code;
    size_t err_len;
};

static struct outcome run(const uint8_t *data, size_t len, size_t step)
{
    struct process p;
    struct outcome o;

    sum = 0;
    process_init(&p, on_stdout);
    while (len > 0) {
        size_t n = step < len ? step : len;

        if (!process_feed(&p, data, n))
            break;
        data += n;
        len -= n;
    }
    memset(&o, 0, sizeof(o));
    o.sum = sum;
    o.started = p.started;
    o.ended = p.ended;
    o.exited = p.exited;
    o.failed = p.failed != NULL;
    o.exit_code = p.exit_code;
    o.pid = p.pid;
    o.code = p.failed != NULL ? p.failed->st.code : CODE_OK;
    o.err_len = p.err_len;
    process_deinit(&p);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct outcome whole = run(data, len, len > 0 ? len : 1);
    struct outcome bytes = run(data, len, 1);
    struct outcome sevens = run(data, len, 7);

    if (memcmp(&whole, &bytes, sizeof(whole)) != 0 || memcmp(&whole, &sevens, sizeof(whole)) != 0)
        abort();
    return 0;
}
