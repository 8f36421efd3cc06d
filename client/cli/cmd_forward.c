/*
 * The verb forward: a port of ours that leads to one of a sandbox. The main thread accepts; every
 * connection has a thread of its own, which carries it to its end. A connection that cannot be made
 * or breaks is reset, and the next one is on its own; only when there is no sandbox any more is
 * everything over.
 */
#include "client/cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, BACKLOG = 64 };

static struct {
    const char *listen;
    const char *host;
} forward = {.listen = "127.0.0.1", .host = ""};

static const struct option forward_options[] = {
    {"listen", 0, NULL, OPTION_STRING, &forward.listen, "ADDRESS",
     "The IP address to listen on (127.0.0.1). Whoever reaches it reaches the sandbox's port."},
    {"host", 0, NULL, OPTION_STRING, &forward.host, "ADDRESS",
     "The IP address to connect to, as the sandbox sees it; the sandbox itself if not set."},
    {NULL},
};

struct forwarding {
    const struct cli *cli;
    struct sandbox_client *client;
    Sandbox__V1__ForwardStart start;
    int listener;
    int signals; /* signalfd */
    int news;    /* eventfd: a connection is over */

    pthread_mutex_t lock;
    unsigned n;                /* connections; under lock */
    bool over;                 /* there is no sandbox any more; under lock */
    struct sandbox_error gone; /* who says so; under lock */
};

struct connection {
    struct forwarding *forwarding;
    int fd; /* owned */
};

/* --- one connection --- */

/* The other end is to see that it broke, not that it ended. */
static void reset(int fd)
{
    struct linger now = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void report(struct forwarding *f, const struct sandbox_error *err)
{
    bool gone = strcmp(err->reason, "SANDBOX_NOT_FOUND") == 0;

    if (err->code != SANDBOX_CANCELLED && !gone)
        cli_fail(f->cli, err);
    pthread_mutex_lock(&f->lock);
    if (gone && !f->over)
        f->gone = *err;
    f->over = f->over || gone;
    pthread_mutex_unlock(&f->lock);
}

static void *connection_main(void *arg)
{
    struct connection *c = arg;
    struct forwarding *f = c->forwarding;
    struct sandbox_error err;
    uint64_t one = 1;

    if (!sandbox_forward(f->client, &f->start, c->fd, &err)) {
        report(f, &err);
        reset(c->fd);
    }
    close(c->fd);
    free(c);
    pthread_mutex_lock(&f->lock);
    f->n--;
    if (write(f->news, &one, sizeof(one)) != sizeof(one))
        abort();
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static void accept_one(struct forwarding *f)
{
    struct connection *c;
    pthread_t thread;
    int one = 1, fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c = malloc(sizeof(*c));
    if (c == NULL)
        abort();
    *c = (struct connection){.forwarding = f, .fd = fd};
    pthread_mutex_lock(&f->lock);
    f->n++;
    pthread_mutex_unlock(&f->lock);
    if (pthread_create(&thread, NULL, connection_main, c) != 0)
        abort();
    pthread_detach(thread);
}

/* --- all of them --- */

static unsigned count(struct forwarding *f, bool *ret_over)
{
    unsigned n;

    pthread_mutex_lock(&f->lock);
    n = f->n;
    *ret_over = f->over;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static void take_news(const struct forwarding *f)
{
    uint64_t n;

    if (read(f->news, &n, sizeof(n)) != sizeof(n))
        abort();
}

/* Until a signal comes, or the sandbox is gone. */
static void serve(struct forwarding *f)
{
    struct pollfd fds[] = {{.fd = f->signals, .events = POLLIN},
                           {.fd = f->news, .events = POLLIN},
                           {.events = POLLIN}};
    bool over;

    for (;;) {
        fds[2].fd = count(f, &over) < CONNECTIONS_MAX ? f->listener : -1;
        if (over)
            return;
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[0].revents != 0)
            return;
        if (fds[1].revents != 0)
            take_news(f);
        if (fds[2].revents != 0)
            accept_one(f);
    }
}

static void end_all(struct forwarding *f)
{
    bool over;

    sandbox_client_stop(f->client);
    while (count(f, &over) > 0)
        take_news(f);
    pthread_mutex_lock(&f->lock); /* the last one is out of it */
    pthread_mutex_unlock(&f->lock);
}

/* --- the beginning --- */

/* "5000:8080", or "8080" for the same port on both sides. */
static bool parse_ports(const char *text, unsigned *ret_local, unsigned *ret_remote)
{
    char end;
    int n = sscanf(text, "%5u:%5u%c", ret_local, ret_remote, &end);

    if (n == 1 && sscanf(text, "%5u%c", ret_local, &end) == 1)
        *ret_remote = *ret_local;
    else if (n != 2)
        *ret_remote = 0;
    return (*ret_remote >= 1 && *ret_remote <= 65535 && *ret_local <= 65535) ||
           (cli_usage("%s is not like 5000:8080, or 8080; our port first, 0 for any free one",
                      text),
            false);
}

/* *ret_port is what was found where any would do. */
static int listen_on(const char *host, unsigned *ret_port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    struct addrinfo *address;
    char service[8];
    int fd, one = 1;
    bool ok;

    snprintf(service, sizeof(service), "%u", *ret_port);
    if (getaddrinfo(host, service, &hints, &address) != 0) {
        errno = EINVAL;
        return -1;
    }
    fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
         bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0 &&
         getsockname(fd, (struct sockaddr *)&bound, &len) == 0 &&
         getnameinfo((struct sockaddr *)&bound, len, NULL, 0, service, sizeof(service),
                     NI_NUMERICSERV) == 0;
    freeaddrinfo(address);
    if (ok) {
        *ret_port = (unsigned)strtoul(service, NULL, 10);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static int block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A sandbox that is not there is found out now, not with the first connection. */
static bool look(struct forwarding *f)
{
    Sandbox__V1__GetSandboxRequest request = SANDBOX__V1__GET_SANDBOX_REQUEST__INIT;
    struct sandbox_error err;

    request.sandbox_id = f->start.sandbox_id;
    return sandbox_get(f->client, &request, NULL, &err) || (cli_fail(f->cli, &err), false);
}

static void announce(const struct forwarding *f, unsigned port)
{
    char address[128];

    snprintf(address, sizeof(address), strchr(forward.listen, ':') != NULL ? "[%s]:%u" : "%s:%u",
             forward.listen, port);
    if (f->cli->json)
        printf("{\"address\":\"%s\",\"port\":%u}\n", address, f->start.port);
    else
        printf("%s leads to port %u of %s\n", address, f->start.port, f->start.sandbox_id);
    fflush(stdout);
}

static int run_forwarding(struct forwarding *f, unsigned port)
{
    f->listener = listen_on(forward.listen, &port);
    if (f->listener < 0)
        return cli_say(EXIT_LOCAL, "cannot listen on port %u of %s: %s", port, forward.listen,
                       strerror(errno));
    if (!look(f))
        return EXIT_RPC;
    announce(f, port);
    serve(f);
    close(f->listener);
    f->listener = -1;
    end_all(f);
    return f->over ? cli_fail(f->cli, &f->gone) : 0;
}

static int run_forward(struct cli *cli, int n, char **operands)
{
    struct forwarding f = {
        .cli = cli,
        .start = SANDBOX__V1__FORWARD_START__INIT,
        .listener = -1,
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    unsigned local, remote;
    int code;

    if (!parse_ports(operands[1], &local, &remote))
        return EXIT_USAGE;
    f.signals = block_signals();
    f.news = eventfd(0, EFD_CLOEXEC);
    if (f.signals < 0 || f.news < 0)
        abort();
    f.client = cli_connect(cli, cli->addresses);
    if (f.client == NULL)
        return EXIT_USAGE;
    f.start.sandbox_id = operands[0];
    f.start.port = remote;
    f.start.host = (char *)forward.host;
    code = run_forwarding(&f, local);
    if (f.listener >= 0)
        close(f.listener);
    sandbox_client_free(f.client);
    close(f.signals);
    close(f.news);
    return code;
}

const struct verb forward_verbs[] = {
    {"forward", "ID [LOCAL:]PORT", "a port here that leads to one in a sandbox", forward_options,
     "Listens on 127.0.0.1 (port LOCAL; 0 for any free one) and carries every connection to the\n"
     "port in the sandbox, also where it listens on the sandbox's own loopback alone. Says where,\n"
     "then goes on until it is interrupted, which exits with 0. A connection that breaks, or that\n"
     "nothing listens for, is reset and told on stderr.\n",
     2, 2, run_forward},
    {NULL},
};
