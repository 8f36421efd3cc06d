/*
 * libsandbox in one page: makes a sandbox, writes a program into it, runs it, prints what it prints
 * as it comes, and ends the sandbox.
 *
 *   hello HOST:PORT[,HOST:PORT…]
 *
 * Any of the servers may go away meanwhile: the output goes on where it broke.
 */
#include "client/include/sandbox.h"

#include <stdio.h>
#include <string.h>

static const char program[] = "for i in 1 2 3; do echo \"hello $i\"; sleep 0.1; done; exit 3\n";

static int fail(const char *what, const struct sandbox_error *err)
{
    fprintf(stderr, "%s: %s %s: %s\n", what, sandbox_code_name(err->code), err->reason,
            err->message);
    return 1;
}

static bool print_output(void *user, const Sandbox__V1__CommandEvent *event)
{
    if (event->event_case == SANDBOX__V1__COMMAND_EVENT__EVENT_STDOUT)
        fwrite(event->stdout.data, 1, event->stdout.len, stdout);
    if (event->event_case == SANDBOX__V1__COMMAND_EVENT__EVENT_STDERR)
        fwrite(event->stderr.data, 1, event->stderr.len, stderr);
    return true; /* go on */
}

static void print_resume(void *user, const char *from, const char *to, uint64_t last_seq)
{
    fprintf(stderr, "lost %s behind event %llu, went on at %s\n", from,
            (unsigned long long)last_seq, to);
}

static bool write_program(struct sandbox_client *client, char *id, struct sandbox_error *err)
{
    Sandbox__V1__WriteFilesRequest request = SANDBOX__V1__WRITE_FILES_REQUEST__INIT;
    Sandbox__V1__File file, *files[] = {&file};

    sandbox__v1__file__init(&file);
    file.path = (char *)"hello.sh";
    file.content_case = SANDBOX__V1__FILE__CONTENT_DATA;
    file.data.data = (uint8_t *)program;
    file.data.len = strlen(program);
    request.sandbox_id = id;
    request.files = files;
    request.n_files = 1;
    return sandbox_write_files(client, &request, NULL, err);
}

static bool run_program(struct sandbox_client *client, char *id, struct sandbox_result *result,
                        struct sandbox_error *err)
{
    Sandbox__V1__RunCommandRequest request = SANDBOX__V1__RUN_COMMAND_REQUEST__INIT;
    struct sandbox_handlers handlers = {.on_event = print_output, .on_resume = print_resume};

    request.sandbox_id = id;
    request.command_case = SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_SHELL;
    request.shell = (char *)"bash hello.sh";
    return sandbox_run(client, &request, &handlers, result, err);
}

static int use_sandbox(struct sandbox_client *client, char *id)
{
    Sandbox__V1__DeleteSandboxRequest end = SANDBOX__V1__DELETE_SANDBOX_REQUEST__INIT;
    struct sandbox_result result;
    struct sandbox_error err;
    int code = 0;

    if (!write_program(client, id, &err))
        code = fail("write", &err);
    else if (!run_program(client, id, &result, &err))
        code = fail("run", &err);
    else
        printf("it exited with %d after %llu events\n", result.code,
               (unsigned long long)result.n_events);
    end.sandbox_id = id;
    end.allow_missing = true;
    if (!sandbox_delete(client, &end, NULL, &err))
        code = fail("delete", &err);
    return code;
}

int main(int argc, char **argv)
{
    struct sandbox_client_options options = {.addresses = argc > 1 ? argv[1] : "127.0.0.1:50051"};
    Sandbox__V1__CreateSandboxRequest create = SANDBOX__V1__CREATE_SANDBOX_REQUEST__INIT;
    Sandbox__V1__CreateSandboxResponse *created = NULL;
    struct sandbox_error err;
    struct sandbox_client *client = sandbox_client_new(&options, &err);
    int code;

    if (client == NULL)
        return fail("options", &err);
    if (!sandbox_create(client, &create, &created, &err))
        code = fail("create", &err);
    else
        code = use_sandbox(client, created->sandbox->sandbox_id);
    sandbox_free(created);
    sandbox_client_free(client);
    return code;
}
