/*
 * See sandbox_etc.h. Runs in the zygote at its start. Walks by descriptors; links are copied as
 * links.
 */
#include "runtime/local/zygote/sandbox_etc.h"

#include "common/base/cleanup.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/zygote/sandbox_net.h"
#include "runtime/local/zygote/sandbox_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const copied[] = {
    "adduser.conf",
    "alternatives",
    "bash.bashrc",
    "bash_completion",
    "bash_completion.d",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "deluser.conf",
    "ethertypes",
    "fonts",
    "gai.conf",
    "groff",
    "host.conf",
    "inputrc",
    "issue",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "libaudit.conf",
    "localtime",
    "locale.alias",
    "locale.conf",
    "locale.gen",
    "login.defs",
    "lsb-release",
    "magic",
    "magic.mime",
    "mailcap",
    "mime.types",
    "nanorc",
    "networks",
    "os-release",
    "papersize",
    "perl",
    "pki",
    "profile",
    "protocols",
    "python2.7",
    "python3",
    "python3.9",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "R",
    "redhat-release",
    "rpc",
    "ruby",
    "securetty",
    "services",
    "sgml",
    "shells",
    "skel",
    "ssl",
    "terminfo",
    "timezone",
    "vim",
    "X11",
    "xattr.conf",
    "xdg",
    "xml",
};

struct owner {
    uid_t uid;
    gid_t gid;
};

static bool copy_entry(int from, int to, const char *name, struct owner owner);

static bool copy_file(int from, int to, const char *name, mode_t mode)
{
    AUTO_CLOSE int in = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    AUTO_CLOSE int out = -1;
    ssize_t n;

    if (in < 0)
        return errno == EACCES;
    out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0755);
    if (out < 0)
        return false;
    while ((n = sendfile(out, in, NULL, 1 << 20)) > 0)
        ;
    return n == 0;
}

static bool copy_link(int from, int to, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof target - 1);

    if (n < 0)
        return false;
    target[n] = '\0';
    return symlinkat(target, to, name) == 0;
}

static bool copy_directory(int from, int to, const char *name, struct owner owner)
{
    int source = openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    AUTO_CLOSE int target = -1;
    DIR *dir = source < 0 ? NULL : fdopendir(source);
    struct dirent *entry;
    bool copied_all = true;

    if (!dir)
        return errno == EACCES;
    if (mkdirat(to, name, 0755) == 0)
        target = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (target >= 0 && copied_all && (entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            copied_all = copy_entry(dirfd(dir), target, entry->d_name, owner);
    closedir(dir);
    return target >= 0 && copied_all;
}

/* What not everybody may read, and what is neither file, directory nor link, is left out. */
static bool copy_entry(int from, int to, const char *name, struct owner owner)
{
    struct stat info;
    bool done;

    if (fstatat(from, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT;
    if (S_ISLNK(info.st_mode))
        done = copy_link(from, to, name);
    else if (S_ISREG(info.st_mode) && (info.st_mode & S_IROTH))
        done = copy_file(from, to, name, info.st_mode);
    else if (S_ISDIR(info.st_mode) && (info.st_mode & S_IROTH))
        done = copy_directory(from, to, name, owner);
    else
        return true;
    if (done && fchownat(to, name, owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || errno == EPERM;
    return done;
}

/* Root may become anybody, and nobody else may by these: there are no passwords. */
#define PAM_SU                                                                                     \
    "auth sufficient pam_rootok.so\nauth required pam_deny.so\n"                                   \
    "account required pam_permit.so\nsession required pam_permit.so\n"
#define PAM_OTHER                                                                                  \
    "auth required pam_deny.so\naccount required pam_permit.so\n"                                  \
    "password required pam_deny.so\nsession required pam_permit.so\n"

static const struct {
    const char *name;
    const char *text; /* NULL: a directory */
} fresh[] = {
    {"passwd", "root:x:0:0:root:/root:/bin/bash\n"
               "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
               "bin:x:2:2:bin:/bin:/usr/sbin/nologin\n"
               "sys:x:3:3:sys:/dev:/usr/sbin/nologin\n"
               "man:x:6:12:man:/var/cache/man:/usr/sbin/nologin\n"
               "mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n"
               "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
               "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
               "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
               "user:x:1000:1000:user:" AGENT_USER_HOME ":/bin/bash\n"},
    {"group", "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\n"
              "man:x:12:\nmail:x:8:\nsudo:x:27:user\nwww-data:x:33:\nutmp:x:43:\nshadow:x:42:\n"
              "staff:x:50:\nusers:x:100:user\nnogroup:x:65534:\nuser:x:1000:\n"},
    {"hosts", "127.0.0.1\tlocalhost\n127.0.1.1\te2b.local\n::1\tlocalhost ip6-localhost\n"},
    {"hostname", "e2b.local\n"},
    {"nsswitch.conf",
     "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
     "networks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n"},
    {"resolv.conf", "nameserver " SANDBOX_NET_GATEWAY "\n"},
    {"fstab", ""},
    {"machine-id", "00000000000000000000000000000e2b\n"},
    {"pam.d", NULL},
    {"pam.d/other", PAM_OTHER},
    {"pam.d/su", PAM_SU},
    {"pam.d/su-l", PAM_SU},
    {"pam.d/runuser", PAM_SU},
    {"pam.d/runuser-l", PAM_SU},
};

static bool write_file(int to, const char *name, const char *text, struct owner owner)
{
    AUTO_CLOSE int fd = openat(to, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t len = strlen(text);

    return fd >= 0 && write(fd, text, len) == (ssize_t)len &&
           (fchown(fd, owner.uid, owner.gid) == 0 || errno == EPERM);
}

static bool write_fresh(int to, struct owner owner)
{
    for (size_t i = 0; i < sizeof fresh / sizeof *fresh; i++) {
        const char *name = fresh[i].name;

        if (fresh[i].text ? !write_file(to, name, fresh[i].text, owner)
                          : mkdirat(to, name, 0755) < 0 ||
                                (fchownat(to, name, owner.uid, owner.gid, 0) < 0 && errno != EPERM))
            return false;
    }
    return true;
}

bool sandbox_etc_write_names(int to)
{
    static const char *const names[] = {"hosts", "hostname", "resolv.conf"};

    for (size_t i = 0; i < sizeof fresh / sizeof *fresh; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            if (strcmp(fresh[i].name, names[k]) == 0 &&
                !write_file(to, names[k], fresh[i].text, (struct owner){geteuid(), getegid()}))
                return false;
    return true;
}

bool sandbox_etc_make(const char *source, const char *target, uid_t uid, gid_t gid,
                      struct status *st)
{
    struct owner owner = {uid, gid};
    AUTO_CLOSE int from = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int to = -1;

    sandbox_tree_remove(AT_FDCWD, target);
    if (mkdir(target, 0755) == 0 && (chown(target, uid, gid) == 0 || errno == EPERM))
        to = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || to < 0)
        return status_set(st, CODE_INTERNAL, 0, "%s cannot be copied to %s: %s", source, target,
                          strerror(errno));
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        if (!copy_entry(from, to, copied[i], owner))
            return status_set(st, CODE_INTERNAL, 0, "%s/%s cannot be copied to %s: %s", source,
                              copied[i], target, strerror(errno));
    if (!write_fresh(to, owner))
        return status_set(st, CODE_INTERNAL, 0, "%s cannot be filled: %s", target, strerror(errno));
    return true;
}
