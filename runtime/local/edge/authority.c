/*
 * See authority.h. Whoever makes it first wins: the file is linked into place, complete, and a
 * second maker takes what is there.
 */
#include "runtime/local/edge/authority.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DAY_S = 24 * 3600, OWN_DAYS = 3650, LEAF_DAYS = 90, SERIAL_BITS = 127 };

static bool add_extension(X509 *to, X509 *issuer, int nid, const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX ctx;
    bool ok;

    X509V3_set_ctx(&ctx, issuer, to, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = extension != NULL && X509_add_ext(to, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_serial(X509 *x)
{
    BIGNUM *n = BN_new();
    bool ok = n != NULL && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
              BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;

    BN_free(n);
    return ok;
}

/* A certificate of that key, valid from yesterday (clocks differ), without extensions. */
static X509 *begin(EVP_PKEY *key, const char *name, int days)
{
    X509 *x = X509_new();
    bool ok = x != NULL && X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
              X509_gmtime_adj(X509_getm_notBefore(x), -DAY_S) != NULL &&
              X509_gmtime_adj(X509_getm_notAfter(x), (long)days * DAY_S) != NULL &&
              X509_set_pubkey(x, key) == 1 &&
              X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                                         (const unsigned char *)name, -1, -1, 0) == 1;

    if (ok)
        return x;
    X509_free(x);
    return NULL;
}

static bool make(struct authority *a)
{
    X509 *x;

    a->key = EVP_EC_gen("P-256");
    a->certificate = x = a->key != NULL ? begin(a->key, "e2b-local CA", OWN_DAYS) : NULL;
    return x != NULL && X509_set_issuer_name(x, X509_get_subject_name(x)) == 1 &&
           add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           add_extension(x, x, NID_subject_key_identifier, "hash") &&
           X509_sign(x, a->key, EVP_sha256()) > 0;
}

static bool read_file(struct authority *a, const char *path)
{
    FILE *f = fopen(path, "re");

    if (f == NULL)
        return false;
    a->key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    a->certificate = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    return a->key != NULL && a->certificate != NULL &&
           X509_check_private_key(a->certificate, a->key) == 1;
}

/* Writes the certificate, and with it the key if that is wanted, to a new file. */
static bool write_file(const struct authority *a, const char *path, mode_t mode, bool with_key)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool ok = f != NULL && fchmod(fd, mode) == 0;

    if (f == NULL)
        return false;
    if (ok && with_key)
        ok = PEM_write_PrivateKey(f, a->key, NULL, NULL, 0, NULL, NULL) == 1;
    ok = ok && PEM_write_X509(f, a->certificate) == 1;
    return fclose(f) == 0 && ok;
}

/* By a temporary name of this process, which is gone afterwards. */
static bool put_file(const struct authority *a, const char *path, mode_t mode, bool with_key,
                     bool replace)
{
    AUTO_FREE char *temporary = xasprintf("%s.%d", path, (int)getpid());
    bool ok;

    unlink(temporary);
    ok = write_file(a, temporary, mode, with_key);
    if (ok && replace)
        ok = rename(temporary, path) == 0;
    else if (ok)
        ok = link(temporary, path) == 0 || errno == EEXIST;
    unlink(temporary);
    return ok;
}

static void forget(struct authority *a)
{
    X509_free(a->certificate);
    EVP_PKEY_free(a->key);
    a->certificate = NULL;
    a->key = NULL;
}

bool authority_load(struct authority *a, const char *dir, struct status *st)
{
    AUTO_FREE char *own = xasprintf("%s/authority.pem", dir);
    AUTO_FREE char *public = xasprintf("%s/" AUTHORITY_CA_FILE, dir);

    *a = (struct authority){.leaf = EVP_EC_gen("P-256")};
    if (access(own, F_OK) < 0) {
        if (!make(a) || !put_file(a, own, 0600, true, false)) {
            authority_deinit(a);
            return status_set(st, CODE_INTERNAL, 0,
                              "a certificate authority cannot be made in %s: %s", dir,
                              strerror(errno));
        }
        forget(a);
    }
    if (a->leaf == NULL || !read_file(a, own) || !put_file(a, public, 0644, false, true)) {
        authority_deinit(a);
        return status_set(st, CODE_INTERNAL, 0,
                          "the certificate authority in %s cannot be used; remove it for a new one",
                          own);
    }
    return true;
}

void authority_deinit(struct authority *a)
{
    forget(a);
    EVP_PKEY_free(a->leaf);
    a->leaf = NULL;
}

/* "DNS:a,IP:::1". False: a name that could be taken for more than one. */
static bool alternative_names(const char *const *names, size_t n, struct buf *out)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*:";
    struct in6_addr address;

    for (size_t i = 0; i < n; i++) {
        bool is_ip = inet_pton(AF_INET, names[i], &address) == 1 ||
                     inet_pton(AF_INET6, names[i], &address) == 1;

        if (*names[i] == '\0' || names[i][strspn(names[i], allowed)] != '\0' ||
            (!is_ip && strchr(names[i], ':') != NULL))
            return false;
        if (!buf_printf(out, "%s%s:%s", i > 0 ? "," : "", is_ip ? "IP" : "DNS", names[i]))
            return false;
    }
    return n > 0;
}

X509 *authority_issue(const struct authority *a, const char *const *names, size_t n)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(4096);
    X509 *x = alternative_names(names, n, &text) ? begin(a->leaf, "e2b-local", LEAF_DAYS) : NULL;
    bool ok = x != NULL && X509_set_issuer_name(x, X509_get_subject_name(a->certificate)) == 1 &&
              add_extension(x, a->certificate, NID_basic_constraints, "critical,CA:FALSE") &&
              add_extension(x, a->certificate, NID_key_usage, "critical,digitalSignature") &&
              add_extension(x, a->certificate, NID_ext_key_usage, "serverAuth") &&
              add_extension(x, a->certificate, NID_authority_key_identifier, "keyid") &&
              add_extension(x, a->certificate, NID_subject_alt_name, buf_str(&text)) &&
              X509_sign(x, a->key, EVP_sha256()) > 0;

    if (ok)
        return x;
    X509_free(x);
    return NULL;
}
