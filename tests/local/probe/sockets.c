/* Sockets that namespaces do not confine, or that see more than they should. */
#include "tests/local/probe/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* FAMILY,TYPE,PROTOCOL */
static int make_socket(const char *argument)
{
    char *rest;
    int family = (int)strtol(argument, &rest, 0);
    int type = *rest ? (int)strtol(rest + 1, &rest, 0) : SOCK_STREAM;
    int protocol = *rest ? (int)strtol(rest + 1, NULL, 0) : 0;

    return outcome(socket(family, type, protocol));
}

/* The same by the other call. */
static int make_pair(const char *argument)
{
    int pair[2];
    int error = outcome(socketpair((int)strtol(argument, NULL, 0), SOCK_STREAM, 0, pair));

    return error == EOPNOTSUPP ? 0 : error; /* the family is there */
}

/* What a service behind ADDRESS:PORT says: "host" is the answer that must not come. */
static int reach(const char *argument)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    char address[64], said[8] = "";
    const char *colon = strrchr(argument, ':');
    struct timeval patience = {.tv_sec = 2};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    snprintf(address, sizeof address, "%.*s", (int)(colon - argument), argument);
    to.sin_port = htons((uint16_t)atoi(colon + 1));
    inet_pton(AF_INET, address, &to.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        return errno;
    if (recv(fd, said, 4, MSG_WAITALL) < 0)
        return errno;
    return strcmp(said, "host") == 0 ? 0 : ECONNRESET;
}

static int reach_unix(const char *argument)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(argument);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(to.sun_path, argument, len);
    if (*argument == '@')
        to.sun_path[0] = '\0';
    return outcome(connect(fd, (struct sockaddr *)&to,
                           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)));
}

/* Gives the loopback interface one more address, by netlink. */
static int add_address(const char *argument)
{
    struct {
        struct nlmsghdr head;
        struct ifaddrmsg message;
        struct rtattr attribute;
        struct in_addr address;
    } request = {
        .head = {.nlmsg_len = sizeof request,
                 .nlmsg_type = RTM_NEWADDR,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE},
        .message = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = 1},
        .attribute = {.rta_len = RTA_LENGTH(4), .rta_type = IFA_LOCAL},
        .address = {.s_addr = htonl(0x0a090909)},
    };
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
    } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

    if (fd < 0 || send(fd, &request, sizeof request, 0) < 0 ||
        recv(fd, &answer, sizeof answer, 0) < 0)
        return errno;
    return -answer.error.error;
}

/* Takes the loopback interface down. */
static int change_interface(const char *argument)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = 0};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    return outcome(ioctl(fd, SIOCSIFFLAGS, &request));
}

const struct attempt socket_attempts[] = {
    {"socket", make_socket},
    {"socketpair", make_pair},
    {"reach", reach},
    {"reach_unix", reach_unix},
    {"add_address", add_address},
    {"change_interface", change_interface},
    {NULL, NULL},
};
