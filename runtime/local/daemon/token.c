/* See token.h. */
#include "runtime/local/daemon/token.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

/* False: there is none, or none that is whole. */
static bool read_seed(const char *path, uint8_t seed[static TOKEN_SEED_LEN])
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 && read(fd, seed, TOKEN_SEED_LEN) == TOKEN_SEED_LEN;
}

static bool write_seed(const char *path, const uint8_t seed[static TOKEN_SEED_LEN])
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, seed, TOKEN_SEED_LEN) == TOKEN_SEED_LEN;
}

bool token_seed(const char *folder, uint8_t seed[static TOKEN_SEED_LEN], struct status *st)
{
    AUTO_FREE char *path = xasprintf("%s/seed", folder);
    AUTO_FREE char *fresh = xasprintf("%s/seed.new", folder);

    if (read_seed(path, seed))
        return true;
    if (getrandom(seed, TOKEN_SEED_LEN, 0) != TOKEN_SEED_LEN)
        return status_set(st, CODE_INTERNAL, 0, "no random numbers");
    /* Whole or not at all: a torn one would be another. */
    return (write_seed(fresh, seed) && rename(fresh, path) == 0) ||
           status_set(st, CODE_FAILED_PRECONDITION, 0, "%s cannot be written: %s", path,
                      strerror(errno));
}

void token_make(const uint8_t *seed, size_t seed_len, const char *id,
                char token[static SANDBOX_TOKEN_LEN + 1])
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;

    if (HMAC(EVP_sha256(), seed, (int)seed_len, (const uint8_t *)id, strlen(id), mac, &mac_len) ==
        NULL)
        abort();
    for (unsigned i = 0; i < mac_len; i++)
        snprintf(token + 2 * i, 3, "%02x", mac[i]);
}
