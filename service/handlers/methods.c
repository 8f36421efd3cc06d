/* See methods.h. Rows of one service stand together; the server checks that none is missing. */
#include "service/handlers/methods.h"

#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "grpc/reflection/v1alpha/reflection.pb-c.h"
#include "sandbox/v1/sandbox_service.pb-c.h"
#include "service/handlers/attach.h"
#include "service/handlers/capabilities.h"
#include "service/handlers/commands.h"
#include "service/handlers/files.h"
#include "service/handlers/follow.h"
#include "service/handlers/fork.h"
#include "service/handlers/health.h"
#include "service/handlers/lifecycle.h"
#include "service/handlers/ports.h"
#include "service/handlers/purge.h"
#include "service/handlers/reflection.h"
#include "service/handlers/sandboxes.h"
#include "service/handlers/snapshots.h"
#include "service/handlers/watch_directory.h"
#include "service/handlers/watch_sandboxes.h"

#define SANDBOX &sandbox__v1__sandbox_service__descriptor
#define HEALTH &grpc__health__v1__health__descriptor
#define REFLECTION_V1 &grpc__reflection__v1__server_reflection__descriptor
#define REFLECTION_V1ALPHA &grpc__reflection__v1alpha__server_reflection__descriptor

const struct method methods[] = {
    {SANDBOX, "CreateSandbox", METHOD_UNARY, create_sandbox_start, .creates = true},
    {SANDBOX, "GetSandbox", METHOD_UNARY, get_sandbox_start},
    {SANDBOX, "ListSandboxes", METHOD_UNARY, list_sandboxes_start},
    {SANDBOX, "DeleteSandbox", METHOD_UNARY, delete_sandbox_start},
    {SANDBOX, "SetSandboxTimeout", METHOD_UNARY, set_sandbox_timeout_start},
    {SANDBOX, "KeepAlive", METHOD_UNARY, keep_alive_start},
    {SANDBOX, "PauseSandbox", METHOD_UNARY, pause_sandbox_start},
    {SANDBOX, "ResumeSandbox", METHOD_UNARY, resume_sandbox_start},
    {SANDBOX, "UpdateSandbox", METHOD_UNARY, update_sandbox_start},
    {SANDBOX, "GetSandboxMetrics", METHOD_UNARY, get_sandbox_metrics_start},
    {SANDBOX, "PurgeSandboxes", METHOD_UNARY, purge_sandboxes_start},
    {SANDBOX, "WatchSandboxes", METHOD_SERVER_STREAM, watch_sandboxes_start},
    {SANDBOX, "CreateSnapshot", METHOD_UNARY, create_snapshot_start},
    {SANDBOX, "ListSnapshots", METHOD_UNARY, list_snapshots_start},
    {SANDBOX, "DeleteSnapshot", METHOD_UNARY, delete_snapshot_start},
    {SANDBOX, "ForkSandbox", METHOD_UNARY, fork_sandbox_start, .creates = true},
    {SANDBOX, "GetCapabilities", METHOD_UNARY, get_capabilities_start},
    {SANDBOX, "GetSandboxUrl", METHOD_UNARY, get_sandbox_url_start},
    {SANDBOX, "ListPorts", METHOD_UNARY, list_ports_start},
    {SANDBOX, "ForwardPort", METHOD_BIDI, forward_port_start},
    {SANDBOX, "WriteFiles", METHOD_UNARY, write_files_start},
    {SANDBOX, "ReadFile", METHOD_UNARY, read_file_start},
    {SANDBOX, "ReadFiles", METHOD_UNARY, read_files_start},
    {SANDBOX, "StatFile", METHOD_UNARY, stat_file_start},
    {SANDBOX, "ListDirectory", METHOD_UNARY, list_directory_start},
    {SANDBOX, "MakeDirectory", METHOD_UNARY, make_directory_start},
    {SANDBOX, "MoveFile", METHOD_UNARY, move_file_start},
    {SANDBOX, "RemoveFile", METHOD_UNARY, remove_file_start},
    {SANDBOX, "UploadFile", METHOD_CLIENT_STREAM, upload_file_start},
    {SANDBOX, "DownloadFile", METHOD_SERVER_STREAM, download_file_start},
    {SANDBOX, "UploadTree", METHOD_CLIENT_STREAM, upload_tree_start},
    {SANDBOX, "DownloadTree", METHOD_SERVER_STREAM, download_tree_start},
    {SANDBOX, "WatchDirectory", METHOD_SERVER_STREAM, watch_directory_start},
    {SANDBOX, "CreateFileUrl", METHOD_UNARY, create_file_url_start},
    {SANDBOX, "RunCommand", METHOD_SERVER_STREAM, run_command_start},
    {SANDBOX, "Logs", METHOD_SERVER_STREAM, logs_start},
    {SANDBOX, "GetCommand", METHOD_UNARY, get_command_start},
    {SANDBOX, "ListCommands", METHOD_UNARY, list_commands_start},
    {SANDBOX, "WaitCommand", METHOD_UNARY, wait_command_start},
    {SANDBOX, "Attach", METHOD_BIDI, attach_start},
    {SANDBOX, "SendInput", METHOD_UNARY, send_input_start},
    {SANDBOX, "SignalCommand", METHOD_UNARY, signal_command_start},
    {SANDBOX, "ResizeTerminal", METHOD_UNARY, resize_terminal_start},
    {SANDBOX, "PruneCommands", METHOD_UNARY, prune_commands_start},
    {SANDBOX, "AckLogs", METHOD_UNARY, ack_logs_start},

    {HEALTH, "Check", METHOD_UNARY, health_check_start},
    {HEALTH, "List", METHOD_UNARY, health_list_start},
    {HEALTH, "Watch", METHOD_SERVER_STREAM, health_watch_start},

    {REFLECTION_V1, "ServerReflectionInfo", METHOD_BIDI, reflection_start},
    {REFLECTION_V1ALPHA, "ServerReflectionInfo", METHOD_BIDI, reflection_start},
};

const size_t n_methods = sizeof(methods) / sizeof(methods[0]);
