/* See call.h. Messages are handled through their descriptors, so no verb is known here. */
#include "client/cli/call.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NULL: nothing was said. */
static bool print_as_asked(const struct cli *cli, const ProtobufCMessage *message,
                           cli_printer *print)
{
    if (message == NULL)
        return true;
    if (cli->json)
        return cli_print_json(message);
    return print == NULL || print(message);
}

static int cannot_write(void)
{
    return cli_say(EXIT_LOCAL, "cannot write the output: %s", strerror(errno));
}

int cli_call(const struct cli *cli, cli_method *method, const ProtobufCMessage *request,
             cli_printer *print)
{
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    ProtobufCMessage *response;
    struct sandbox_error err;
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    if (!method(client, request, &response, &err))
        code = cli_fail(cli, &err);
    else if (!print_as_asked(cli, response, print))
        code = cannot_write();
    sandbox_free(response);
    sandbox_client_free(client);
    return code;
}

static int call_quietly(const struct cli *cli, struct sandbox_client *client, cli_method *method,
                        const ProtobufCMessage *request)
{
    ProtobufCMessage *response;
    struct sandbox_error err;
    int code = method(client, request, &response, &err) ? 0 : cli_fail(cli, &err);

    sandbox_free(response);
    return code;
}

int cli_call_quietly(const struct cli *cli, cli_method *method, const ProtobufCMessage *request)
{
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code = client != NULL ? call_quietly(cli, client, method, request) : EXIT_USAGE;

    sandbox_client_free(client);
    return code;
}

int cli_call_each(const struct cli *cli, cli_method *method, const ProtobufCMessage *request,
                  char **field, int n, char **operands)
{
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    for (int i = 0; i < n; i++) {
        int one;

        *field = operands[i];
        one = call_quietly(cli, client, method, request);
        code = one != 0 ? one : code;
    }
    sandbox_client_free(client);
    return code;
}

static bool print_items(const struct cli *cli, const struct cli_list *list,
                        const ProtobufCMessage *page)
{
    size_t *n;
    ProtobufCMessage ***items = cli_field(page, list->items, &n);

    for (size_t i = 0; i < *n; i++) {
        if (!print_as_asked(cli, (*items)[i], list->print))
            return false;
    }
    return true;
}

static int list_pages(const struct cli *cli, struct sandbox_client *client,
                      const struct cli_list *list, ProtobufCMessage *request)
{
    AUTO_FREE char *token = NULL;

    for (;;) {
        ProtobufCMessage *page;
        struct sandbox_error err;
        bool printed;

        if (!list->method(client, request, &page, &err))
            return cli_fail(cli, &err);
        printed = print_items(cli, list, page);
        free(token);
        token = xstrdup(*(char **)cli_field(page, "next_page_token", NULL));
        sandbox_free(page);
        if (!printed)
            return cannot_write();
        if (*token == '\0')
            return 0;
        *(char **)cli_field(request, "page_token", NULL) = token;
    }
}

int cli_call_list(const struct cli *cli, const struct cli_list *list, ProtobufCMessage *request)
{
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code;

    if (client == NULL)
        return EXIT_USAGE;
    if (!cli->json && list->heading != NULL)
        list->heading();
    code = list_pages(cli, client, list, request);
    sandbox_client_free(client);
    return code;
}
