/* See defaults.h. The file has two lines: user, directory. Only root can write to where it is. */
#include "runtime/recorder/defaults.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"

#include <string.h>

static const char file_name[] = "defaults";

enum { FILE_MAX = 8192 };

static bool is_line(const char *text)
{
    return text[0] != '\0' && strchr(text, '\n') == NULL;
}

bool defaults_write(const struct state *s, const char *user, const char *cwd, struct status *st)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(FILE_MAX);

    if (!is_line(user) || !is_line(cwd) || cwd[0] != '/' ||
        !buf_printf(&text, "%s\n%s\n", user, cwd))
        return fault(st, RECORDER_USAGE,
                     "--default-user and --default-cwd are one line each, and the second is "
                     "an absolute path");
    if (!file_write(s->dir, file_name, buf_data(&text), buf_len(&text)))
        return fault_errno(st, "the defaults cannot be kept");
    return true;
}

/* Replaces *field by the line at the front of *text when it is empty. */
static void take_line(struct buf *text, char **field)
{
    const char *line = (const char *)buf_data(text);
    const char *end = memchr(line, '\n', buf_len(text));
    size_t len = end != NULL ? (size_t)(end - line) : 0;

    if (len > 0 && (*field)[0] == '\0') {
        free(*field);
        *field = string_of(line, len);
    }
    if (end != NULL)
        buf_consume(text, len + 1);
}

void defaults_apply(const struct state *s, struct command_spec *spec)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(FILE_MAX);

    if (!s->protected || !file_read(s->dir, file_name, &text) || buf_len(&text) == 0)
        return;
    take_line(&text, &spec->meta.user);
    if (buf_len(&text) > 0)
        take_line(&text, &spec->meta.cwd);
}

char *defaults_user(const struct state *s)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(FILE_MAX);
    char *user = string_of("", 0);

    if (s->protected && file_read(s->dir, file_name, &text) && buf_len(&text) > 0)
        take_line(&text, &user);
    if (user[0] != '\0')
        return user;
    free(user);
    return NULL;
}
