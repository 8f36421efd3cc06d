/* See keyring.h. A small parser of lines and words; every mistake is an error, for a file that
 * decides who comes in must not be read generously. */
#include "service/identity/keyring.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 16, TEMPLATES_MAX = 256, LINE_MAX = 8192 };

static const char digest_prefix[] = "sha256:";

/* --- life --- */

static void tenant_deinit(struct keyring_tenant *t)
{
    free_strings(t->templates, t->n_templates);
}

struct keyring *keyring_ref(struct keyring *k)
{
    if (k != NULL)
        atomic_fetch_add(&k->refs, 1);
    return k;
}

void keyring_unref(struct keyring *k)
{
    if (k == NULL || atomic_fetch_sub(&k->refs, 1) != 1)
        return;
    for (size_t i = 0; i < k->n_tenants; i++)
        tenant_deinit(&k->tenants[i]);
    free(k->tenants);
    free(k->keys);
    free(k);
}

/* --- words --- */

static bool is_name_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool keyring_is_tenant(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > KEYRING_TENANT_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        /* Two underscores end it where it is part of a snapshot's name. */
        bool joins =
            i > 0 && i < len - 1 && (name[i] == '-' || (name[i] == '_' && name[i + 1] != '_'));

        if (!is_name_letter(name[i]) && !joins)
            return false;
    }
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_digest(const char *word, uint8_t ret[SHA256_LEN])
{
    const char *hex = word + sizeof(digest_prefix) - 1;

    if (strncmp(word, digest_prefix, sizeof(digest_prefix) - 1) != 0 ||
        strlen(hex) != 2 * SHA256_LEN)
        return false;
    for (size_t i = 0; i < SHA256_LEN; i++) {
        int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool read_number(const char *text, int64_t *ret)
{
    size_t len = strspn(text, "0123456789");

    if (len == 0 || len > 9 || text[len] != '\0')
        return false;
    *ret = atoll(text);
    return true;
}

static size_t split(char *line, char *words[WORDS_MAX + 1])
{
    char *rest = NULL;
    size_t n = 0;

    line[strcspn(line, "#")] = '\0';
    for (char *w = strtok_r(line, " \t\r", &rest); w != NULL && n <= WORDS_MAX;
         w = strtok_r(NULL, " \t\r", &rest))
        words[n++] = w;
    return n;
}

/* --- lines --- */

struct parser {
    struct keyring *k;
    const struct limits *defaults;
    int line;
    struct status *st;
};

static bool wrong(const struct parser *p, const char *what)
{
    return status_set(p->st, CODE_INVALID_ARGUMENT, 0, "line %d: %s", p->line, what);
}

static size_t find_or_add_tenant(struct parser *p, const char *name)
{
    struct keyring *k = p->k;

    for (size_t i = 0; i < k->n_tenants; i++) {
        if (strcmp(k->tenants[i].name, name) == 0)
            return i;
    }
    k->tenants = xrealloc(k->tenants, (k->n_tenants + 1) * sizeof(k->tenants[0]));
    k->tenants[k->n_tenants] = (struct keyring_tenant){.limits = *p->defaults};
    memcpy(k->tenants[k->n_tenants].name, name, strlen(name) + 1);
    return k->n_tenants++;
}

static bool parse_key(struct parser *p, char **words, size_t n)
{
    struct keyring *k = p->k;
    struct keyring_key key;

    if (n < 3 || n > 4)
        return wrong(p, "a key's line is: key TENANT sha256:HEX [NAME]");
    if (!read_digest(words[2], key.digest))
        return wrong(p, "a key is written as sha256: and 64 small hexadecimal digits, its hash; "
                        "sandboxctl new-key makes such a line");
    for (size_t i = 0; i < k->n_keys; i++) {
        if (memcmp(k->keys[i].digest, key.digest, SHA256_LEN) == 0)
            return wrong(p, "this key stands in the file already");
    }
    if (k->n_keys == KEYRING_KEYS_MAX)
        return wrong(p, "there are more keys than one file can have");
    key.tenant = find_or_add_tenant(p, words[1]);
    k->keys = xrealloc(k->keys, (k->n_keys + 1) * sizeof(k->keys[0]));
    k->keys[k->n_keys++] = key;
    return true;
}

static bool parse_templates(struct parser *p, struct keyring_tenant *t, char *list)
{
    char *rest = NULL;

    if (t->n_templates > 0)
        return wrong(p, "templates= stands here twice");
    t->templates = xcalloc(TEMPLATES_MAX, sizeof(t->templates[0]));
    for (char *name = strtok_r(list, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        if (t->n_templates == TEMPLATES_MAX)
            return wrong(p, "templates= names too many");
        t->templates[t->n_templates++] = xstrdup(name);
    }
    /* An empty list would allow all of them, which nobody means who writes it. */
    return t->n_templates > 0 || wrong(p, "templates= names none; leave it out to allow all");
}

static bool parse_setting(struct parser *p, struct keyring_tenant *t, char *word)
{
    char *value = strchr(word, '=');
    int64_t *to = NULL;

    if (value == NULL)
        return wrong(p, "a tenant's settings are written NAME=VALUE");
    *value++ = '\0';
    if (strcmp(word, "templates") == 0)
        return parse_templates(p, t, value);
    if (strcmp(word, "max-calls") == 0)
        to = &t->limits.calls;
    else if (strcmp(word, "max-streams") == 0)
        to = &t->limits.streams;
    else if (strcmp(word, "creates-per-minute") == 0)
        to = &t->limits.creates_per_minute;
    if (to == NULL)
        return wrong(p, "a tenant's settings are templates, max-calls, max-streams and "
                        "creates-per-minute");
    return read_number(value, to) || wrong(p, "a limit is a number; 0 for none");
}

static bool parse_tenant(struct parser *p, char **words, size_t n)
{
    size_t index = find_or_add_tenant(p, words[1]);
    struct keyring_tenant *t = &p->k->tenants[index];

    if (t->has_line)
        return wrong(p, "this tenant has a line already");
    t->has_line = true;
    for (size_t i = 2; i < n; i++) {
        if (!parse_setting(p, t, words[i]))
            return false;
    }
    return true;
}

static bool parse_line(struct parser *p, char *line)
{
    char *words[WORDS_MAX + 1];
    size_t n = split(line, words);

    if (n == 0)
        return true;
    if (n > WORDS_MAX)
        return wrong(p, "there are too many words");
    if (strcmp(words[0], "key") != 0 && strcmp(words[0], "tenant") != 0)
        return wrong(p, "a line starts with key, tenant or #");
    if (n < 2 || !keyring_is_tenant(words[1]))
        return wrong(p, "a tenant's name has small letters, digits, and single - or _ between "
                        "them, at most 63");
    return words[0][0] == 'k' ? parse_key(p, words, n) : parse_tenant(p, words, n);
}

static bool parse(struct parser *p, const char *text, size_t len)
{
    for (const char *end = text + len; text < end; p->line++) {
        size_t n = strcspn(text, "\n");
        AUTO_FREE char *line = NULL;

        if (n > LINE_MAX)
            return wrong(p, "it is too long");
        line = xstrndup(text, n);
        if (!parse_line(p, line))
            return false;
        text += n + 1;
    }
    /* More likely a file that is being written than the wish to lock everybody out. */
    return p->k->n_keys > 0 || status_set(p->st, CODE_INVALID_ARGUMENT, 0, "there is no key in it");
}

bool keyring_parse(const char *text, size_t len, const struct limits *defaults,
                   struct keyring **ret, struct status *st)
{
    AUTO_FREE char *copy = NULL;
    struct parser p = {.defaults = defaults, .line = 1, .st = st};

    if (memchr(text, '\0', len) != NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "it is no text file");
    copy = xstrndup(text, len);
    p.k = xcalloc(1, sizeof(*p.k));
    atomic_init(&p.k->refs, 1);
    if (!parse(&p, copy, len)) {
        keyring_unref(p.k);
        return false;
    }
    *ret = p.k;
    return true;
}

/* --- finding --- */

/* 0 when they differ, else ~0; without a branch that depends on them. */
static size_t same_mask(const uint8_t *a, const uint8_t *b)
{
    volatile uint8_t differ = 0;

    for (size_t i = 0; i < SHA256_LEN; i++)
        differ |= a[i] ^ b[i];
    return (size_t)0 - ((size_t)(differ - 1) >> (8 * sizeof(size_t) - 1));
}

const struct keyring_tenant *keyring_find(const struct keyring *k, const char *key)
{
    uint8_t digest[SHA256_LEN];
    struct sha256 h;
    size_t found = 0; /* index + 1 */

    if (strlen(key) > KEYRING_KEY_LEN_MAX)
        return NULL;
    sha256_init(&h);
    sha256_update(&h, key, strlen(key));
    sha256_final(&h, digest);
    /* All of them, always. */
    for (size_t i = 0; i < k->n_keys; i++)
        found |= same_mask(k->keys[i].digest, digest) & (i + 1);
    return found != 0 ? &k->tenants[k->keys[found - 1].tenant] : NULL;
}
