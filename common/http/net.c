/* See net.h. Plain socket calls; every descriptor is close-on-exec and does not block. */
#include "common/http/net.h"

#include "common/base/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un path;
};

static bool parse_host(const char *host, union address *a, socklen_t *ret_len)
{
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    else if (strcmp(host, "*") == 0 || *host == '\0')
        host = "0.0.0.0";
    if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
        a->any.sa_family = AF_INET;
        *ret_len = sizeof(a->v4);
        return true;
    }
    if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
        a->any.sa_family = AF_INET6;
        *ret_len = sizeof(a->v6);
        return true;
    }
    return false;
}

static bool parse_address(const char *text, union address *a, socklen_t *ret_len, struct status *st)
{
    char host[80];
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    char *end = NULL;
    long port = colon != NULL && colon[1] != '\0' ? strtol(colon + 1, &end, 10) : -1;

    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (colon == NULL || len >= sizeof(host) || end == NULL || *end != '\0' || port < 0 ||
        port > 65535)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s is not an address: write HOST:PORT",
                          text);
    memset(a, 0, sizeof(*a));
    memcpy(host, text, len);
    host[len] = '\0';
    if (!parse_host(host, a, ret_len))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "%s is not a numeric address, localhost or *", host);
    if (a->any.sa_family == AF_INET)
        a->v4.sin_port = htons((uint16_t)port);
    else
        a->v6.sin6_port = htons((uint16_t)port);
    return true;
}

/* A TCP socket, and the address it is to have or to reach. -1 with a status on failure. */
static int tcp_socket(const char *address, int flags, union address *a, socklen_t *ret_len,
                      struct status *st)
{
    int fd;

    if (!parse_address(address, a, ret_len, st))
        return -1;
    fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        status_set(st, CODE_INTERNAL, 0, "no socket: %s", strerror(errno));
    return fd;
}

bool net_listen_tcp(const char *address, int *ret_fd, struct status *st)
{
    union address a;
    socklen_t len = 0;
    AUTO_CLOSE int fd = tcp_socket(address, SOCK_NONBLOCK, &a, &len, st);
    int on = 1;

    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, &a.any, len) < 0 || listen(fd, SOMAXCONN) < 0)
        return status_set(st, CODE_UNAVAILABLE, 0, "cannot listen on %s: %s", address,
                          strerror(errno));
    *ret_fd = take_fd(&fd);
    return true;
}

bool net_connect_tcp(const char *address, int *ret_fd, struct status *st)
{
    union address a;
    socklen_t len = 0;
    AUTO_CLOSE int fd = tcp_socket(address, 0, &a, &len, st);

    if (fd < 0)
        return false;
    if (connect(fd, &a.any, len) < 0)
        return status_set(st, CODE_UNAVAILABLE, 0, "nothing answers at %s: %s", address,
                          strerror(errno));
    *ret_fd = take_fd(&fd);
    return true;
}

/* A unix socket, and the address it is to have or to reach. -1 with a status on failure. */
static int unix_socket(const char *path, int type, union address *ret, struct status *st)
{
    int fd;

    memset(ret, 0, sizeof(*ret));
    ret->path.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(ret->path.sun_path)) {
        status_set(st, CODE_INVALID_ARGUMENT, 0, "the socket path %s is too long", path);
        return -1;
    }
    strcpy(ret->path.sun_path, path);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        status_set(st, CODE_INTERNAL, 0, "no socket: %s", strerror(errno));
    return fd;
}

bool net_listen_unix(const char *path, int type, int *ret_fd, struct status *st)
{
    union address a;
    AUTO_CLOSE int fd = unix_socket(path, type, &a, st);

    if (fd < 0)
        return false;
    unlink(path);
    if (bind(fd, &a.any, sizeof(a.path)) < 0 || listen(fd, SOMAXCONN) < 0)
        return status_set(st, CODE_UNAVAILABLE, 0, "cannot listen on %s: %s", path,
                          strerror(errno));
    *ret_fd = take_fd(&fd);
    return true;
}

bool net_connect_unix(const char *path, int type, int *ret_fd, struct status *st)
{
    union address a;
    AUTO_CLOSE int fd = unix_socket(path, type, &a, st);

    if (fd < 0)
        return false;
    /* A unix connect is done at once or refused: EAGAIN means that the backlog is full. */
    if (connect(fd, &a.any, sizeof(a.path)) < 0)
        return status_set(st, CODE_UNAVAILABLE, 0, "cannot connect to %s: %s", path,
                          strerror(errno));
    *ret_fd = take_fd(&fd);
    return true;
}

bool net_local_name(int fd, char *text, size_t size)
{
    union address a;
    socklen_t len = sizeof(a);
    char host[INET6_ADDRSTRLEN];

    if (getsockname(fd, &a.any, &len) < 0)
        return false;
    if (a.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a.v4.sin_addr, host, sizeof(host));
        snprintf(text, size, "%s:%d", host, ntohs(a.v4.sin_port));
        return true;
    }
    if (a.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a.v6.sin6_addr, host, sizeof(host));
        snprintf(text, size, "[%s]:%d", host, ntohs(a.v6.sin6_port));
        return true;
    }
    return false;
}
