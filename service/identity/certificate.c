/* See certificate.h. Pure but for reading the files. */
#include "service/identity/certificate.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FILE_MAX = 1 << 20, CHAIN_MAX = 32 };

static void free_bio(BIO **b)
{
    BIO_free(*b);
}

static void free_x509(X509 **x)
{
    X509_free(*x);
}

static void free_pkey(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}

void certificate_deinit(struct certificate *c)
{
    if (c->pem.key_pem != NULL)
        explicit_bzero((char *)c->pem.key_pem, strlen(c->pem.key_pem));
    free((char *)c->pem.chain_pem);
    free((char *)c->pem.key_pem);
    free((char *)c->pem.client_ca_pem);
    *c = (struct certificate){0};
}

static bool wrong(struct status *st, const char *path, const char *what)
{
    ERR_clear_error();
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s: %s", path, what);
}

static bool read_text(const char *path, const char **ret, struct status *st)
{
    struct buf text = BUF_INIT(FILE_MAX);

    if (!watch_read_file(path, &text, st)) {
        buf_deinit(&text);
        return false;
    }
    *ret = buf_take_str(&text);
    return true;
}

static int64_t as_ns(const ASN1_TIME *t)
{
    struct tm tm;

    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) * NS_PER_S : 0;
}

static void text_of(const ASN1_TIME *t, char *ret, size_t size)
{
    struct tm tm = {0};

    ASN1_TIME_to_tm(t, &tm);
    strftime(ret, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* Each certificate of a file must be one, and count. */
static bool check_all(const char *path, const char *pem, int64_t now_ns, X509 **ret_first,
                      struct status *st)
{
    AUTO(free_bio) BIO *b = BIO_new_mem_buf(pem, -1);
    int n = 0;

    for (;;) {
        AUTO(free_x509) X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
        char when[32];

        if (x == NULL)
            break;
        if (++n > CHAIN_MAX)
            return wrong(st, path, "it has more certificates than make sense");
        text_of(X509_get0_notAfter(x), when, sizeof(when));
        if (ret_first != NULL && as_ns(X509_get0_notAfter(x)) <= now_ns)
            return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s: a certificate expired at %s", path,
                              when);
        text_of(X509_get0_notBefore(x), when, sizeof(when));
        if (ret_first != NULL && as_ns(X509_get0_notBefore(x)) > now_ns)
            return status_set(st, CODE_INVALID_ARGUMENT, 0,
                              "%s: a certificate is not valid before %s", path, when);
        if (n == 1 && ret_first != NULL)
            *ret_first = TAKE(x);
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return wrong(st, path, "a certificate in it is damaged");
    ERR_clear_error();
    return n > 0 || wrong(st, path, "there is no certificate in it (PEM)");
}

/* A key with a passphrase has nobody to ask. */
static int no_passphrase(char *to, int size, int writing, void *arg)
{
    return -1;
}

static bool check_key(const struct certificate_files *files, const char *pem, X509 *x,
                      struct status *st)
{
    AUTO(free_bio) BIO *b = BIO_new_mem_buf(pem, -1);
    AUTO(free_pkey) EVP_PKEY *key = PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL);

    if (key == NULL)
        return wrong(st, files->key, "there is no private key in it (PEM, without a passphrase)");
    if (X509_check_private_key(x, key) != 1)
        return wrong(st, files->key, "the key is not that of the certificate");
    return true;
}

static bool check(const struct certificate_files *files, int64_t now_ns, struct certificate *c,
                  struct status *st)
{
    AUTO(free_x509) X509 *x = NULL;

    if (!check_all(files->chain, c->pem.chain_pem, now_ns, &x, st) ||
        !check_key(files, c->pem.key_pem, x, st) ||
        (files->client_ca != NULL &&
         !check_all(files->client_ca, c->pem.client_ca_pem, now_ns, NULL, st)))
        return false;
    c->not_after_ns = as_ns(X509_get0_notAfter(x));
    X509_NAME_oneline(X509_get_subject_name(x), c->subject, sizeof(c->subject));
    return true;
}

bool certificate_read(const struct certificate_files *files, int64_t now_ns,
                      struct certificate *ret, struct status *st)
{
    *ret = (struct certificate){0};
    if (read_text(files->chain, &ret->pem.chain_pem, st) &&
        read_text(files->key, &ret->pem.key_pem, st) &&
        (files->client_ca == NULL || read_text(files->client_ca, &ret->pem.client_ca_pem, st)) &&
        check(files, now_ns, ret, st))
        return true;
    certificate_deinit(ret);
    return false;
}
