/*
 * sudo, as it is inside a sandbox. Where there is a range of ids it is set-user-id root and lets
 * the members of the group sudo become anybody without a password; root of a sandbox is nobody
 * outside. Where a sandbox has one id only, nobody can become anybody: then it says so and runs the
 * command as who is there, because most of what is run this way needs no root in a sandbox.
 *
 * The host's own sudo would need the host's PAM, its shared libraries and its rules; this one is
 * static and needs nothing. Environment and exit codes are those of sudo 1.9 with Debian's rules:
 * a clean environment, a safe PATH, exit 1 for what is refused, 127 and 126 as in a shell.
 */
#include "runtime/local/sudo/options.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define SAFE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define OWN_GROUP "sudo"

enum { GROUPS_MAX = 256, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127, LINE_SIZE = 64 << 10 };

static _Noreturn void refuse(const char *what, const char *why)
{
    fprintf(stderr, "sudo: %s: %s\n", what, why);
    exit(1);
}

static void *must(void *allocated)
{
    if (!allocated)
        refuse("memory", strerror(ENOMEM));
    return allocated;
}

static char *pair(const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 2;
    char *text = must(malloc(size));

    snprintf(text, size, "%s=%s", name, value);
    return text;
}

/* A copy that later look-ups do not change. */
static struct passwd *find_user(const char *name)
{
    const struct passwd *found =
        *name == '#' ? getpwuid((uid_t)strtoul(name + 1, NULL, 10)) : getpwnam(name);
    struct passwd *copy;

    if (!found)
        refuse(name, "there is no such user");
    copy = must(malloc(sizeof *copy));
    *copy =
        (struct passwd){.pw_name = must(strdup(found->pw_name)),
                        .pw_dir = must(strdup(found->pw_dir)),
                        .pw_shell = must(strdup(*found->pw_shell ? found->pw_shell : "/bin/sh")),
                        .pw_uid = found->pw_uid,
                        .pw_gid = found->pw_gid};
    return copy;
}

static gid_t find_group(const char *name)
{
    const struct group *found =
        *name == '#' ? getgrgid((gid_t)strtoul(name + 1, NULL, 10)) : getgrnam(name);

    if (!found)
        refuse(name, "there is no such group");
    return found->gr_gid;
}

/* By the file, not by the groups of the process: it may have been started with others. */
static int may_become_anybody(const struct passwd *caller)
{
    const struct group *group = getgrnam(OWN_GROUP);

    if (caller->pw_uid == 0)
        return 1;
    if (!group)
        return 0;
    for (char **member = group->gr_mem; *member; member++)
        if (strcmp(*member, caller->pw_name) == 0)
            return 1;
    return caller->pw_gid == group->gr_gid;
}

static struct passwd *find_caller(void)
{
    char name[24];

    snprintf(name, sizeof name, "#%u", (unsigned)getuid());
    return find_user(name);
}

/* ---- the environment ---- */

extern char **environ;

static int is_in_list(const char *list, const char *name, size_t len)
{
    while (list && *list) {
        size_t n = strcspn(list, ",");

        if (n == len && memcmp(list, name, n) == 0)
            return 1;
        list += n;
        list += *list == ',';
    }
    return 0;
}

/* What sudo keeps unless told otherwise. */
static int is_kept(const struct sudo_options *o, const char *variable)
{
    static const char always[] = "COLORS,DISPLAY,HOSTNAME,LANG,LANGUAGE,LINGUAS,LS_COLORS,"
                                 "TERM,TZ,XAUTHORITY,XAUTHORIZATION,KRB5CCNAME,PS1,PS2";
    size_t len = strcspn(variable, "=");

    return o->keeps_all || is_in_list(always, variable, len) || strncmp(variable, "LC_", 3) == 0 ||
           is_in_list(o->kept, variable, len);
}

static void set_environment(const struct sudo_options *o, const struct passwd *caller,
                            const struct passwd *target)
{
    char **old = environ, **kept;
    size_t n = 0;
    char number[24];

    while (old[n])
        n++;
    environ = kept = must(calloc(n + 1, sizeof *kept));
    for (; *old; old++)
        if (is_kept(o, *old))
            *kept++ = *old;
    if (!o->keeps_all || o->login || o->sets_home || !getenv("HOME"))
        setenv("HOME", target->pw_dir, 1);
    if (!is_in_list(o->kept, "PATH", 4))
        setenv("PATH", SAFE_PATH, 1);
    setenv("LOGNAME", target->pw_name, 1);
    setenv("USER", target->pw_name, 1);
    setenv("SHELL", target->pw_shell, 1);
    setenv("SUDO_USER", caller->pw_name, 1);
    snprintf(number, sizeof number, "%u", (unsigned)caller->pw_uid);
    setenv("SUDO_UID", number, 1);
    snprintf(number, sizeof number, "%u", (unsigned)caller->pw_gid);
    setenv("SUDO_GID", number, 1);
}

/* ---- the command ---- */

/* One line for a shell, quoted as sudo does it: what is neither letter nor digit gets a backslash.
 */
static char *join(char *const *words)
{
    char *line = must(malloc(LINE_SIZE));
    size_t len = 0;

    for (; *words; words++) {
        for (const char *c = *words; *c && len < LINE_SIZE - 3; c++) {
            if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-$", *c))
                line[len++] = '\\';
            line[len++] = *c;
        }
        if (len >= LINE_SIZE - 3)
            refuse("the command", strerror(E2BIG));
        if (words[1])
            line[len++] = ' ';
    }
    line[len] = '\0';
    return line;
}

/* *ret_program: what is started. The words, which end with NULL. */
static char **make_command(const struct sudo_options *o, const struct passwd *target,
                           const char **ret_program)
{
    const char *shell = !o->login && getenv("SHELL") ? getenv("SHELL") : target->pw_shell;
    const char *base = strrchr(shell, '/') ? strrchr(shell, '/') + 1 : shell;
    char **words;

    if (!o->login && !o->shell) {
        *ret_program = o->command[0];
        return o->command;
    }
    words = must(calloc(4, sizeof *words));
    *ret_program = shell;
    words[0] = o->login ? pair("", base) : (char *)base;
    if (o->login)
        words[0][0] = '-'; /* so shells know that they are the first */
    if (*o->command) {
        words[1] = (char *)"-c";
        words[2] = join(o->command);
    }
    return words;
}

static void become(const struct sudo_options *o, const struct passwd *target)
{
    gid_t groups[GROUPS_MAX], group = o->group ? find_group(o->group) : target->pw_gid;
    int n = GROUPS_MAX;

    if (getgrouplist(target->pw_name, group, groups, &n) < 0)
        n = 1;
    groups[0] = group;
    if (setgroups((size_t)n, groups) < 0 || setresgid(group, group, group) < 0 ||
        setresuid(target->pw_uid, target->pw_uid, target->pw_uid) < 0)
        refuse(target->pw_name, strerror(errno));
}

static _Noreturn void run(const struct sudo_options *o, const struct passwd *target)
{
    const char *directory = o->directory ? o->directory : o->login ? target->pw_dir : NULL;
    const char *program;
    char **words = make_command(o, target, &program);

    for (size_t i = 0; i < o->n_assigned; i++)
        if (putenv(o->assigned[i]) != 0)
            refuse("memory", strerror(errno));
    if (directory && chdir(directory) < 0)
        refuse(directory, strerror(errno));
    if (o->background && fork() > 0)
        _exit(0);
    execvp(program, words);
    if (errno == ENOENT) {
        fprintf(stderr, "sudo: %s: command not found\n", program);
        exit(EXIT_NOT_FOUND);
    }
    fprintf(stderr, "sudo: %s: %s\n", program, strerror(errno));
    exit(EXIT_CANNOT_RUN);
}

static _Noreturn void list(const struct passwd *caller, int may)
{
    if (!may) {
        printf("User %s is not allowed to run sudo in this sandbox.\n", caller->pw_name);
        exit(1);
    }
    printf("User %s may run the following commands in this sandbox:\n    (ALL : ALL) NOPASSWD: "
           "ALL\n",
           caller->pw_name);
    exit(0);
}

int main(int argc, char **argv)
{
    static const char usage[] = "usage: sudo [-bEHinPSs] [-g GROUP] [-u USER] [-D DIRECTORY] "
                                "[NAME=VALUE] [COMMAND [ARGUMENT]...]\n";
    struct sudo_options o;
    struct passwd *caller, *target;
    int powerless = geteuid() != 0;

    sudo_options_parse(&o, argc, argv);
    switch (o.mode) {
    case SUDO_BAD:
        fprintf(stderr, "sudo: %s\n%s", o.complaint, usage);
        return 1;
    case SUDO_HELP:
        fputs(usage, stdout);
        return 0;
    case SUDO_VERSION:
        puts("sudo of e2b-local");
        return 0;
    case SUDO_LIST:
        caller = find_caller();
        list(caller, !powerless && may_become_anybody(caller));
    case SUDO_NOTHING:
        return 0;
    case SUDO_RUN:
        break;
    }
    caller = find_caller();
    target = find_user(o.user ? o.user : "root");
    if (powerless) {
        if (target->pw_uid != caller->pw_uid)
            fprintf(stderr, "sudo: this sandbox has one user only: running as %s, not as %s\n",
                    caller->pw_name, target->pw_name);
        target = caller;
    } else if (!may_become_anybody(caller)) {
        refuse(caller->pw_name, "not in the group " OWN_GROUP);
    }
    set_environment(&o, caller, target);
    if (!powerless)
        become(&o, target);
    run(&o, target);
}
