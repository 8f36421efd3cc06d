/*
 * See sandbox_rootfs.h. The lower directory is opened without following links: in an image they
 * mean places in the image, and here they would mean places of the host.
 */
#include "runtime/local/sandbox_rootfs.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/sandbox_etc.h"
#include "runtime/local/sandbox_root.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { USERS_MAX = 1 << 20 };

/* A list of users or groups, of which each line begins with a name. */
struct list_of_names {
    const char *name;
    const char *first; /* what one that is missing begins with */
    const char *user;  /* the line of AGENT_USER */
};

static const struct list_of_names lists[] = {
    {"passwd", "root:x:0:0:root:/root:/bin/sh\n",
     AGENT_USER ":x:1000:1000:user:" AGENT_USER_HOME ":/bin/sh\n"},
    {"group", "root:x:0:\n", AGENT_USER ":x:1000:\n"},
};

_Static_assert(AGENT_USER_ID == 1000, "the lines above say so");

static bool read_file(int dir, const char *name, struct buf *to)
{
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = 1;

    if (fd < 0)
        return errno == ENOENT;
    while (n > 0) {
        uint8_t *room = buf_reserve(to, 4096);

        n = room ? read(fd, room, 4096) : -1;
        buf_commit(to, n > 0 ? (size_t)n : 0);
    }
    return n == 0;
}

static bool write_file(int dir, const char *name, const void *data, size_t len)
{
    AUTO_CLOSE int fd =
        openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

    return fd >= 0 && write(fd, data, len) == (ssize_t)len;
}

static bool has_user(const char *text)
{
    static const char begin[] = AGENT_USER ":";
    const char *at = text;

    while ((at = strstr(at, begin)) != NULL && at > text && at[-1] != '\n')
        at++;
    return at != NULL;
}

/* A list that cannot be read (a link, for one) is the template's own affair. */
static bool add_user(int from, int to, const struct list_of_names *list)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(USERS_MAX);
    size_t len;

    if (from >= 0 && !read_file(from, list->name, &text))
        return true;
    if (has_user(buf_str(&text)))
        return true;
    len = buf_len(&text);
    if (len == 0)
        buf_append_str(&text, list->first);
    else if (buf_data(&text)[len - 1] != '\n')
        buf_append_byte(&text, '\n');
    return buf_append_str(&text, list->user) &&
           write_file(to, list->name, buf_data(&text), buf_len(&text));
}

void sandbox_rootfs_dress_etc(const char *lower, const char *upper)
{
    AUTO_CLOSE int from =
        lower ? open(lower, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    AUTO_CLOSE int to = open(upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (to < 0 || !sandbox_etc_write_names(to))
        sandbox_fail("write the names of the template's /etc");
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (!add_user(from, to, &lists[i]))
            sandbox_fail("add the user to the template's /etc");
}

void sandbox_rootfs_dress_home(const struct sandbox_host *host, const char *lower,
                               const char *upper)
{
    static const char user[] = AGENT_USER;
    AUTO_CLOSE int from = open(lower, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    AUTO_CLOSE int to = open(upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat info;

    if (from >= 0 && fstatat(from, user, &info, AT_SYMLINK_NOFOLLOW) == 0)
        return;
    if (to < 0 || mkdirat(to, user, 0755) < 0 ||
        (host->tier == ZYGOTE_TIER_A && fchownat(to, user, AGENT_USER_ID, AGENT_USER_ID, 0) < 0))
        sandbox_fail("make the user's home in the template");
}
