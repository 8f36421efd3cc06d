/*
 * Runs a fuzz target as a normal test, where there is no libFuzzer: on every file of its corpus, on
 * every prefix of it, and on some thousand damaged copies. The seed is fixed: a failure repeats.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20, PREFIXES_MAX = 4096, COPIES = 5000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* From a block of exactly that size, so that a sanitizer sees every step beyond it. */
static void run(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    if (copy == NULL)
        abort();
    memcpy(copy, data, len);
    LLVMFuzzerTestOneInput(len > 0 ? copy : copy + 1, len);
    free(copy);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* Changes, removes or repeats some bytes. Returns the new length, which is not larger. */
static size_t damage(uint8_t *data, size_t len, uint32_t *seed)
{
    for (unsigned n = 1 + next_random(seed) % 4; n > 0 && len > 0; n--) {
        size_t at = next_random(seed) % len, other = next_random(seed) % len;

        switch (next_random(seed) % 4) {
        case 0:
            data[at] = (uint8_t)next_random(seed);
            break;
        case 1:
            data[at] ^= (uint8_t)(1u << next_random(seed) % 8);
            break;
        case 2:
            memmove(data + at, data + at + 1, len - at - 1);
            len--;
            break;
        default:
            memmove(data + at, data + other, len - (at > other ? at : other));
            break;
        }
    }
    return len;
}

static void run_around(const uint8_t *data, size_t len)
{
    static uint8_t copy[FILE_MAX];
    uint32_t seed = 88172645;

    run(data, len);
    for (size_t cut = 0; cut < len && cut < PREFIXES_MAX; cut++)
        run(data, cut);
    for (int i = 0; i < COPIES; i++) {
        memcpy(copy, data, len);
        run(copy, damage(copy, len, &seed));
    }
}

int main(int argc, char **argv)
{
    static uint8_t data[FILE_MAX];

    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE...\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");

        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        run_around(data, fread(data, 1, sizeof(data), file));
        fclose(file);
    }
    printf("%d files\n", argc - 1);
    return 0;
}
