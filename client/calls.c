/* The unary methods of sandbox.v1.SandboxService by name, each on the caller's thread. */
#include "client/client.h"
#include "client/unary.h"

static const ProtobufCServiceDescriptor *const service = &sandbox__v1__sandbox_service__descriptor;

bool sandbox_call(struct sandbox_client *client, const ProtobufCServiceDescriptor *of,
                  const char *method, const ProtobufCMessage *request, bool repeatable,
                  ProtobufCMessage **ret, struct sandbox_error *err)
{
    return unary_call(client, of, method, request, repeatable ? UNARY_AGAIN : UNARY_ONCE,
                      client->call_timeout_ms, ret, err);
}

#define UNARY(function, Method, repeat)                                                            \
    bool function(struct sandbox_client *client, const Sandbox__V1__##Method##Request *request,    \
                  Sandbox__V1__##Method##Response **ret, struct sandbox_error *err)                \
    {                                                                                              \
        ProtobufCMessage *response = NULL;                                                         \
        bool ok = unary_call(client, service, #Method, &request->base, repeat,                     \
                             client->call_timeout_ms, ret != NULL ? &response : NULL, err);        \
                                                                                                   \
        if (ret != NULL)                                                                           \
            *ret = (Sandbox__V1__##Method##Response *)response;                                    \
        return ok;                                                                                 \
    }

UNARY(sandbox_get, GetSandbox, UNARY_QUICK)
UNARY(sandbox_list, ListSandboxes, UNARY_QUICK)
UNARY(sandbox_delete, DeleteSandbox, UNARY_AGAIN)
UNARY(sandbox_set_timeout, SetSandboxTimeout, UNARY_QUICK)
UNARY(sandbox_keep_alive, KeepAlive, UNARY_QUICK)
UNARY(sandbox_pause, PauseSandbox, UNARY_AGAIN)
UNARY(sandbox_resume, ResumeSandbox, UNARY_AGAIN)
UNARY(sandbox_update, UpdateSandbox, UNARY_QUICK)
UNARY(sandbox_get_metrics, GetSandboxMetrics, UNARY_QUICK)
UNARY(sandbox_purge, PurgeSandboxes, UNARY_AGAIN)
UNARY(sandbox_create_snapshot, CreateSnapshot, UNARY_ONCE)
UNARY(sandbox_list_snapshots, ListSnapshots, UNARY_QUICK)
UNARY(sandbox_delete_snapshot, DeleteSnapshot, UNARY_AGAIN)
UNARY(sandbox_fork, ForkSandbox, UNARY_ONCE)
UNARY(sandbox_get_capabilities, GetCapabilities, UNARY_QUICK)
UNARY(sandbox_list_ports, ListPorts, UNARY_AGAIN)
UNARY(sandbox_get_url, GetSandboxUrl, UNARY_AGAIN)
UNARY(sandbox_read_file, ReadFile, UNARY_AGAIN)
UNARY(sandbox_read_files, ReadFiles, UNARY_AGAIN)
UNARY(sandbox_stat_file, StatFile, UNARY_AGAIN)
UNARY(sandbox_list_directory, ListDirectory, UNARY_AGAIN)
UNARY(sandbox_make_directory, MakeDirectory, UNARY_ONCE)
UNARY(sandbox_move_file, MoveFile, UNARY_ONCE)
UNARY(sandbox_remove_file, RemoveFile, UNARY_ONCE)
UNARY(sandbox_create_file_url, CreateFileUrl, UNARY_AGAIN)
UNARY(sandbox_get_command, GetCommand, UNARY_QUICK)
UNARY(sandbox_list_commands, ListCommands, UNARY_QUICK)
UNARY(sandbox_signal_command, SignalCommand, UNARY_ONCE)
UNARY(sandbox_wait_command, WaitCommand, UNARY_AGAIN)
UNARY(sandbox_resize_terminal, ResizeTerminal, UNARY_QUICK)
UNARY(sandbox_prune_commands, PruneCommands, UNARY_AGAIN)
UNARY(sandbox_ack_logs, AckLogs, UNARY_QUICK)

bool sandbox_create(struct sandbox_client *client, const Sandbox__V1__CreateSandboxRequest *request,
                    Sandbox__V1__CreateSandboxResponse **ret, struct sandbox_error *err)
{
    Sandbox__V1__CreateSandboxRequest copy = *request;
    ProtobufCMessage *response = NULL;
    char id[SANDBOX_ID_SIZE];

    if (copy.request_id == NULL || copy.request_id[0] == '\0') {
        sandbox_make_id(id);
        copy.request_id = id;
    }

    bool ok = unary_call(client, service, "CreateSandbox", &copy.base, UNARY_AGAIN,
                         client->call_timeout_ms, ret != NULL ? &response : NULL, err);

    if (ret != NULL)
        *ret = (Sandbox__V1__CreateSandboxResponse *)response;
    return ok;
}

/* With its place said it is written once, however often it is sent. */
bool sandbox_send_input(struct sandbox_client *client, const Sandbox__V1__SendInputRequest *request,
                        Sandbox__V1__SendInputResponse **ret, struct sandbox_error *err)
{
    bool placed = request->position_case == SANDBOX__V1__SEND_INPUT_REQUEST__POSITION_OFFSET;
    ProtobufCMessage *response = NULL;
    bool ok =
        unary_call(client, service, "SendInput", &request->base, placed ? UNARY_AGAIN : UNARY_ONCE,
                   client->call_timeout_ms, ret != NULL ? &response : NULL, err);

    if (ret != NULL)
        *ret = (Sandbox__V1__SendInputResponse *)response;
    return ok;
}

/* A second attempt would find what the first one wrote, and take it for somebody else's. */
bool sandbox_write_files(struct sandbox_client *client,
                         const Sandbox__V1__WriteFilesRequest *request,
                         Sandbox__V1__WriteFilesResponse **ret, struct sandbox_error *err)
{
    enum unary_repeat repeat = UNARY_AGAIN;
    ProtobufCMessage *response = NULL;

    for (size_t i = 0; i < request->n_files; i++) {
        if (request->files[i]->create_only || request->files[i]->if_sha256.len > 0)
            repeat = UNARY_ONCE;
    }

    bool ok = unary_call(client, service, "WriteFiles", &request->base, repeat,
                         client->call_timeout_ms, ret != NULL ? &response : NULL, err);

    if (ret != NULL)
        *ret = (Sandbox__V1__WriteFilesResponse *)response;
    return ok;
}
