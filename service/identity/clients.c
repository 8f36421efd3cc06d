/* See clients.h. One lock guards the pointers; verifying is done outside of it. */
#include "service/identity/clients.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/sha256.h"
#include "sandbox/v1/errors.pb-c.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REMEMBERED = 1024, CHAIN_MAX = 16 };

/* A certificate that was found good, by the hash of its chain. */
struct good {
    uint8_t hash[SHA256_LEN];
    int64_t until_ns; /* wall clock; 0: empty */
};

struct clients {
    pthread_mutex_t lock; /* guards all of it */
    X509_STORE *store;    /* owned */
    unsigned version;     /* of the store */
    struct good good[REMEMBERED];
};

static void free_bio(BIO **b)
{
    BIO_free(*b);
}

static void free_x509(X509 **x)
{
    X509_free(*x);
}

static void free_store(X509_STORE **s)
{
    X509_STORE_free(*s);
}

static void free_context(X509_STORE_CTX **x)
{
    X509_STORE_CTX_free(*x);
}

static void free_chain(STACK_OF(X509) * *chain)
{
    sk_X509_pop_free(*chain, X509_free);
}

/* --- the authorities --- */

static X509_STORE *make_store(const char *authorities)
{
    AUTO(free_bio) BIO *b = BIO_new_mem_buf(authorities, -1);
    X509_STORE *store = X509_STORE_new();
    X509 *x;

    while ((x = PEM_read_bio_X509(b, NULL, NULL, NULL)) != NULL) {
        X509_STORE_add_cert(store, x);
        X509_free(x);
    }
    ERR_clear_error();
    return store;
}

struct clients *clients_new(const char *authorities)
{
    struct clients *c = xcalloc(1, sizeof(*c));

    pthread_mutex_init(&c->lock, NULL);
    c->store = make_store(authorities);
    return c;
}

void clients_free(struct clients *c)
{
    if (c == NULL)
        return;
    X509_STORE_free(c->store);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void clients_set_authorities(struct clients *c, const char *authorities)
{
    X509_STORE *new = make_store(authorities), *old;

    pthread_mutex_lock(&c->lock);
    old = c->store;
    c->store = new;
    c->version++;
    memset(c->good, 0, sizeof(c->good));
    pthread_mutex_unlock(&c->lock);
    X509_STORE_free(old);
}

/* --- what was found good --- */

static struct good *slot_of(struct clients *c, const uint8_t *hash)
{
    return &c->good[(hash[0] | hash[1] << 8) % REMEMBERED];
}

static bool is_remembered(struct clients *c, const uint8_t *hash, int64_t now_ns)
{
    const struct good *g;
    bool good;

    pthread_mutex_lock(&c->lock);
    g = slot_of(c, hash);
    good = g->until_ns > now_ns && memcmp(g->hash, hash, sizeof(g->hash)) == 0;
    pthread_mutex_unlock(&c->lock);
    return good;
}

static void remember(struct clients *c, const uint8_t *hash, int64_t until_ns, unsigned version)
{
    struct good *g;

    pthread_mutex_lock(&c->lock);
    g = slot_of(c, hash);
    if (version == c->version) {
        memcpy(g->hash, hash, sizeof(g->hash));
        g->until_ns = until_ns;
    }
    pthread_mutex_unlock(&c->lock);
}

static X509_STORE *current_store(struct clients *c, unsigned *ret_version)
{
    X509_STORE *store;

    pthread_mutex_lock(&c->lock);
    store = c->store;
    X509_STORE_up_ref(store);
    *ret_version = c->version;
    pthread_mutex_unlock(&c->lock);
    return store;
}

/* --- verifying --- */

static bool refuse(struct status *st, const char *why)
{
    ERR_clear_error();
    return status_set(st, CODE_UNAUTHENTICATED,
                      SANDBOX__V1__ERROR_REASON__ERROR_REASON_UNAUTHENTICATED,
                      "the client certificate is refused: %s", why);
}

static X509 *read_one(const char *pem)
{
    AUTO(free_bio) BIO *b = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);

    ERR_clear_error();
    return x;
}

static STACK_OF(X509) * read_all(const char *pem)
{
    AUTO(free_bio) BIO *b = BIO_new_mem_buf(pem, -1);
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509 *x;

    while (sk_X509_num(chain) < CHAIN_MAX && (x = PEM_read_bio_X509(b, NULL, NULL, NULL)) != NULL)
        sk_X509_push(chain, x);
    ERR_clear_error();
    return chain;
}

static void write_time(const ASN1_TIME *t, char *ret, size_t size)
{
    struct tm tm = {0};

    ASN1_TIME_to_tm(t, &tm);
    strftime(ret, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static int64_t expiry_ns(const X509 *x)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) != 1)
        return 0;
    return (int64_t)timegm(&tm) * NS_PER_S;
}

/* OpenSSL's words are for who knows OpenSSL; the common cases are told in ours. */
static bool explain(X509_STORE_CTX *x, struct status *st)
{
    int error = X509_STORE_CTX_get_error(x);
    const X509 *at = X509_STORE_CTX_get_current_cert(x);
    char when[32] = "";

    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        if (at != NULL)
            write_time(X509_get0_notAfter(at), when, sizeof(when));
        refuse(st, "it expired at ");
        strncat(st->message, when, sizeof(st->message) - strlen(st->message) - 1);
        return false;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        if (at != NULL)
            write_time(X509_get0_notBefore(at), when, sizeof(when));
        refuse(st, "it is not valid before ");
        strncat(st->message, when, sizeof(st->message) - strlen(st->message) - 1);
        return false;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return refuse(st, "no authority that this server trusts has signed it");
    case X509_V_ERR_INVALID_PURPOSE:
        return refuse(st, "it is not one for clients");
    default:
        return refuse(st, X509_verify_cert_error_string(error));
    }
}

static bool verify(X509_STORE *store, X509 *own, STACK_OF(X509) * others, int64_t now_ns,
                   int64_t *ret_until_ns, struct status *st)
{
    AUTO(free_context) X509_STORE_CTX *x = X509_STORE_CTX_new();
    STACK_OF(X509) * used;

    X509_STORE_CTX_init(x, store, own, others);
    X509_STORE_CTX_set_purpose(x, X509_PURPOSE_SSL_CLIENT);
    X509_STORE_CTX_set_time(x, 0, (time_t)(now_ns / NS_PER_S));
    if (X509_verify_cert(x) != 1)
        return explain(x, st);
    used = X509_STORE_CTX_get0_chain(x);
    *ret_until_ns = INT64_MAX;
    for (int i = 0; i < sk_X509_num(used); i++) {
        int64_t until_ns = expiry_ns(sk_X509_value(used, i));

        if (until_ns < *ret_until_ns)
            *ret_until_ns = until_ns;
    }
    return true;
}

static void hash_both(const char *own, const char *others, uint8_t ret[SHA256_LEN])
{
    struct sha256 h;

    sha256_init(&h);
    sha256_update(&h, own, strlen(own) + 1);
    sha256_update(&h, others, strlen(others));
    sha256_final(&h, ret);
}

bool clients_check(struct clients *c, const char *own, const char *others, int64_t now_ns,
                   struct status *st)
{
    AUTO(free_x509) X509 *x = NULL;
    AUTO(free_chain) STACK_OF(X509) *rest = NULL;
    AUTO(free_store) X509_STORE *store = NULL;
    uint8_t hash[SHA256_LEN];
    unsigned version;
    int64_t until_ns = 0;

    if (own == NULL)
        return refuse(st, "there is none, and this server asks for one");
    if (others == NULL)
        others = "";
    hash_both(own, others, hash);
    if (is_remembered(c, hash, now_ns))
        return true;
    x = read_one(own);
    if (x == NULL)
        return refuse(st, "it cannot be read");
    rest = read_all(others);
    store = current_store(c, &version);
    if (!verify(store, x, rest, now_ns, &until_ns, st))
        return false;
    remember(c, hash, until_ns, version);
    return true;
}
