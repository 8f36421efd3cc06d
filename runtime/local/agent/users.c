/* See users.h. The files belong to the sandbox's root: they are read with caps, and may be
 * malformed. */
#include "runtime/local/agent/users.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_SIZE = 4096, LINES_MAX = 10000 };

/* Copies the field that *line starts with and moves behind its colon. False: too long, or no colon.
 */
static bool take_field(const char **line, char *to, size_t size)
{
    size_t len = strcspn(*line, ":");

    if ((*line)[len] != ':' || len >= size)
        return false;
    memcpy(to, *line, len);
    to[len] = '\0';
    *line += len + 1;
    return true;
}

static bool take_id(const char **line, id_t *ret)
{
    char text[12], *end;
    unsigned long value;

    if (!take_field(line, text, sizeof(text)) || *text < '0' || *text > '9')
        return false;
    value = strtoul(text, &end, 10);
    if (*end || value >= UINT32_MAX)
        return false;
    *ret = (id_t)value;
    return true;
}

/* name:password:uid:gid:comment:home:shell */
bool user_parse_line(const char *line, struct user *ret)
{
    char skipped[LINE_SIZE];

    return take_field(&line, ret->name, sizeof(ret->name)) && *ret->name &&
           take_field(&line, skipped, sizeof(skipped)) && take_id(&line, &ret->uid) &&
           take_id(&line, &ret->gid) && take_field(&line, skipped, sizeof(skipped)) &&
           take_field(&line, ret->home, sizeof(ret->home));
}

/* name:password:gid:member,member */
bool group_parse_line(const char *line, struct group_line *ret)
{
    char skipped[LINE_SIZE];

    if (!take_field(&line, ret->name, sizeof(ret->name)) || !*ret->name ||
        !take_field(&line, skipped, sizeof(skipped)) || !take_id(&line, &ret->gid))
        return false;
    ret->members = line;
    return true;
}

/* Calls each line until it says true; whether one did. */
static bool scan(const char *path, bool (*each)(const char *line, void *ctx), void *ctx)
{
    FILE *file = fopen(path, "re");
    char line[LINE_SIZE];
    bool found = false;

    if (!file)
        return false;
    for (int n = 0; !found && n < LINES_MAX && fgets(line, sizeof(line), file); n++) {
        line[strcspn(line, "\n")] = '\0';
        found = each(line, ctx);
    }
    fclose(file);
    return found;
}

struct user_search {
    const char *name; /* NULL: by uid */
    uid_t uid;
    struct user found;
};

static bool is_user(const char *line, void *ctx)
{
    struct user_search *search = ctx;

    if (!user_parse_line(line, &search->found))
        return false;
    return search->name ? strcmp(search->found.name, search->name) == 0
                        : search->found.uid == search->uid;
}

bool user_find(const char *name, struct user *ret)
{
    struct user_search search = {.name = name};

    if (!scan("/etc/passwd", is_user, &search))
        return false;
    *ret = search.found;
    return true;
}

void user_name_of(uid_t uid, char to[USER_NAME_MAX])
{
    struct user_search search = {.uid = uid};

    if (scan("/etc/passwd", is_user, &search))
        memcpy(to, search.found.name, USER_NAME_MAX);
    else
        snprintf(to, USER_NAME_MAX, "%u", uid);
}

struct group_search {
    gid_t gid;
    const char *member; /* NULL: by gid */
    struct group_line found;
    gid_t *groups;
    size_t n;
};

static bool is_group(const char *line, void *ctx)
{
    struct group_search *search = ctx;

    return group_parse_line(line, &search->found) && search->found.gid == search->gid;
}

void group_name_of(gid_t gid, char to[USER_NAME_MAX])
{
    struct group_search search = {.gid = gid};

    if (scan("/etc/group", is_group, &search))
        memcpy(to, search.found.name, USER_NAME_MAX);
    else
        snprintf(to, USER_NAME_MAX, "%u", gid);
}

static bool add_membership(const char *line, void *ctx)
{
    struct group_search *search = ctx;
    size_t len = strlen(search->member);

    if (!group_parse_line(line, &search->found) || search->found.gid == search->groups[0])
        return false;
    for (const char *at = search->found.members; *at; at += *at == ',') {
        size_t n = strcspn(at, ",");

        if (n == len && memcmp(at, search->member, n) == 0) {
            search->groups[search->n++] = search->found.gid;
            break;
        }
        at += n;
    }
    return search->n == USER_GROUPS_MAX;
}

size_t user_groups(const struct user *user, gid_t groups[USER_GROUPS_MAX])
{
    struct group_search search = {.member = user->name, .groups = groups, .n = 1};

    groups[0] = user->gid;
    scan("/etc/group", add_membership, &search);
    return search.n;
}
