/*
 * See sandbox_rootfs.h. The lower directory is opened without following links: in an image they
 * mean places in the image, and here they would mean places of the host.
 */
#include "runtime/local/zygote/sandbox_rootfs.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/zygote/sandbox_etc.h"
#include "runtime/local/zygote/sandbox_root.h"

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
    const char *sudo;  /* the line of those who may become anybody; NULL: not here */
};

static const struct list_of_names lists[] = {
    {"passwd", "root:x:0:0:root:/root:/bin/sh\n",
     AGENT_USER ":x:1000:1000:user:" AGENT_USER_HOME ":/bin/sh\n", NULL},
    {"group", "root:x:0:\n", AGENT_USER ":x:1000:\n", "sudo:x:27:" AGENT_USER "\n"},
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

/* Where the line of that name ends; NULL: there is none. */
static const char *find_line(const char *text, const char *line)
{
    size_t len = strcspn(line, ":") + 1;
    const char *at = text;

    while (strncmp(at, line, len) != 0) {
        at = strchr(at, '\n');
        if (!at++)
            return NULL;
    }
    return at + strcspn(at, "\n");
}

static bool has_member(const char *line_end, const char *text)
{
    static const char user[] = AGENT_USER;
    const char *at = line_end;

    while (at > text && at[-1] != ':') {
        const char *end = at;

        while (at > text && at[-1] != ',' && at[-1] != ':')
            at--;
        if ((size_t)(end - at) == strlen(user) && memcmp(at, user, strlen(user)) == 0)
            return true;
        at -= at > text && at[-1] == ',';
    }
    return false;
}

/* Adds the line, or its member to the line there is. False: there is nothing to be changed. */
static bool add_line(struct buf *text, const char *line, bool member)
{
    AUTO_FREE char *old = xstrdup(buf_str(text));
    const char *end = find_line(old, line);

    if (end && (!member || has_member(end, old)))
        return false;
    buf_clear(text);
    buf_append(text, old, end ? (size_t)(end - old) : strlen(old));
    if (end) {
        if (end[-1] != ':')
            buf_append_byte(text, ',');
        buf_append_str(text, AGENT_USER);
        buf_append_str(text, end);
        return true;
    }
    if (buf_len(text) > 0 && old[strlen(old) - 1] != '\n')
        buf_append_byte(text, '\n');
    buf_append_str(text, line);
    return true;
}

/* A list that cannot be read (a link, for one) is the template's own affair. */
static bool add_user(int from, int to, const struct list_of_names *list)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(USERS_MAX);
    bool changed;

    if (from >= 0 && !read_file(from, list->name, &text))
        return true;
    if (buf_len(&text) == 0)
        buf_append_str(&text, list->first);
    changed = add_line(&text, list->user, false);
    if (list->sudo)
        changed = add_line(&text, list->sudo, true) || changed;
    return !changed || write_file(to, list->name, buf_data(&text), buf_len(&text));
}

void sandbox_rootfs_dress_etc(const char *lower, const char *upper)
{
    AUTO_CLOSE int from = lower ? open(lower, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
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
