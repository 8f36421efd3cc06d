/*
 * The command of the storm: prints numbered and checksummed lines on both streams, in bursts.
 *
 *     printer NAME LINES BURST PAUSE_MS
 *
 * stdout gets LINES lines, stderr one for every third of them. A line is "NAME o 00000001 crc\n":
 * the checksum covers what is before it, so that nothing but this line can be in its place. Before
 * anything else NAME goes to the file "starts" of the working directory, which tells how often it
 * ran.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NAME_MAX_LEN = 32, LINE_MAX_LEN = 64 };

/* As zlib's crc32(), bit by bit: a line is short. */
static uint32_t crc32(const char *data, size_t len)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++) {
        crc ^= (uint8_t)data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
    }
    return ~crc;
}

static void write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0)
            exit(3);
        data += n;
        len -= (size_t)n;
    }
}

static void say_started(const char *name)
{
    char line[NAME_MAX_LEN + 2];
    int len = snprintf(line, sizeof line, "%s\n", name);
    int fd = open("starts", O_WRONLY | O_CREAT | O_APPEND, 0600);

    if (fd < 0)
        exit(3);
    write_all(fd, line, (size_t)len);
    close(fd);
}

/* Lines first to last of one stream, in one write. */
static void print_lines(const char *name, char stream, unsigned first, unsigned last)
{
    char *text = malloc((last - first + 1) * LINE_MAX_LEN);
    size_t len = 0;

    if (text == NULL)
        exit(3);
    for (unsigned n = first; n <= last; n++) {
        char *line = text + len;
        int size = snprintf(line, LINE_MAX_LEN, "%s %c %08u ", name, stream, n);

        len += (size_t)size;
        len += (size_t)snprintf(line + size, LINE_MAX_LEN - (size_t)size, "%08x\n",
                                crc32(line, (size_t)size));
    }
    write_all(stream == 'o' ? STDOUT_FILENO : STDERR_FILENO, text, len);
    free(text);
}

int main(int argc, char **argv)
{
    unsigned lines, burst, pause_ms, printed = 0;

    if (argc != 5 || strlen(argv[1]) > NAME_MAX_LEN)
        return 2;
    lines = (unsigned)strtoul(argv[2], NULL, 10);
    burst = (unsigned)strtoul(argv[3], NULL, 10);
    pause_ms = (unsigned)strtoul(argv[4], NULL, 10);
    if (burst == 0)
        return 2;
    say_started(argv[1]);
    while (printed < lines) {
        unsigned next = printed + burst < lines ? printed + burst : lines;

        print_lines(argv[1], 'o', printed + 1, next);
        if (next / 3 > printed / 3)
            print_lines(argv[1], 'e', printed / 3 + 1, next / 3);
        printed = next;
        nanosleep(&(struct timespec){pause_ms / 1000, pause_ms % 1000 * 1000000L}, NULL);
    }
    return 0;
}
