/* The verbs about files of any size: upload download. What is held of one is a block. */
#include "client/cli/cli.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROGRESS_MS = 200, COPY_BYTES = 1 << 16 };

struct transfer {
    const struct cli *cli; /* borrowed */
    int fd;                /* the local file; borrowed */
    off_t base;            /* where the file begins in it */
    uint64_t total;        /* bytes; 0: not known */
    int failed_errno;      /* of the local file */
    bool shows;            /* a line of progress stands on stderr */
    int64_t shown_ns;
};

/* --- what is told meanwhile --- */

static void show(struct transfer *t, uint64_t offset)
{
    double mib = 1 << 20;

    if (t->total > 0)
        fprintf(stderr, "\r\033[K%.1f of %.1f MiB", (double)offset / mib, (double)t->total / mib);
    else
        fprintf(stderr, "\r\033[K%.1f MiB", (double)offset / mib);
    t->shows = true;
}

/* Leaves the line to others. */
static void show_end(struct transfer *t)
{
    if (t->shows)
        fputs("\r\033[K", stderr);
    t->shows = false;
}

static void on_progress(void *user, uint64_t offset)
{
    struct transfer *t = user;
    int64_t now_ns = clock_monotonic_ns();

    if (now_ns - t->shown_ns < PROGRESS_MS * NS_PER_MS)
        return;
    t->shown_ns = now_ns;
    show(t, offset);
}

static void on_break(void *user, const struct sandbox_error *why, const char *next, int64_t wait_ms)
{
    struct transfer *t = user;

    if (t->cli->json)
        return;
    show_end(t);
    fprintf(stderr, "sandboxctl: %s: %s: %s; trying %s in %lld ms\n", why->address,
            sandbox_code_name(why->code), why->message, next, (long long)wait_ms);
}

static void on_resume(void *user, const char *to, uint64_t offset)
{
    struct transfer *t = user;

    if (!t->cli->json)
        fprintf(stderr, "resumed at byte %llu on %s\n", (unsigned long long)offset, to);
}

static int64_t on_read(void *user, uint64_t offset, void *data, size_t len)
{
    struct transfer *t = user;
    ssize_t n;

    do
        n = pread(t->fd, data, len, t->base + (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        t->failed_errno = errno;
    return n;
}

static bool on_write(void *user, const void *data, size_t len)
{
    struct transfer *t = user;

    if (fd_write_all(t->fd, data, len))
        return true;
    t->failed_errno = errno;
    return false;
}

static struct sandbox_transfer callbacks(struct transfer *t)
{
    return (struct sandbox_transfer){
        .user = t,
        .read = on_read,
        .write = on_write,
        .on_progress = isatty(STDERR_FILENO) && !t->cli->json ? on_progress : NULL,
        .on_break = on_break,
        .on_resume = on_resume,
    };
}

/* Prints why it failed; returns the exit code. */
static int failed(struct transfer *t, const char *local, const struct sandbox_error *err)
{
    show_end(t);
    if (t->failed_errno != 0)
        return cli_say(EXIT_LOCAL, "%s: %s", local, strerror(t->failed_errno));
    return cli_fail(t->cli, err);
}

/* --- upload --- */

static struct {
    const char *user, *mode;
    bool create;
} up = {.user = "", .mode = ""};

static const struct option upload_options[] = {
    {"mode", 0, NULL, OPTION_STRING, &up.mode, "OCTAL",
     "Permission bits, such as 755. As the sandbox makes files (644) if not set."},
    {"user", 'u', NULL, OPTION_STRING, &up.user, "NAME",
     "Who owns it, and whose home relative paths start from. The template's user if not set."},
    {"create", 0, NULL, OPTION_BOOL, &up.create, NULL,
     "Only if nothing is at PATH: never replaces."},
    {NULL},
};

/* A pipe can be read only once, and a stream that breaks needs its bytes again: they go to a file
 * without a name. -1: errno says why not. */
static int spool(int from)
{
    AUTO_FREE char *block = xcalloc(1, COPY_BYTES);
    FILE *file = tmpfile();
    int fd = file != NULL ? fcntl(fileno(file), F_DUPFD_CLOEXEC, 0) : -1;
    ssize_t n = 1;

    if (file != NULL)
        fclose(file);
    while (fd >= 0 && n != 0) {
        n = read(from, block, COPY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || !fd_write_all(fd, block, (size_t)n)) {
            int why = errno;

            close(fd);
            errno = why;
            return -1;
        }
    }
    return fd;
}

/* The file to read, from where it stands on. False: errno says why not. */
static bool open_local(const char *path, struct transfer *t)
{
    struct stat is;

    t->fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                                   : open(path, O_RDONLY | O_CLOEXEC);
    if (t->fd < 0)
        return false;
    t->base = lseek(t->fd, 0, SEEK_CUR);
    if (t->base < 0) {
        int once = t->fd;

        t->fd = spool(once);
        t->base = 0;
        close(once);
    }
    if (t->fd < 0 || fstat(t->fd, &is) != 0)
        return false;
    if (S_ISREG(is.st_mode) && is.st_size > t->base)
        t->total = (uint64_t)(is.st_size - t->base);
    return true;
}

static int upload(struct transfer *t, const char *local, const Sandbox__V1__UploadStart *start,
                  const Sandbox__V1__UploadCommit *commit)
{
    struct sandbox_client *client = cli_connect(t->cli, t->cli->addresses);
    struct sandbox_transfer transfer = callbacks(t);
    Sandbox__V1__UploadFileResponse *response;
    struct sandbox_error err;
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    if (!sandbox_upload(client, start, commit, &transfer, &response, &err)) {
        code = failed(t, local, &err);
    } else {
        show_end(t);
        if (t->cli->json && !cli_print_json(&response->base))
            code = cli_say(EXIT_LOCAL, "cannot write the output: %s", strerror(errno));
    }
    sandbox_free(response);
    sandbox_client_free(client);
    return code;
}

static int run_upload(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__UploadStart start = SANDBOX__V1__UPLOAD_START__INIT;
    Sandbox__V1__UploadCommit commit = SANDBOX__V1__UPLOAD_COMMIT__INIT;
    struct transfer t = {.cli = cli, .fd = -1};
    int code;

    if (!cli_mode(up.mode, &commit.mode))
        return EXIT_USAGE;
    commit.create_only = up.create;
    start.sandbox_id = operands[0];
    start.path = operands[2];
    start.user = (char *)up.user;
    if (open_local(operands[1], &t))
        code = upload(&t, operands[1], &start, &commit);
    else
        code = cli_say(EXIT_LOCAL, "cannot read %s: %s", operands[1], strerror(errno));
    if (t.fd >= 0)
        close(t.fd);
    return code;
}

/* --- download --- */

static struct {
    const char *user;
} down = {.user = ""};

static const struct option download_options[] = {
    {"user", 'u', NULL, OPTION_STRING, &down.user, "NAME",
     "Whose home relative paths start from. The template's user if not set."},
    {NULL},
};

/* The file that is written until it is whole; removed when a signal ends us before. */
static char *volatile temporary;

static void on_signal(int number)
{
    if (temporary != NULL)
        unlink(temporary);
    signal(number, SIG_DFL);
    raise(number);
}

/* It has its name, or none: a signal has nothing to remove. */
static void forget_temporary(void)
{
    char *name = temporary;

    temporary = NULL;
    free(name);
}

/* Beside the target, which is replaced by it. -1: errno says why not. */
static int make_temporary(const char *target)
{
    struct sigaction clean_up = {.sa_handler = on_signal};
    AUTO_FREE char *name = xasprintf("%s.XXXXXX", target);
    sigset_t ending, before;
    struct stat is;
    int fd;

    if (stat(target, &is) == 0 && !S_ISREG(is.st_mode)) {
        errno = S_ISDIR(is.st_mode) ? EISDIR : EINVAL; /* /dev/null must stay what it is */
        return -1;
    }
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGHUP);
    sigprocmask(SIG_BLOCK, &ending, &before); /* until its name is known */
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0) {
        temporary = TAKE(name);
        sigaction(SIGINT, &clean_up, NULL);
        sigaction(SIGTERM, &clean_up, NULL);
        sigaction(SIGHUP, &clean_up, NULL);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return fd;
}

/* Gives it its permissions, as far as ours allow them, and its name. False: errno says why not. */
static bool publish(int fd, const char *target, uint32_t mode)
{
    mode_t mask = umask(0);

    umask(mask);
    if (fchmod(fd, mode & 0777 & ~mask) != 0 || rename(temporary, target) != 0)
        return false;
    forget_temporary();
    return true;
}

static int download(struct transfer *t, const Sandbox__V1__DownloadFileRequest *request,
                    const char *local)
{
    struct sandbox_client *client = cli_connect(t->cli, t->cli->addresses);
    struct sandbox_transfer transfer = callbacks(t);
    Sandbox__V1__DownloadStart *start;
    struct sandbox_error err;
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    if (!sandbox_download(client, request, &transfer, &start, &err)) {
        code = failed(t, local, &err);
    } else {
        show_end(t);
        if (temporary != NULL && !publish(t->fd, local, start->entry->mode))
            code = cli_say(EXIT_LOCAL, "cannot write %s: %s", local, strerror(errno));
        else if (t->cli->json && t->fd != STDOUT_FILENO && !cli_print_json(&start->entry->base))
            code = cli_say(EXIT_LOCAL, "cannot write the output: %s", strerror(errno));
    }
    sandbox_free(start);
    sandbox_client_free(client);
    return code;
}

static int run_download(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__DownloadFileRequest request = SANDBOX__V1__DOWNLOAD_FILE_REQUEST__INIT;
    struct transfer t = {.cli = cli, .fd = STDOUT_FILENO};
    bool to_file = strcmp(operands[2], "-") != 0;
    int code;

    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.user = (char *)down.user;
    if (to_file)
        t.fd = make_temporary(operands[2]);
    if (t.fd < 0)
        return cli_say(EXIT_LOCAL, "cannot write %s: %s", operands[2], strerror(errno));
    code = download(&t, &request, operands[2]);
    if (temporary != NULL) {
        unlink(temporary);
        forget_temporary();
    }
    if (to_file)
        close(t.fd);
    return code;
}

const struct verb transfer_verbs[] = {
    {"upload", "ID LOCAL PATH", "write a file of any size into a sandbox (- for stdin)",
     upload_options,
     "PATH has the file when this ends with 0, checked by its SHA-256, and nothing of it before.\n"
     "When a pod is lost the rest goes through the next one.\n",
     3, 3, run_upload},
    {"download", "ID PATH LOCAL", "read a file of any size from a sandbox (- for stdout)",
     download_options,
     "LOCAL has the file when this ends with 0, checked by its SHA-256, and nothing of it before;\n"
     "it keeps the permissions that the umask allows. When a pod is lost the rest comes through\n"
     "the next one.\n",
     3, 3, run_download},
    {NULL},
};
