/*
 * See sandbox_net.h. sandbox_net_init() runs in the zygote, sandbox_net_enter() in a sandbox's
 * first process. The messages are the same for every sandbox, so a sandbox costs two netlink
 * requests.
 *
 * As nft would write the rules:
 *
 *   table ip egress {
 *       chain local_out {
 *           type filter hook output priority -300;
 *           ip daddr 127.0.0.0/8 notrack
 *       }
 *       chain local_in {
 *           type filter hook prerouting priority -300;
 *           ip daddr 127.0.0.0/8 notrack
 *       }
 *       chain out {
 *           type nat hook output priority -100;
 *           ip daddr 169.254.0.21 accept
 *           meta l4proto tcp dnat to 169.254.0.22:61128
 *           udp dport 53 dnat to 169.254.0.22:61128
 *       }
 *   }
 *
 * Redirecting needs connections to be tracked; what stays inside is not, which is faster and keeps
 * the host's memory out of it.
 *
 * All else finds nobody at its address, which is local, and is refused at once. There is no route
 * for IPv6 but to ::1, so that programs go on to IPv4 at once, too.
 */
#include "runtime/local/zygote/sandbox_net.h"

#include "common/base/cleanup.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/if.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOPBACK = 1 }; /* the index of lo, in every namespace */
enum { BACKLOG = 256 };

static const char table_name[] = "egress";

struct chain {
    const char *name;
    const char *type;
    uint32_t hook;
    int32_t priority;
};

static const struct chain local_out = {"local_out", "filter", NF_INET_LOCAL_OUT, NF_IP_PRI_RAW};
static const struct chain local_in = {"local_in", "filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW};
static const struct chain out = {"out", "nat", NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST};

static uint32_t address(const char *text)
{
    struct in_addr addr;

    inet_pton(AF_INET, text, &addr);
    return addr.s_addr;
}

/* The next message of a request; each is acknowledged. */
static struct nlmsghdr *add_message(uint8_t *request, size_t len, uint16_t type, uint16_t flags)
{
    struct nlmsghdr *message = mnl_nlmsg_put_header(request + len);

    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    return message;
}

static size_t add_link_up(uint8_t *request, size_t len)
{
    struct nlmsghdr *message = add_message(request, len, RTM_NEWLINK, 0);
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(message, sizeof *info);

    info->ifi_index = LOOPBACK;
    info->ifi_flags = info->ifi_change = IFF_UP;
    return len + message->nlmsg_len;
}

static size_t add_address(uint8_t *request, size_t len, uint32_t addr)
{
    struct nlmsghdr *message = add_message(request, len, RTM_NEWADDR, NLM_F_CREATE);
    struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(message, sizeof *info);

    info->ifa_family = AF_INET;
    info->ifa_prefixlen = 32;
    info->ifa_scope = RT_SCOPE_UNIVERSE;
    info->ifa_index = LOOPBACK;
    mnl_attr_put_u32(message, IFA_LOCAL, addr);
    mnl_attr_put_u32(message, IFA_ADDRESS, addr);
    return len + message->nlmsg_len;
}

/* Every address is here. What does not say from where, comes from our own. */
static size_t add_route(uint8_t *request, size_t len)
{
    struct nlmsghdr *message = add_message(request, len, RTM_NEWROUTE, NLM_F_CREATE);
    struct rtmsg *info = mnl_nlmsg_put_extra_header(message, sizeof *info);

    info->rtm_family = AF_INET;
    info->rtm_table = RT_TABLE_LOCAL;
    info->rtm_protocol = RTPROT_STATIC;
    info->rtm_scope = RT_SCOPE_HOST;
    info->rtm_type = RTN_LOCAL;
    mnl_attr_put_u32(message, RTA_OIF, LOOPBACK);
    mnl_attr_put_u32(message, RTA_PREFSRC, address(SANDBOX_NET_SELF));
    return len + message->nlmsg_len;
}

static void compose_routes(struct sandbox_net *net)
{
    size_t len = add_link_up(net->routes, 0);

    len = add_address(net->routes, len, address(SANDBOX_NET_SELF));
    len = add_address(net->routes, len, address(SANDBOX_NET_GATEWAY));
    if (net->redirects)
        len = add_route(net->routes, len);
    assert(len <= sizeof net->routes);
    net->routes_len = len;
}

/* Loads a field of the packet and goes on if it is the value. */
static void match_field(struct nftnl_rule *rule, uint32_t base, uint32_t offset, const void *value,
                        uint32_t len)
{
    struct nftnl_expr *load = nftnl_expr_alloc("payload"), *compare = nftnl_expr_alloc("cmp");

    nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
    nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, len);
    nftnl_rule_add_expr(rule, load);
    nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
    nftnl_expr_set(compare, NFTNL_EXPR_CMP_DATA, value, len);
    nftnl_rule_add_expr(rule, compare);
}

/* The first len bytes of the address it goes to. */
static void match_target(struct nftnl_rule *rule, const char *addr, uint32_t len)
{
    enum { OFFSET_DADDR = 16 };
    uint32_t value = address(addr);

    match_field(rule, NFT_PAYLOAD_NETWORK_HEADER, OFFSET_DADDR, &value, len);
}

static void match_port(struct nftnl_rule *rule, uint16_t port)
{
    enum { OFFSET_DPORT = 2 };
    uint16_t value = htons(port);

    match_field(rule, NFT_PAYLOAD_TRANSPORT_HEADER, OFFSET_DPORT, &value, sizeof value);
}

static void match_protocol(struct nftnl_rule *rule, uint8_t protocol)
{
    struct nftnl_expr *load = nftnl_expr_alloc("meta"), *compare = nftnl_expr_alloc("cmp");

    nftnl_expr_set_u32(load, NFTNL_EXPR_META_KEY, NFT_META_L4PROTO);
    nftnl_expr_set_u32(load, NFTNL_EXPR_META_DREG, NFT_REG_1);
    nftnl_rule_add_expr(rule, load);
    nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
    nftnl_expr_set(compare, NFTNL_EXPR_CMP_DATA, &protocol, sizeof protocol);
    nftnl_rule_add_expr(rule, compare);
}

static void set_register(struct nftnl_rule *rule, uint32_t number, const void *value, uint32_t len)
{
    struct nftnl_expr *set = nftnl_expr_alloc("immediate");

    nftnl_expr_set_u32(set, NFTNL_EXPR_IMM_DREG, number);
    nftnl_expr_set(set, NFTNL_EXPR_IMM_DATA, value, len);
    nftnl_rule_add_expr(rule, set);
}

static void accept_it(struct nftnl_rule *rule)
{
    struct nftnl_expr *set = nftnl_expr_alloc("immediate");

    nftnl_expr_set_u32(set, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(set, NFTNL_EXPR_IMM_VERDICT, NF_ACCEPT);
    nftnl_rule_add_expr(rule, set);
}

static void send_to_gateway(struct nftnl_rule *rule)
{
    struct nftnl_expr *nat = nftnl_expr_alloc("nat");
    uint32_t addr = address(SANDBOX_NET_GATEWAY);
    uint16_t port = htons(SANDBOX_NET_PORT);

    set_register(rule, NFT_REG_1, &addr, sizeof addr);
    set_register(rule, NFT_REG_2, &port, sizeof port);
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_FAMILY, NFPROTO_IPV4);
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1);
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG_2);
    nftnl_rule_add_expr(rule, nat);
}

static struct nftnl_rule *new_rule(const struct chain *in)
{
    struct nftnl_rule *rule = nftnl_rule_alloc();

    nftnl_rule_set_str(rule, NFTNL_RULE_TABLE, table_name);
    nftnl_rule_set_str(rule, NFTNL_RULE_CHAIN, in->name);
    nftnl_rule_set_u32(rule, NFTNL_RULE_FAMILY, NFPROTO_IPV4);
    return rule;
}

static size_t add_rule(uint8_t *request, size_t len, struct nftnl_rule *take)
{
    struct nlmsghdr *message =
        nftnl_nlmsg_build_hdr((char *)request + len, NFT_MSG_NEWRULE, NFPROTO_IPV4,
                              NLM_F_APPEND | NLM_F_CREATE | NLM_F_ACK, 0);

    nftnl_rule_nlmsg_build_payload(message, take);
    nftnl_rule_free(take);
    return len + message->nlmsg_len;
}

static size_t add_table(uint8_t *request, size_t len)
{
    struct nftnl_table *table = nftnl_table_alloc();
    struct nlmsghdr *message = nftnl_nlmsg_build_hdr((char *)request + len, NFT_MSG_NEWTABLE,
                                                     NFPROTO_IPV4, NLM_F_CREATE | NLM_F_ACK, 0);

    nftnl_table_set_str(table, NFTNL_TABLE_NAME, table_name);
    nftnl_table_nlmsg_build_payload(message, table);
    nftnl_table_free(table);
    return len + message->nlmsg_len;
}

static size_t add_chain(uint8_t *request, size_t len, const struct chain *what)
{
    struct nftnl_chain *chain = nftnl_chain_alloc();
    struct nlmsghdr *message = nftnl_nlmsg_build_hdr((char *)request + len, NFT_MSG_NEWCHAIN,
                                                     NFPROTO_IPV4, NLM_F_CREATE | NLM_F_ACK, 0);

    nftnl_chain_set_str(chain, NFTNL_CHAIN_TABLE, table_name);
    nftnl_chain_set_str(chain, NFTNL_CHAIN_NAME, what->name);
    nftnl_chain_set_str(chain, NFTNL_CHAIN_TYPE, what->type);
    nftnl_chain_set_u32(chain, NFTNL_CHAIN_HOOKNUM, what->hook);
    nftnl_chain_set_s32(chain, NFTNL_CHAIN_PRIO, what->priority);
    nftnl_chain_nlmsg_build_payload(message, chain);
    nftnl_chain_free(chain);
    return len + message->nlmsg_len;
}

static size_t add_local(uint8_t *request, size_t len, const struct chain *chain)
{
    struct nftnl_rule *rule = new_rule(chain);

    match_target(rule, "127.0.0.0", 1);
    nftnl_rule_add_expr(rule, nftnl_expr_alloc("notrack"));
    return add_rule(request, add_chain(request, len, chain), rule);
}

static size_t add_out(uint8_t *request, size_t len)
{
    struct nftnl_rule *self = new_rule(&out), *tcp = new_rule(&out), *dns = new_rule(&out);

    match_target(self, SANDBOX_NET_SELF, 4);
    accept_it(self);
    match_protocol(tcp, IPPROTO_TCP);
    send_to_gateway(tcp);
    match_protocol(dns, IPPROTO_UDP);
    match_port(dns, 53);
    send_to_gateway(dns);
    len = add_rule(request, add_chain(request, len, &out), self);
    len = add_rule(request, len, tcp);
    return add_rule(request, len, dns);
}

static void compose_rules(struct sandbox_net *net)
{
    size_t len = 0;

    nftnl_batch_begin((char *)net->rules, 0);
    len += ((struct nlmsghdr *)net->rules)->nlmsg_len;
    len = add_table(net->rules, len);
    len = add_local(net->rules, len, &local_out);
    len = add_local(net->rules, len, &local_in);
    len = add_out(net->rules, len);
    len += nftnl_batch_end((char *)net->rules + len, 0)->nlmsg_len;
    assert(len <= sizeof net->rules);
    net->rules_len = len;
}

/* False, and errno, if any of the answers is an error. The kernel answers before send() returns. */
static bool take_answers(int fd)
{
    _Alignas(8) char answers[8192];
    int taken = 0;
    ssize_t n;

    while ((n = recv(fd, answers, sizeof answers, MSG_DONTWAIT)) > 0) {
        const struct nlmsghdr *answer = (const void *)answers;
        int left = (int)n;

        for (; mnl_nlmsg_ok(answer, left); answer = mnl_nlmsg_next(answer, &left)) {
            const struct nlmsgerr *error = mnl_nlmsg_get_payload(answer);

            if (answer->nlmsg_type != NLMSG_ERROR)
                continue;
            taken++;
            if (error->error != 0) {
                errno = -error->error;
                return false;
            }
        }
    }
    if (taken == 0)
        errno = EPROTO;
    return taken > 0;
}

static bool ask_kernel(int family, const uint8_t *request, size_t len)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    AUTO_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);

    return fd >= 0 &&
           sendto(fd, request, len, 0, (struct sockaddr *)&kernel, sizeof kernel) == (ssize_t)len &&
           take_answers(fd);
}

static int open_socket(int type, uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    AUTO_CLOSE int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    addr.sin_addr.s_addr = address(SANDBOX_NET_GATEWAY);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        (type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
        return -1;
    return take_fd(&fd);
}

bool sandbox_net_enter(const struct sandbox_net *net, struct sandbox_net_sockets *ret,
                       const char **ret_step)
{
    *ret = (struct sandbox_net_sockets){-1, -1};
    *ret_step = "set up the addresses of its network";
    if (!ask_kernel(NETLINK_ROUTE, net->routes, net->routes_len))
        return false;
    *ret_step = "redirect its connections";
    if (net->redirects && !ask_kernel(NETLINK_NETFILTER, net->rules, net->rules_len))
        return false;
    *ret_step = "open the sockets of its network";
    ret->tcp_fd = open_socket(SOCK_STREAM, SANDBOX_NET_PORT);
    /* Without rules questions come straight here. */
    ret->dns_fd = open_socket(SOCK_DGRAM, net->redirects ? SANDBOX_NET_PORT : 53);
    return ret->tcp_fd >= 0 && ret->dns_fd >= 0;
}

/* Whether a namespace of our own can be made so. */
static bool works(const struct sandbox_net *net)
{
    struct sandbox_net_sockets sockets;
    const char *step;
    int wait_status = -1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 && sandbox_net_enter(net, &sockets, &step)
                  ? 0
                  : 1);
    while (pid > 0 && waitpid(pid, &wait_status, 0) < 0 && errno == EINTR)
        ;
    return wait_status == 0;
}

static void compose(struct sandbox_net *net, bool redirects)
{
    *net = (struct sandbox_net){.redirects = redirects};
    compose_routes(net);
    if (redirects)
        compose_rules(net);
}

void sandbox_net_init(struct sandbox_net *net, bool proxy)
{
    compose(net, !proxy);
    if (net->redirects && !works(net))
        compose(net, false);
}
