/* The verbs about files as such, not their content: dir stat mkdir mv remove. */
#include "client/cli/cli.h"

#include "common/base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *user = "";

#define USER_OPTION                                                                                \
    {                                                                                              \
        "user", 'u', NULL, OPTION_STRING, &user, "NAME",                                           \
            "Whose home relative paths start from, and who owns what is made. The template's "     \
            "user "                                                                                \
            "if not set."                                                                          \
    }

/* As `ls -l` shows it. */
static void print_entry(const Sandbox__V1__FileEntry *e)
{
    static const char kinds[] = "?-dl+";
    static const char bits[] = "rwxrwxrwx";
    char mode[11], when[32];

    mode[0] = (size_t)e->type < sizeof(kinds) - 1 ? kinds[e->type] : '?';
    for (int i = 0; i < 9; i++)
        mode[1 + i] = e->mode & (0400u >> i) ? bits[i] : '-';
    mode[10] = '\0';
    printf("%s %-8s %-8s %12llu %s %s%s%s\n", mode, e->owner, e->group, (unsigned long long)e->size,
           cli_time(e->modify_time, when), e->path, e->symlink_target[0] != '\0' ? " -> " : "",
           e->symlink_target);
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

static int print_pages(const struct cli *cli, struct sandbox_client *client,
                       Sandbox__V1__ListDirectoryRequest *request)
{
    AUTO_FREE char *token = NULL;

    for (;;) {
        Sandbox__V1__ListDirectoryResponse *page;
        struct sandbox_error err;

        if (!sandbox_list_directory(client, request, &page, &err))
            return cli_fail(cli, &err);
        for (size_t i = 0; i < page->n_entries; i++) {
            if (cli->json)
                cli_print_json(&page->entries[i]->base);
            else
                print_entry(page->entries[i]);
        }
        free(token);
        token = strdup(page->next_page_token);
        sandbox_free(page);
        if (token == NULL)
            abort();
        if (token[0] == '\0')
            return 0;
        request->page_token = token;
    }
}

static int run_dir(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__ListDirectoryRequest request = SANDBOX__V1__LIST_DIRECTORY_REQUEST__INIT;
    struct sandbox_client *client;
    int code;

    if (dir.depth < 1 || dir.depth > 1000)
        return cli_usage("--depth must be 1 or more");
    client = cli_connect(cli, cli->addresses);
    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.path = n > 1 ? operands[1] : (char *)"~";
    request.depth = (uint32_t)dir.depth;
    request.user = (char *)user;
    code = print_pages(cli, client, &request);
    sandbox_client_free(client);
    return code;
}

/* --- the others: one call each --- */

/* Prints the outcome and gives everything back. entry: what there is to show as text; may be NULL.
 */
static int finish(const struct cli *cli, struct sandbox_client *client, bool ok,
                  ProtobufCMessage *response, const Sandbox__V1__FileEntry *entry,
                  const struct sandbox_error *err)
{
    int code = 0;

    if (!ok)
        code = cli_fail(cli, err);
    else if (cli->json)
        cli_print_json(response);
    else if (entry != NULL)
        print_entry(entry);
    sandbox_free(response);
    sandbox_client_free(client);
    return code;
}

static struct {
    bool follow, sha256;
} stat_how;

static const struct option stat_options[] = {
    {"follow", 'L', NULL, OPTION_BOOL, &stat_how.follow, NULL, "What a link leads to."},
    {"sha256", 0, NULL, OPTION_BOOL, &stat_how.sha256, NULL, "Its digest too, on a line before."},
    USER_OPTION,
    {NULL},
};

static int run_stat(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__StatFileRequest request = SANDBOX__V1__STAT_FILE_REQUEST__INIT;
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    Sandbox__V1__StatFileResponse *response = NULL;
    struct sandbox_error err;
    bool ok;

    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.follow_links = stat_how.follow;
    request.with_sha256 = stat_how.sha256;
    request.user = (char *)user;
    ok = sandbox_stat_file(client, &request, &response, &err);
    for (size_t i = 0; ok && !cli->json && i < response->entry->sha256.len; i++)
        printf("%02x%s", response->entry->sha256.data[i],
               i + 1 == response->entry->sha256.len ? "\n" : "");
    return finish(cli, client, ok, (ProtobufCMessage *)response, ok ? response->entry : NULL, &err);
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

static int run_mkdir(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__MakeDirectoryRequest request = SANDBOX__V1__MAKE_DIRECTORY_REQUEST__INIT;
    struct sandbox_client *client;
    struct sandbox_error err;
    Sandbox__V1__MakeDirectoryResponse *response = NULL;
    char *end;
    bool ok;

    request.mode = (uint32_t)strtoul(make.mode, &end, 8);
    if (*end != '\0')
        return cli_usage("--mode: %s is not an octal mode such as 755", make.mode);
    client = cli_connect(cli, cli->addresses);
    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.parents = make.parents;
    request.allow_existing = make.parents;
    request.user = (char *)user;
    ok = sandbox_make_directory(client, &request, &response, &err);
    return finish(cli, client, ok, (ProtobufCMessage *)response, NULL, &err);
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

static int run_mv(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__MoveFileRequest request = SANDBOX__V1__MOVE_FILE_REQUEST__INIT;
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    Sandbox__V1__MoveFileResponse *response = NULL;
    struct sandbox_error err;
    bool ok;

    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.source = operands[1];
    request.destination = operands[2];
    request.overwrite = move.overwrite;
    request.parents = move.parents;
    request.user = (char *)user;
    ok = sandbox_move_file(client, &request, &response, &err);
    return finish(cli, client, ok, (ProtobufCMessage *)response, NULL, &err);
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

static int run_remove(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__RemoveFileRequest request = SANDBOX__V1__REMOVE_FILE_REQUEST__INIT;
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    Sandbox__V1__RemoveFileResponse *response = NULL;
    struct sandbox_error err;
    bool ok;

    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.recursive = removal.recursive;
    request.allow_missing = removal.force;
    request.user = (char *)user;
    ok = sandbox_remove_file(client, &request, &response, &err);
    return finish(cli, client, ok, (ProtobufCMessage *)response, NULL, &err);
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
