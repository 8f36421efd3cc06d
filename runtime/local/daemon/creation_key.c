/* See creation_key.h. */
#include "runtime/local/daemon/creation_key.h"

#include "common/base/mem.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 255 };

bool creation_key_set(struct creation_key *k, const char *text, const char *request, size_t len,
                      struct status *st)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

    if (text == NULL)
        return true;
    if (*text == '\0' || strlen(text) > KEY_MAX || text[strspn(text, allowed)] != '\0')
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "validation error: Idempotency-Key must be 1 to %d of a-z, 0-9 and '-'",
                          KEY_MAX);
    k->text = xstrdup(text);
    SHA256((const uint8_t *)request, len, k->digest);
    return true;
}

struct creation_key creation_key_copy(const struct creation_key *k)
{
    struct creation_key copy = *k;

    if (k->text != NULL)
        copy.text = xstrdup(k->text);
    return copy;
}

void creation_key_deinit(struct creation_key *k)
{
    free(k->text);
    k->text = NULL;
}

bool creation_key_is(const struct creation_key *k, const struct creation_key *other)
{
    return k->text != NULL && other->text != NULL && strcmp(k->text, other->text) == 0;
}

bool creation_key_asked_the_same(const struct creation_key *k, const struct creation_key *other)
{
    return creation_key_is(k, other) && memcmp(k->digest, other->digest, sizeof(k->digest)) == 0;
}
