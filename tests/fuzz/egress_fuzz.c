/*
 * What sandboxes send on their way out, on anything: first bytes of connections, questions to the
 * name server, requests that are written anew. The first byte says which. Whatever follows, nothing
 * is read outside of it; a name that is found is one that can be looked up; what is known from a
 * part stays so when the rest is there.
 */
#include "common/base/cleanup.h"
#include "runtime/local/egress/dns.h"
#include "runtime/local/egress/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void require_name(const char *name)
{
    char again[EGRESS_NAME_MAX + 1];

    require(egress_name_copy(name, strlen(name), again) == EGRESS_SNIFF_NAME);
    require(strcmp(name, again) == 0);
}

typedef enum egress_sniff sniffer(const uint8_t *data, size_t len, char *name);

static void sniff(sniffer *look, const uint8_t *data, size_t len)
{
    char name[EGRESS_NAME_MAX + 1] = "", part_name[EGRESS_NAME_MAX + 1] = "";
    enum egress_sniff whole = look(data, len, name);

    if (whole == EGRESS_SNIFF_NAME)
        require_name(name);
    for (size_t cut = 0; cut < len; cut += 1 + cut / 8) {
        enum egress_sniff part = look(data, cut, part_name);

        require(part == EGRESS_SNIFF_MORE || part == whole);
        require(part != EGRESS_SNIFF_NAME || strcmp(name, part_name) == 0);
    }
}

static void ask(const uint8_t *data, size_t len)
{
    AUTO(buf_deinit) struct buf out = BUF_INIT(EGRESS_DNS_MAX);
    struct egress_dns_address addresses[EGRESS_DNS_ADDRESSES_MAX] = {{1, 2}};
    struct egress_dns_question q;

    if (egress_dns_read(data, len, &q) == EGRESS_DNS_NOISE)
        return;
    if (q.name[0] != '\0')
        require_name(q.name);
    require(q.len <= len && memcmp(q.bytes, data, q.len) == 0);
    require(q.max_size >= EGRESS_DNS_UDP_MIN && q.max_size <= EGRESS_DNS_UDP_MAX);
    egress_dns_answer(&q, EGRESS_DNS_OK, addresses, EGRESS_DNS_ADDRESSES_MAX, &out);
    require(buf_len(&out) == q.len + EGRESS_DNS_ADDRESSES_MAX * 16);
    buf_clear(&out);
    egress_dns_truncated(&q, &out);
    require(buf_len(&out) == q.len);
    buf_clear(&out);
    if (egress_dns_relay(&q, data, len, &out))
        require(buf_len(&out) == len && memcmp(buf_data(&out), q.bytes, 2) == 0);
}

static void pass(bool proxied, const uint8_t *data, size_t len)
{
    AUTO(buf_deinit) struct buf out = BUF_INIT(EGRESS_HTTP_OUT_MAX);
    AUTO(egress_http_deinit) struct egress_http http;
    struct pairs headers = {NULL, 0};
    bool fine = true;

    egress_http_init(&http, "a.b", proxied);
    pairs_add(&headers, "X-Key", "secret");
    for (size_t at = 0; fine && at < len; at += 7) {
        fine = egress_http_pass(&http, &headers, data + at, len - at < 7 ? len - at : 7, &out);
        buf_clear(&out);
    }
    pairs_deinit(&headers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    switch (data[0] % 5) {
    case 0:
        sniff(egress_sniff_tls, data + 1, len - 1);
        break;
    case 1:
        sniff(egress_sniff_http, data + 1, len - 1);
        break;
    case 2:
        ask(data + 1, len - 1);
        break;
    default:
        pass(data[0] % 5 == 3, data + 1, len - 1);
        break;
    }
    return 0;
}
