/* What gRPC core tells of itself, as the JSON it writes. Any thread. */
#include "service/rpc/server.h"

#include <grpc/grpc.h>
#include <grpc/support/alloc.h>
#include <stdlib.h>
#include <string.h>

enum { SOCKETS_MAX = 500 };

char *rpc_channelz(const char *kind, long number)
{
    char *json, *copy;

    if (strcmp(kind, "server") == 0)
        json = grpc_channelz_get_server_sockets(number, 0, SOCKETS_MAX);
    else if (strcmp(kind, "socket") == 0)
        json = grpc_channelz_get_socket(number);
    else
        json = grpc_channelz_get_servers(0);
    copy = json != NULL ? strdup(json) : NULL;
    gpr_free(json);
    return copy;
}
