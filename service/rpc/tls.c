/*
 * See tls.h. Core asks for the certificate at each handshake, on a thread of its own, and is told
 * when there is a newer one than it has. Connections that stand keep theirs. What certificate a
 * client brings is not core's to judge, but the gate's (identity/clients.h says why).
 */
#include "service/rpc/tls.h"

#include "common/base/mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct tls {
    bool ask_clients; /* fixed: whether clients are asked for a certificate */
    pthread_mutex_t lock;
    struct server_certificate now; /* under lock; its strings are owned */
    bool is_news;                  /* under lock: core has not seen it */
};

static void drop(struct server_certificate *c)
{
    if (c->key_pem != NULL)
        explicit_bzero((char *)c->key_pem, strlen(c->key_pem));
    free((char *)c->chain_pem);
    free((char *)c->key_pem);
    free((char *)c->client_ca_pem);
    *c = (struct server_certificate){0};
}

struct tls *tls_new(const struct server_certificate *first)
{
    struct tls *t = xcalloc(1, sizeof(*t));

    t->ask_clients = first->client_ca_pem != NULL;
    pthread_mutex_init(&t->lock, NULL);
    tls_set(t, first);
    return t;
}

void tls_free(struct tls *t)
{
    if (t == NULL)
        return;
    drop(&t->now);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void tls_set(struct tls *t, const struct server_certificate *c)
{
    pthread_mutex_lock(&t->lock);
    drop(&t->now);
    t->now.chain_pem = xstrdup(c->chain_pem);
    t->now.key_pem = xstrdup(c->key_pem);
    t->now.client_ca_pem = c->client_ca_pem != NULL ? xstrdup(c->client_ca_pem) : NULL;
    t->is_news = true;
    pthread_mutex_unlock(&t->lock);
}

static grpc_ssl_certificate_config_reload_status fetch(void *arg,
                                                       grpc_ssl_server_certificate_config **ret)
{
    struct tls *t = arg;
    bool is_news;

    pthread_mutex_lock(&t->lock);
    is_news = t->is_news;
    if (is_news) {
        grpc_ssl_pem_key_cert_pair pair = {t->now.key_pem, t->now.chain_pem};

        /* Core insists on authorities, also where it will ask nobody for a certificate. */
        *ret = grpc_ssl_server_certificate_config_create(
            t->ask_clients ? t->now.client_ca_pem : t->now.chain_pem, &pair, 1);
        t->is_news = false;
    }
    pthread_mutex_unlock(&t->lock);
    return is_news ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW
                   : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
}

grpc_server_credentials *tls_credentials(struct tls *t)
{
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            t->ask_clients ? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY
                           : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
            fetch, t));
}
