/* See options.h. By hand: the options of a command behind ours must stay where they are. */
#include "runtime/local/sudo/options.h"

#include <stdio.h>
#include <string.h>

/* What an option without an argument does. */
enum effect {
    IGNORED,
    KEEPS_ALL,
    SETS_HOME,
    LOGIN,
    SHELL,
    BACKGROUND,
    LIST,
    NOTHING,
    HELP,
    VERSION,
    /* With an argument. */
    TAKES_USER,
    TAKES_GROUP,
    TAKES_DIRECTORY,
    TAKES_KEPT,
    TAKES_IGNORED,
    REFUSED,
};

static const struct option {
    char letter; /* 0: none */
    const char *name;
    enum effect effect;
} options[] = {
    {'A', "askpass", IGNORED},
    {'b', "background", BACKGROUND},
    {'B', "bell", IGNORED},
    {'C', "close-from", TAKES_IGNORED},
    {'D', "chdir", TAKES_DIRECTORY},
    {'E', NULL, KEEPS_ALL},
    {'e', "edit", REFUSED},
    {'g', "group", TAKES_GROUP},
    {'H', "set-home", SETS_HOME},
    {'h', "help", HELP},
    {'i', "login", LOGIN},
    {'K', "remove-timestamp", NOTHING},
    {'k', "reset-timestamp", NOTHING},
    {'l', "list", LIST},
    {'N', "no-update", IGNORED},
    {'n', "non-interactive", IGNORED},
    {'P', "preserve-groups", IGNORED},
    {'p', "prompt", TAKES_IGNORED},
    {'R', "chroot", REFUSED},
    {'S', "stdin", IGNORED},
    {'s', "shell", SHELL},
    {'T', "command-timeout", TAKES_IGNORED},
    {'U', "other-user", TAKES_IGNORED},
    {'u', "user", TAKES_USER},
    {'V', "version", VERSION},
    {'v', "validate", NOTHING},
    {0, "preserve-env", KEEPS_ALL},
};

static bool takes_argument(enum effect effect)
{
    return effect >= TAKES_USER && effect <= TAKES_IGNORED;
}

static void complain(struct sudo_options *o, const char *why, const char *dashes, const char *what)
{
    o->mode = SUDO_BAD;
    snprintf(o->complaint, sizeof o->complaint, "%s%s%.64s", why, dashes, what);
}

static void apply(struct sudo_options *o, const struct option *option, const char *argument)
{
    switch (option->effect) {
    case KEEPS_ALL:
        o->keeps_all = true;
        break;
    case SETS_HOME:
        o->sets_home = true;
        break;
    case LOGIN:
        o->login = true;
        break;
    case SHELL:
        o->shell = true;
        break;
    case BACKGROUND:
        o->background = true;
        break;
    case LIST:
        o->mode = SUDO_LIST;
        break;
    case NOTHING:
        o->mode = SUDO_NOTHING;
        break;
    case HELP:
        o->mode = SUDO_HELP;
        break;
    case VERSION:
        o->mode = SUDO_VERSION;
        break;
    case TAKES_USER:
        o->user = argument;
        break;
    case TAKES_GROUP:
        o->group = argument;
        break;
    case TAKES_DIRECTORY:
        o->directory = argument;
        break;
    case TAKES_KEPT:
        o->kept = argument;
        break;
    case REFUSED:
        complain(o, "this sudo has no option ", "--", option->name);
        break;
    case IGNORED:
    case TAKES_IGNORED:
        break;
    }
}

static const struct option *find_letter(char letter)
{
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].letter == letter)
            return &options[i];
    return NULL;
}

static const struct option *find_name(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].name && strlen(options[i].name) == len &&
            memcmp(options[i].name, name, len) == 0)
            return &options[i];
    return NULL;
}

/* Whether it was one with an equals sign that only exists so. */
static bool parse_kept(struct sudo_options *o, const char *word)
{
    static const char prefix[] = "preserve-env=";

    if (strncmp(word, prefix, sizeof prefix - 1) != 0)
        return false;
    o->kept = word + sizeof prefix - 1;
    return true;
}

/* Behind the two dashes. *at moves over an argument that is a word of its own. */
static void parse_long(struct sudo_options *o, char **argv, int *at)
{
    const char *word = argv[*at] + 2;
    size_t len = strcspn(word, "=");
    const struct option *option = find_name(word, len);
    const char *argument = word[len] ? word + len + 1 : NULL;

    if (parse_kept(o, word))
        return;
    if (!option || (argument && !takes_argument(option->effect)))
        complain(o, "there is no option ", "--", word);
    else if (takes_argument(option->effect) && !argument && !(argument = argv[++*at]))
        complain(o, "an argument is missing behind ", "--", word);
    else
        apply(o, option, argument);
}

/* A run of letters, of which the last may take the rest or the next word. */
static void parse_letters(struct sudo_options *o, char **argv, int *at)
{
    for (const char *letter = argv[*at] + 1; *letter && o->mode != SUDO_BAD; letter++) {
        const struct option *option = find_letter(*letter);
        const char *argument = NULL;

        if (!option) {
            complain(o, "there is no option ", "-", (char[]){*letter, 0});
            return;
        }
        if (takes_argument(option->effect)) {
            argument = letter[1] ? letter + 1 : argv[++*at];
            if (!argument)
                complain(o, "an argument is missing behind ", "-", (char[]){*letter, 0});
            else
                apply(o, option, argument);
            return;
        }
        apply(o, option, NULL);
    }
}

static bool is_assignment(const char *word)
{
    const char *equals = strchr(word, '=');

    return *word != '-' && equals && equals > word && !memchr(word, '/', (size_t)(equals - word));
}

void sudo_options_parse(struct sudo_options *ret, int argc, char **argv)
{
    int at = 1;

    *ret = (struct sudo_options){.mode = SUDO_RUN};
    for (; at < argc && argv[at][0] == '-' && argv[at][1] && ret->mode != SUDO_BAD; at++) {
        if (strcmp(argv[at], "--") == 0) {
            at++;
            break;
        }
        if (argv[at][1] == '-')
            parse_long(ret, argv, &at);
        else
            parse_letters(ret, argv, &at);
    }
    if (ret->mode == SUDO_BAD)
        return;
    ret->assigned = argv + at;
    while (at < argc && is_assignment(argv[at]))
        at++, ret->n_assigned++;
    ret->command = argv + at;
    if (at < argc && ret->mode == SUDO_NOTHING)
        ret->mode = SUDO_RUN;
    if (at == argc && ret->mode == SUDO_RUN && !ret->login && !ret->shell)
        complain(ret, "what is to be run?", "", "");
    else if (ret->login && ret->shell)
        complain(ret, "-i and -s exclude each other", "", "");
}
