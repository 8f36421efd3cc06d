/* The verb about sandboxd itself: health. Asks every address, not the first that answers. */
#include "client/cli/cli.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "grpc/health/v1/health.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_health(const struct cli *cli, const char *address, const char *status,
                         const char *message)
{
    AUTO(buf_deinit) struct buf line = BUF_INIT(1 << 16);

    if (!cli->json) {
        printf("%-32s %s%s%s\n", address, status, message[0] != '\0' ? ": " : "", message);
        return;
    }
    buf_append_str(&line, "{\"address\":");
    cli_json_string(&line, address);
    buf_printf(&line, ",\"status\":\"%s\"", status);
    if (message[0] != '\0') {
        buf_append_str(&line, ",\"message\":");
        cli_json_string(&line, message);
    }
    buf_append_str(&line, "}\n");
    fd_write_all(STDOUT_FILENO, buf_data(&line), buf_len(&line));
}

static int check(const struct cli *cli, const char *address)
{
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct cli quick = *cli;
    struct sandbox_error err;
    ProtobufCMessage *response;
    int code = EXIT_RPC;

    if (quick.call_timeout_ms == 0)
        quick.call_timeout_ms = 5000;

    struct sandbox_client *client = cli_connect(&quick, address);

    if (client == NULL)
        return EXIT_USAGE;
    if (!sandbox_call(client, &grpc__health__v1__health__descriptor, "Check", &request.base, false,
                      &response, &err)) {
        print_health(cli, address, sandbox_code_name(err.code), err.message);
    } else {
        int status = ((Grpc__Health__V1__HealthCheckResponse *)response)->status;
        char room[32];

        if (status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
            code = 0;
        print_health(cli, address,
                     cli_enum(&grpc__health__v1__health_check_response__serving_status__descriptor,
                              status, "", room),
                     "");
    }
    sandbox_free(response);
    sandbox_client_free(client);
    return code;
}

static int run_health(struct cli *cli, int n, char **operands)
{
    AUTO_FREE char *addresses = xstrdup(cli->addresses);
    char *rest = NULL;
    int code = 0;

    for (char *a = strtok_r(addresses, ",", &rest); a != NULL; a = strtok_r(NULL, ",", &rest)) {
        int one = check(cli, a);

        code = code == 0 ? one : code;
    }
    return code;
}

const struct verb health_verbs[] = {
    {"health", "", "ask every address whether it serves", NULL,
     "Exits with 0 when all of them do.\n", 0, 0, run_health},
    {NULL},
};
