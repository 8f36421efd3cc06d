/* See egress_route.h. The kernel answers before send() returns, so nothing blocks. */
#include "runtime/local/egress/route.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

int egress_route_open(void)
{
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
}

bool egress_route_leaves(int fd, uint32_t address)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    _Alignas(8) char buffer[4096];
    struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
    struct rtmsg *route = mnl_nlmsg_put_extra_header(message, sizeof(*route));
    ssize_t n;

    message->nlmsg_type = RTM_GETROUTE;
    message->nlmsg_flags = NLM_F_REQUEST;
    route->rtm_family = AF_INET;
    route->rtm_dst_len = 32;
    mnl_attr_put_u32(message, RTA_DST, htonl(address));
    while (recv(fd, buffer + message->nlmsg_len, sizeof(buffer) - message->nlmsg_len, 0) > 0)
        continue; /* nothing of an earlier question is left */
    if (sendto(fd, message, message->nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
        return false;
    n = recv(fd, buffer, sizeof(buffer), 0);
    if (n <= 0 || !mnl_nlmsg_ok(message, (int)n) || message->nlmsg_type != RTM_NEWROUTE)
        return false;
    return route->rtm_type == RTN_UNICAST;
}
