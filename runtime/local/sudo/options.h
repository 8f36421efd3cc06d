/* The command line of sudo, as far as it means something where nobody is asked for a password. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum sudo_mode {
    SUDO_RUN,
    SUDO_LIST,    /* -l, --list: say what is allowed */
    SUDO_NOTHING, /* -v, -k, -K without a command: there is no password to remember or forget */
    SUDO_HELP,
    SUDO_VERSION,
    SUDO_BAD, /* complaint says why */
};

struct sudo_options {
    enum sudo_mode mode;
    const char *user;      /* NULL: root. A name, or "#" and a number */
    const char *group;     /* NULL: the user's. Likewise */
    const char *directory; /* NULL: the current one */
    const char *kept;      /* names of variables to keep, separated by commas; NULL: none */
    bool keeps_all;        /* -E */
    bool sets_home;        /* -H; as is done anyway */
    bool login;            /* -i */
    bool shell;            /* -s */
    bool background;       /* -b */
    char **assigned;       /* NAME=value in front of the command; of argv */
    size_t n_assigned;
    char **command; /* of argv, ends with NULL; may be empty with login or shell */
    char complaint[128];
};

/* Pure: everything it returns points into argv. */
void sudo_options_parse(struct sudo_options *ret, int argc, char **argv);
