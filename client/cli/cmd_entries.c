/* The verbs about files as such, not their content: dir stat mkdir mv remove. */
#include "client/cli/call.h"

#include <stdio.h>

static const char *user = "";

#define USER_OPTION                                                                                \
    {                                                                                              \
        "user", 'u', NULL, OPTION_STRING, &user, "NAME",                                           \
            "Whose home relative paths start from, and who owns what is made. The template's "     \
            "user if not set."                                                                     \
    }

/* As `ls -l` shows it. */
static bool print_entry(const ProtobufCMessage *item)
{
    const Sandbox__V1__FileEntry *e = (const Sandbox__V1__FileEntry *)item;
    static const char kinds[] = "?-dl+";
    static const char bits[] = "rwxrwxrwx";
    char mode[11], when[32];

    mode[0] = (size_t)e->type < sizeof(kinds) - 1 ? kinds[e->type] : '?';
    for (int i = 0; i < 9; i++)
        mode[1 + i] = e->mode & (0400u >> i) ? bits[i] : '-';
    mode[10] = '\0';
    return printf("%s %-8s %-8s %12llu %s %s%s%s\n", mode, e->owner, e->group,
                  (unsigned long long)e->size, cli_time(e->modify_time, when), e->path,
                  e->symlink_target[0] != '\0' ? " -> " : "", e->symlink_target) > 0;
}

/* --- dir --- */

static struct {
    int64_t depth;
} dir = {.depth = 1};

static const struct option dir_options[] = {
    {"depth", 0, NULL, OPTION_INT, &dir.depth, "N", "How many levels (1)."},
    USER_OPTION,
    {NULL},
};

CLI_METHOD(list_directory, ListDirectory)

static int run_dir(struct cli *cli, int n, char **operands)
{
    static const struct cli_list list = {
        .method = call_list_directory, .items = "entries", .print = print_entry};
    Sandbox__V1__ListDirectoryRequest request = SANDBOX__V1__LIST_DIRECTORY_REQUEST__INIT;

    if (dir.depth < 1 || dir.depth > 1000)
        return cli_usage("--depth must be 1 to 1000");
    request.sandbox_id = operands[0];
    request.path = n > 1 ? operands[1] : (char *)"~";
    request.depth = (uint32_t)dir.depth;
    request.user = (char *)user;
    return cli_call_list(cli, &list, &request.base);
}

/* --- the others: one call each --- */

static struct {
    bool follow, sha256;
} stat_how;

static const struct option stat_options[] = {
    {"follow", 'L', NULL, OPTION_BOOL, &stat_how.follow, NULL, "What a link leads to."},
    {"sha256", 0, NULL, OPTION_BOOL, &stat_how.sha256, NULL, "Its digest too, on a line before."},
    USER_OPTION,
    {NULL},
};

CLI_METHOD(stat_file, StatFile)

static bool print_stat(const ProtobufCMessage *response)
{
    const Sandbox__V1__FileEntry *e = ((const Sandbox__V1__StatFileResponse *)response)->entry;

    for (size_t i = 0; i < e->sha256.len; i++)
        printf("%02x%s", e->sha256.data[i], i + 1 == e->sha256.len ? "\n" : "");
    return print_entry(&e->base);
}

static int run_stat(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__StatFileRequest request = SANDBOX__V1__STAT_FILE_REQUEST__INIT;

    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.follow_links = stat_how.follow;
    request.with_sha256 = stat_how.sha256;
    request.user = (char *)user;
    return cli_call(cli, call_stat_file, &request.base, print_stat);
}

static struct {
    bool parents;
    const char *mode;
} make = {.mode = ""};

static const struct option make_options[] = {
    {"parents", 'p', NULL, OPTION_BOOL, &make.parents, NULL,
     "Makes missing parents, and minds no directory that is there."},
    {"mode", 0, NULL, OPTION_STRING, &make.mode, "OCTAL", "Permission bits (755)."},
    USER_OPTION,
    {NULL},
};

CLI_METHOD(make_directory, MakeDirectory)

static int run_mkdir(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__MakeDirectoryRequest request = SANDBOX__V1__MAKE_DIRECTORY_REQUEST__INIT;

    if (!cli_mode(make.mode, &request.mode))
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.parents = make.parents;
    request.allow_existing = make.parents;
    request.user = (char *)user;
    return cli_call(cli, call_make_directory, &request.base, NULL);
}

static struct {
    bool overwrite, parents;
} move;

static const struct option move_options[] = {
    {"overwrite", 'f', NULL, OPTION_BOOL, &move.overwrite, NULL, "Replaces what is at TO."},
    {"parents", 'p', NULL, OPTION_BOOL, &move.parents, NULL, "Makes missing parents of TO."},
    USER_OPTION,
    {NULL},
};

CLI_METHOD(move_file, MoveFile)

static int run_mv(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__MoveFileRequest request = SANDBOX__V1__MOVE_FILE_REQUEST__INIT;

    request.sandbox_id = operands[0];
    request.source = operands[1];
    request.destination = operands[2];
    request.overwrite = move.overwrite;
    request.parents = move.parents;
    request.user = (char *)user;
    return cli_call(cli, call_move_file, &request.base, NULL);
}

static struct {
    bool recursive, force;
} removal;

static const struct option remove_options[] = {
    {"recursive", 'r', NULL, OPTION_BOOL, &removal.recursive, NULL,
     "A directory with all it holds."},
    {"force", 'f', NULL, OPTION_BOOL, &removal.force, NULL, "What is missing is no error."},
    USER_OPTION,
    {NULL},
};

CLI_METHOD(remove_file, RemoveFile)

static int run_remove(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__RemoveFileRequest request = SANDBOX__V1__REMOVE_FILE_REQUEST__INIT;

    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.recursive = removal.recursive;
    request.allow_missing = removal.force;
    request.user = (char *)user;
    return cli_call(cli, call_remove_file, &request.base, NULL);
}

const struct verb entry_verbs[] = {
    {"dir", "ID [PATH]", "list a directory of a sandbox (its user's home)", dir_options, NULL, 1, 2,
     run_dir},
    {"stat", "ID PATH", "tell about a file of a sandbox", stat_options, NULL, 2, 2, run_stat},
    {"mkdir", "ID PATH", "make a directory in a sandbox", make_options, NULL, 2, 2, run_mkdir},
    {"mv", "ID FROM TO", "move a file or directory of a sandbox", move_options, NULL, 3, 3, run_mv},
    {"remove", "ID PATH", "remove a file or directory of a sandbox", remove_options, NULL, 2, 2,
     run_remove},
    {NULL},
};
