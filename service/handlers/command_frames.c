/* See command_frames.h. The frames are field 1 of a ListCommandsResponse, so one unpack reads them.
 */
#include "service/handlers/command_frames.h"

#include "common/base/cleanup.h"
#include "common/base/utf8.h"

#include <string.h>

static bool is_text(const char *s)
{
    return utf8_is_valid((const uint8_t *)s, strlen(s));
}

static bool all_text(char *const *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_text(items[i]))
            return false;
    }
    return true;
}

static bool labels_are_text(const Sandbox__V1__Command *c)
{
    for (size_t i = 0; i < c->n_labels; i++) {
        if (!is_text(c->labels[i]->key) || !is_text(c->labels[i]->value))
            return false;
    }
    return true;
}

static bool is_clean(const Sandbox__V1__Command *c)
{
    return is_text(c->command_id) && is_text(c->cwd) && is_text(c->user) &&
           all_text(c->args, c->n_args) && all_text(c->env_names, c->n_env_names) &&
           labels_are_text(c) && (c->exited == NULL || is_text(c->exited->message));
}

void command_frames_deinit(struct command_frames *f)
{
    for (size_t i = 0; i < f->n_items; i++)
        sandbox__v1__command__free_unpacked(f->items[i], NULL);
    free(f->items);
    *f = (struct command_frames){0};
}

bool command_frames_read(struct command_frames *f, const uint8_t *data, size_t len)
{
    Sandbox__V1__ListCommandsResponse *m =
        sandbox__v1__list_commands_response__unpack(NULL, len, data);

    if (m == NULL)
        return false;
    f->items = TAKE(m->commands);
    f->n_items = m->n_commands;
    m->n_commands = 0;
    sandbox__v1__list_commands_response__free_unpacked(m, NULL);
    for (size_t i = 0; i < f->n_items; i++) {
        if (!is_clean(f->items[i])) {
            command_frames_deinit(f);
            return false;
        }
    }
    return true;
}
