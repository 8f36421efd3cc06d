/* See sandbox_tree.h. Used by the zygote on the host and by the agent inside its sandbox. */
#include "runtime/local/zygote/sandbox_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool remove_content(int fd)
{
    DIR *dir = fdopendir(fd); /* owns fd from here on */
    struct dirent *entry;
    bool removed = true;

    if (!dir) {
        close(fd);
        return false;
    }
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            removed = sandbox_tree_remove(dirfd(dir), entry->d_name) && removed;
    closedir(dir);
    return removed;
}

bool sandbox_tree_remove(int dir, const char *name)
{
    int fd;

    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR && errno != EPERM)
        return false;
    fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || !remove_content(fd))
        return false;
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}
