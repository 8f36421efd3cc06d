/* See config.h. Called once, by main. The text comes from the daemon and is trusted. */
#include "runtime/local/agent/config.h"

#include "common/base/mem.h"
#include "runtime/local/agent/access.h"
#include "runtime/local/agent/handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void set(struct config *c, const char *key, const char *value)
{
    if (strcmp(key, "id") == 0)
        c->id = value;
    else if (strcmp(key, "template") == 0)
        c->template_id = value;
    else if (strcmp(key, "start") == 0)
        c->start = value;
    else if (strcmp(key, "ready") == 0)
        c->ready = value;
    else if (strcmp(key, "token") == 0)
        config_set(&c->token, value);
    else if (strcmp(key, "user") == 0)
        config_set(&c->user, value);
    else if (strcmp(key, "workdir") == 0)
        config_set(&c->workdir, value);
    else if (strcmp(key, "uids") == 0)
        c->single_user = strcmp(value, "single") == 0;
    else if (strcmp(key, "disk") == 0)
        c->disk_bytes = strtoll(value, NULL, 10);
    else if (strcmp(key, "memory") == 0)
        c->memory_bytes = strtoll(value, NULL, 10);
}

bool config_parse(struct config *c, char *text, size_t len, struct status *st)
{
    *c = (struct config){.id = "",
                         .template_id = "",
                         .user = xstrdup(AGENT_USER),
                         .workdir = xstrdup(""),
                         .text = text};
    if (len == 0 || text[len - 1] != '\0')
        return status_set(st, CODE_INTERNAL, 0, "the configuration is cut");
    for (char *record = text; record < text + len; record += strlen(record) + 1) {
        bool is_env = strncmp(record, "env:", 4) == 0;
        char *name = is_env ? record + 4 : record;
        char *value = strchr(name, '=');

        if (!value)
            return status_set(st, CODE_INTERNAL, 0, "the configuration has a record without '='");
        *value = '\0';
        record = value + 1;
        if (is_env)
            config_add_env(c, name, record);
        else
            set(c, name, record);
    }
    return true;
}

bool config_read(struct config *c, int fd, struct status *st)
{
    struct stat info;
    char *text;

    *c = (struct config){0};
    if (fstat(fd, &info) < 0 || info.st_size <= 0 || info.st_size > AGENT_CONFIG_MAX)
        return status_set(st, CODE_INTERNAL, 0, "there is no configuration");
    text = xmalloc((size_t)info.st_size);
    if (pread(fd, text, (size_t)info.st_size, 0) != info.st_size) {
        free(text);
        return status_set(st, CODE_INTERNAL, 0, "the configuration cannot be read: %s",
                          strerror(errno));
    }
    return config_parse(c, text, (size_t)info.st_size, st);
}

void config_deinit(struct config *c)
{
    config_clear_envs(c);
    free(c->token);
    free(c->user);
    free(c->workdir);
    free(c->text);
    *c = (struct config){0};
}

void config_set(char **setting, const char *value)
{
    char *copy = xstrdup(value);

    free(*setting);
    *setting = copy;
}

void config_clear_envs(struct config *c)
{
    for (size_t i = 0; i < c->n_envs; i++)
        free(c->envs[i]);
    free(c->envs);
    c->envs = NULL;
    c->n_envs = 0;
}

void config_add_env(struct config *c, const char *name, const char *value)
{
    c->envs = xrealloc(c->envs, (c->n_envs + 1) * sizeof(*c->envs));
    c->envs[c->n_envs++] = xasprintf("%s=%s", name, value);
}

bool config_has_token(const struct config *c, const char *given)
{
    return access_is_same(c->token, given);
}
