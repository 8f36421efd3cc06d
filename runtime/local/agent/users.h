/*
 * The sandbox's users and groups, read from /etc/passwd and /etc/group by hand: the C library's own
 * functions load plug-ins, which a static program cannot.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { USER_NAME_MAX = 64, USER_HOME_MAX = 256, USER_GROUPS_MAX = 64 };

struct user {
    char name[USER_NAME_MAX];
    char home[USER_HOME_MAX];
    uid_t uid;
    gid_t gid;
};

/* False: there is no user of that name. */
bool user_find(const char *name, struct user *ret);

/* The groups of a user, its own first; at most USER_GROUPS_MAX. */
size_t user_groups(const struct user *user, gid_t groups[USER_GROUPS_MAX]);

/* The name, or the number as text where there is none. */
void user_name_of(uid_t uid, char to[USER_NAME_MAX]);
void group_name_of(gid_t gid, char to[USER_NAME_MAX]);

/* The parsers of one line each, without their newline; pure. False: it is malformed. */
bool user_parse_line(const char *line, struct user *ret);
struct group_line {
    char name[USER_NAME_MAX];
    gid_t gid;
    const char *members; /* in the line, separated by commas */
};
bool group_parse_line(const char *line, struct group_line *ret);
