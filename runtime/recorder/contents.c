/* See contents.h. Nothing is read that may block, or never end: files only. */
#include "runtime/recorder/contents.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "runtime/recorder/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Fields of ReadFilesResponse, ReadFilesResult and FileError. */
enum { RESULTS = 1 };
enum { PATH = 1, DATA = 2, ERROR = 4, SIZE = 5 };
enum { REASON = 1, MESSAGE = 2 };

enum { RESULT_EXTRA = 16 * 1024 }; /* a path, an error, tags */

/* The file's bytes, at most as many as `to` has room for; *ret_size is how many there are. */
static bool read_content(const char *path, struct buf *to, uint64_t *ret_size, struct status *st)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;

    if (fd < 0 || fstat(fd, &info) != 0)
        return place_fault(st, path);
    if (!S_ISREG(info.st_mode))
        return errno = EISDIR, place_fault(st, path);
    *ret_size = (uint64_t)info.st_size;
    /* Read to its end, not to its size: the kernel's own files say they have none. */
    for (;;) {
        uint8_t block[16 * 1024];
        ssize_t n = read(fd, block, sizeof(block));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return place_fault(st, path);
        if (n == 0)
            break;
        if (!buf_append(to, block, (size_t)n))
            return fault(st, RECORDER_TOO_LARGE, "%.300s does not fit: there is room for %zu bytes",
                         path, to->cap);
    }
    *ret_size = buf_len(to);
    return true;
}

static void add_error(struct buf *to, const struct status *why)
{
    AUTO(buf_deinit) struct buf error = BUF_INIT(sizeof(why->message) + 64);

    pb_add_uint(&error, REASON, (uint64_t)why->reason);
    pb_add_bytes(&error, MESSAGE, why->message, strlen(why->message));
    pb_add_element(to, ERROR, buf_data(&error), buf_len(&error));
}

bool contents_read(const struct place *p, char *const *paths, size_t max, struct buf *out,
                   struct status *st)
{
    size_t left = max;

    for (size_t i = 0; paths[i] != NULL; i++) {
        AUTO(buf_deinit) struct buf content = BUF_INIT(left);
        AUTO(buf_deinit) struct buf result = BUF_INIT(max + RESULT_EXTRA);
        AUTO_FREE char *path = NULL;
        struct status why = STATUS_INIT;
        uint64_t size = 0;

        pb_add_bytes(&result, PATH, paths[i], strlen(paths[i]));
        if (place_resolve(p, paths[i], &path, &why) && read_content(path, &content, &size, &why)) {
            pb_add_element(&result, DATA, buf_data(&content), buf_len(&content));
            left -= buf_len(&content);
        } else {
            add_error(&result, &why);
        }
        pb_add_uint(&result, SIZE, size);
        if (!pb_add_element(out, RESULTS, buf_data(&result), buf_len(&result)))
            return fault(st, RECORDER_TOO_LARGE, "the answer is too large");
    }
    return true;
}
