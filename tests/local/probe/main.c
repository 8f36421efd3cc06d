/*
 * probe [--apart] [NAME[=ARGUMENT]...]: tries each attempt in a process of its own and prints for
 * each a line: "ok" when it succeeded, the name of its errno, or of the signal that it was killed
 * by. --apart: in namespaces of their own, so that root outside harms nothing.
 */
#include "tests/local/probe/probe.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS = 5 };

int outcome(long result)
{
    return result >= 0 ? 0 : errno;
}

static const struct attempt *find(const char *name, size_t len)
{
    static const struct attempt *const lists[] = {kernel_attempts, namespace_attempts,
                                                  power_attempts, socket_attempts};

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const struct attempt *a = lists[i]; a->name; a++)
            if (strlen(a->name) == len && memcmp(a->name, name, len) == 0)
                return a;
    return NULL;
}

static bool set_apart(void)
{
    return unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static const char *try(const char *word, bool apart)
{
    size_t len = strcspn(word, "=");
    const struct attempt *attempt = find(word, len);
    int status;
    pid_t pid;

    if (!attempt)
        return "unknown";
    pid = fork();
    if (pid == 0) {
        alarm(SECONDS);
        _exit(apart && !set_apart() ? ECANCELED : attempt->run(word[len] ? word + len + 1 : NULL));
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return "not tried";
    if (WIFSIGNALED(status))
        return strsignal(WTERMSIG(status));
    return WEXITSTATUS(status) ? strerrorname_np(WEXITSTATUS(status)) : "ok";
}

int main(int argc, char **argv)
{
    bool apart = argc > 1 && strcmp(argv[1], "--apart") == 0;

    for (int i = 1 + apart; i < argc; i++) {
        puts(try(argv[i], apart));
        fflush(stdout);
    }
    return 0;
}
