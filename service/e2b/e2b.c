/* The adapter's own life: its configuration, loops and cache. Called by main. */
#include "service/e2b/private.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/sha256.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/json.h"
#include "service/e2b/request.h"
#include "service/e2b/upstream.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    ADDRESSES_MAX = 16384,
    ADDRESS_TTL_S = 600,
};

void e2b_nonce(struct loop *l, char ret[33])
{
    uint64_t random[2];

    if (getrandom(random, sizeof random, 0) != sizeof random) {
        random[0] = loop_random(l);
        random[1] = loop_random(l);
    }
    snprintf(ret, 33, "%016llx%016llx", (unsigned long long)random[0],
             (unsigned long long)random[1]);
}

/* One name for a version, whatever machine it is on: that is known only when it is installed. */
static char *name_recorder(const struct e2b_recorder *recorders)
{
    uint8_t hash[SHA256_LEN];
    struct sha256 all;
    char hex[17];

    sha256_init(&all);
    for (int i = 0; i < E2B_RECORDERS && recorders[i].machine != NULL; i++)
        sha256_update(&all, recorders[i].program, recorders[i].len);
    sha256_final(&all, hash);
    for (int i = 0; i < 8; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    return xasprintf("recorder-%s", hex);
}

static char *copy_without_slash(const char *url)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/')
        len--;
    return xstrndup(url, len);
}

static bool check_config(const struct e2b_config *c, struct status *st)
{
    if (c->api_key != NULL && !json_is_token(c->api_key))
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the E2B API key is empty or has characters that no key has");
    if (c->domain == NULL || !json_is_token(c->domain))
        return status_set(st, CODE_FAILED_PRECONDITION, 0, "E2B_DOMAIN is no domain name");
    if (c->api_url != NULL && strncmp(c->api_url, "http", 4) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "E2B_API_URL must start with https:// or http://");
    if (c->sandbox_url != NULL && strncmp(c->sandbox_url, "http", 4) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "E2B_SANDBOX_URL must start with https:// or http://");
    return true;
}

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool e2b_new(const struct e2b_config *config, struct e2b **ret, struct status *st)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct e2b *e;

    if (!check_config(config, st))
        return false;
    pthread_once(&once, init_curl);
    e = xcalloc(1, sizeof *e);
    e->config = *config;
    e->config.api_key = config->api_key != NULL ? xstrdup(config->api_key) : NULL;
    e->config.domain = xstrdup(config->domain);
    e->config.template = xstrdup(config->template != NULL ? config->template : "base");
    e->config.sandbox_url =
        config->sandbox_url != NULL ? copy_without_slash(config->sandbox_url) : NULL;
    e->config.api_url = NULL;
    e->api_url = config->api_url != NULL ? copy_without_slash(config->api_url)
                                         : xasprintf("https://api.%s", config->domain);
    e->recorder_name = name_recorder(config->recorders);
    e->upstream = upstream_new(config->metrics, config->tracer);
    e->addresses = address_cache_new(ADDRESSES_MAX, ADDRESS_TTL_S * NS_PER_S);
    for (int64_t i = 0; i == 0 || (i < config->threads && i < E2B_MAX_LOOPS); i++) {
        list_init(&e->loops[i].detached);
        if (!loop_new(&e->loops[i].loop, st)) {
            e2b_free(e);
            return false;
        }
        e->n_loops++;
    }
    *ret = e;
    return true;
}

struct drop_detached {
    struct task task;
    struct list *detached;
};

static void run_drop_detached(struct task *task)
{
    struct drop_detached *d = container_of(task, struct drop_detached, task);
    struct status st = STATUS_INIT;

    while (!list_is_empty(d->detached))
        request_abort(container_of(d->detached->next, struct request, node), &st);
}

void e2b_free(struct e2b *e)
{
    if (e == NULL)
        return;
    for (unsigned i = 0; i < e->n_loops; i++) {
        struct drop_detached d = {{.run = run_drop_detached}, &e->loops[i].detached};

        loop_post(e->loops[i].loop, &d.task);
        loop_free(e->loops[i].loop); /* after the task: they run in order */
    }
    address_cache_free(e->addresses);
    upstream_free(e->upstream);
    free((char *)e->config.api_key);
    free((char *)e->config.domain);
    free((char *)e->config.template);
    free((char *)e->config.sandbox_url);
    free(e->api_url);
    free(e->recorder_name);
    free(e);
}
