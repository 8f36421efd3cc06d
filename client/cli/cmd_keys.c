/* The verb that makes keys: new-key. It calls nobody. */
#include "client/cli/cli.h"

#include "common/base/sha256.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { KEY_BYTES = 32 };

static const struct option no_options[] = {{NULL}};

/* "sbx_" lets scanners of repositories recognize a key that was committed by mistake. */
static bool make_key(char *ret, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[43]; /* of six bits each: more than KEY_BYTES have */
    size_t n = (size_t)snprintf(ret, size, "sbx_");

    _Static_assert(6 * sizeof(random) >= 8 * KEY_BYTES, "too few letters");
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return false;
    for (size_t i = 0; i < sizeof(random) && n + 1 < size; i++)
        ret[n++] = digits[random[i] & 63];
    ret[n] = '\0';
    explicit_bzero(random, sizeof(random));
    return true;
}

static void hash(const char *key, char ret[2 * SHA256_LEN + 1])
{
    uint8_t digest[SHA256_LEN];
    struct sha256 h;

    sha256_init(&h);
    sha256_update(&h, key, strlen(key));
    sha256_final(&h, digest);
    for (size_t i = 0; i < SHA256_LEN; i++)
        snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static int new_key(struct cli *cli, int n, char **operands)
{
    char key[64], hex[2 * SHA256_LEN + 1];
    const char *name = n > 1 ? operands[1] : "";

    if (!make_key(key, sizeof(key)))
        return cli_say(EXIT_LOCAL, "the system has no random numbers");
    hash(key, hex);
    if (cli->json)
        printf("{\"key\":\"%s\",\"line\":\"key %s sha256:%s%s%s\"}\n", key, operands[0], hex,
               *name != '\0' ? " " : "", name);
    else
        printf("%s\nkey %s sha256:%s%s%s\n", key, operands[0], hex, *name != '\0' ? " " : "", name);
    explicit_bzero(key, sizeof(key));
    return 0;
}

static int check_and_make(struct cli *cli, int n, char **operands)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@";

    if (operands[0][0] == '\0' ||
        operands[0][strspn(operands[0], "abcdefghijklmnopqrstuvwxyz0123456789-_")] != '\0')
        return cli_usage("a tenant's name has small letters, digits, and - or _ between them");
    if (n > 1 && operands[1][strspn(operands[1], letters)] != '\0')
        return cli_usage("a key's name has letters, digits and -_.@");
    return new_key(cli, n, operands);
}

const struct verb key_verbs[] = {
    {.name = "new-key",
     .operands = "TENANT [NAME]",
     .summary = "Make a key for callers of a tenant's.",
     .options = no_options,
     .more = "The first line is the key, which is nowhere else: give it to the caller. The second "
             "one is for the file of sandboxd --auth-keys, which only knows its hash.\n",
     .min_operands = 1,
     .max_operands = 2,
     .run = check_and_make},
    {.name = NULL},
};
