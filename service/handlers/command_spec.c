/* See command_spec.h. Pure but for the random id. */
#include "service/handlers/command_spec.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "recorder/v1/recorder.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/validate.h"
#include "service/trace/trace.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    ARGS_MAX = 4096,
    ARG_BYTES_MAX = 128 * 1024 - 1, /* the kernel's MAX_ARG_STRLEN */
    ARGS_BYTES_MAX = 1024 * 1024,
    GRACE_MS = 5000,
    GRACE_MAX_MS = 3600 * 1000,
    IDLE_MIN_MS = 100,
    MEMORY_MIN = 16 * 1024 * 1024,
    OPEN_FILES_MIN = 8,
    TRACE_ENVS = 2,
};

#define JOURNAL_BYTES_DEFAULT (UINT64_C(64) << 20)
#define JOURNAL_BYTES_MIN (UINT64_C(1) << 20)
#define JOURNAL_BYTES_MAX (UINT64_C(16) << 30)
#define TIMEOUT_MAX_MS (INT64_C(30) * 24 * 3600 * 1000)

/* The strings of a spec; the arrays are owned, what they point to is borrowed unless said. */
struct parts {
    char **args;
    size_t n_args;
    char **envs; /* each owned */
    size_t n_envs;
    char **labels; /* each owned */
    size_t n_labels;
};

static void parts_deinit(struct parts *p)
{
    free_strings(p->envs, p->n_envs);
    free_strings(p->labels, p->n_labels);
    free(p->args);
}

static bool shell_args(char *line, struct parts *p, struct status *st)
{
    static char bash[] = "/bin/bash", login[] = "-l", command[] = "-c";

    if (line[0] == '\0')
        return status_bad_field(st, INVALID_FIELD, "shell", "shell is empty: nothing to run");
    p->args = xcalloc(4, sizeof(char *));
    p->args[0] = bash;
    p->args[1] = login;
    p->args[2] = command;
    p->args[3] = line;
    p->n_args = 4;
    return true;
}

static bool argv_args(const Sandbox__V1__Argv *argv, struct parts *p, struct status *st)
{
    if (argv->n_args == 0 || argv->args[0][0] == '\0')
        return status_bad_field(st, INVALID_FIELD, "argv.args",
                                "argv.args is empty: nothing to run");
    if (argv->n_args > ARGS_MAX)
        return status_bad_field(st, INVALID_FIELD, "argv.args",
                                "argv.args has %zu entries; at most %d", argv->n_args, ARGS_MAX);
    p->args = xmemdup(argv->args, argv->n_args * sizeof(char *));
    p->n_args = argv->n_args;
    return true;
}

static bool check_args(const struct parts *p, struct status *st)
{
    size_t total = 0;

    for (size_t i = 0; i < p->n_args; i++) {
        size_t len = strlen(p->args[i]);

        total += len + 1;
        if (len > ARG_BYTES_MAX || total > ARGS_BYTES_MAX)
            return status_bad_field(
                st, INVALID_FIELD, "command",
                "the command is too long: an argument may have %d bytes and all "
                "of them %d; write a file and run that",
                ARG_BYTES_MAX, ARGS_BYTES_MAX);
    }
    return true;
}

static bool take_command(const Sandbox__V1__RunCommandRequest *r, struct parts *p,
                         struct status *st)
{
    bool ok = false;

    switch (r->command_case) {
    case SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_SHELL:
        ok = shell_args(r->shell, p, st);
        break;
    case SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_ARGV:
        ok = argv_args(r->argv, p, st);
        break;
    default:
        status_bad_field(st, INVALID_FIELD, "command", "set shell or argv: nothing to run");
        break;
    }
    return ok && check_args(p, st);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, because a map has no order of its own and the digest needs one. */
static bool take_envs(const Sandbox__V1__RunCommandRequest *r, struct parts *p, struct status *st)
{
    if (r->n_envs > VALIDATE_ENVS_MAX)
        return status_bad_field(st, INVALID_FIELD, "envs", "envs has %zu entries; at most %d",
                                r->n_envs, VALIDATE_ENVS_MAX);
    p->envs = xcalloc(r->n_envs + TRACE_ENVS, sizeof(char *));
    for (size_t i = 0; i < r->n_envs; i++) {
        if (!validate_env("envs", r->envs[i]->key, r->envs[i]->value, st))
            return false;
        p->envs[p->n_envs++] = xasprintf("%s=%s", r->envs[i]->key, r->envs[i]->value);
    }
    qsort(p->envs, p->n_envs, sizeof(char *), by_text);
    return true;
}

static bool take_limits(const Sandbox__V1__RunCommandRequest *r, Recorder__V1__CommandSpec *spec,
                        struct status *st)
{
    int64_t timeout_ms = 0;

    if (r->timeout != NULL && !validate_duration("timeout", r->timeout->seconds, r->timeout->nanos,
                                                 1, TIMEOUT_MAX_MS, &timeout_ms, st))
        return false;
    spec->timeout_ms = (uint64_t)timeout_ms;
    spec->max_journal_bytes =
        r->max_journal_bytes != 0 ? r->max_journal_bytes : JOURNAL_BYTES_DEFAULT;
    if (spec->max_journal_bytes < JOURNAL_BYTES_MIN || spec->max_journal_bytes > JOURNAL_BYTES_MAX)
        return status_bad_field(st, INVALID_FIELD, "max_journal_bytes",
                                "max_journal_bytes must be from 1 MiB to 16 GiB");
    if (r->overflow > SANDBOX__V1__OVERFLOW__OVERFLOW_BLOCK)
        return status_bad_field(st, INVALID_FIELD, "overflow", "overflow %d is not known here",
                                (int)r->overflow);
    spec->overflow = r->overflow != SANDBOX__V1__OVERFLOW__OVERFLOW_UNSPECIFIED
                         ? r->overflow
                         : SANDBOX__V1__OVERFLOW__OVERFLOW_KEEP_UP;
    spec->stdin = r->stdin;
    return true;
}

static bool take_times(const Sandbox__V1__RunCommandRequest *r, Recorder__V1__CommandSpec *spec,
                       struct status *st)
{
    int64_t idle_ms = 0, grace_ms = GRACE_MS;

    if (r->idle_timeout != NULL &&
        !validate_duration("idle_timeout", r->idle_timeout->seconds, r->idle_timeout->nanos,
                           IDLE_MIN_MS, TIMEOUT_MAX_MS, &idle_ms, st))
        return false;
    if (r->kill_grace != NULL &&
        !validate_duration("kill_grace", r->kill_grace->seconds, r->kill_grace->nanos, 1,
                           GRACE_MAX_MS, &grace_ms, st))
        return false;
    spec->idle_timeout_ms = (uint64_t)idle_ms;
    spec->grace_ms = (uint64_t)grace_ms;
    return true;
}

static bool take_terminal(const Sandbox__V1__RunCommandRequest *r, Recorder__V1__CommandSpec *spec,
                          struct status *st)
{
    if (r->pty == NULL)
        return true;
    spec->terminal = true;
    spec->stdin = false; /* it has one in any case */
    return validate_terminal("pty", r->pty, &spec->cols, &spec->rows, st);
}

/* What one process may use. */
static bool take_resources(const Sandbox__V1__ResourceLimits *l, Recorder__V1__CommandSpec *spec,
                           struct status *st)
{
    int64_t cpu_ms = 0;

    if (l == NULL)
        return true;
    if (l->memory_bytes != 0 && l->memory_bytes < MEMORY_MIN)
        return status_bad_field(st, INVALID_FIELD, "limits.memory_bytes",
                                "limits.memory_bytes must be at least 16 MiB");
    if (l->open_files != 0 && l->open_files < OPEN_FILES_MIN)
        return status_bad_field(st, INVALID_FIELD, "limits.open_files",
                                "limits.open_files must be at least %d", OPEN_FILES_MIN);
    if (l->cpu_time != NULL &&
        !validate_duration("limits.cpu_time", l->cpu_time->seconds, l->cpu_time->nanos, 1,
                           TIMEOUT_MAX_MS, &cpu_ms, st))
        return false;
    spec->limit_memory = l->memory_bytes;
    spec->limit_cpu = (uint64_t)(cpu_ms + 999) / 1000;
    spec->limit_files = l->open_files;
    spec->limit_processes = l->processes;
    spec->limit_file_size = l->file_size_bytes;
    return true;
}

/* Sorted, as a list that is the same for the same labels. */
static bool take_labels(const Sandbox__V1__RunCommandRequest *r, struct parts *p, struct status *st)
{
    if (!validate_labels(r->labels, r->n_labels, st))
        return false;
    p->labels = xcalloc(r->n_labels, sizeof(char *));
    for (size_t i = 0; i < r->n_labels; i++)
        p->labels[p->n_labels++] = xasprintf("%s=%s", r->labels[i]->key, r->labels[i]->value);
    qsort(p->labels, p->n_labels, sizeof(char *), by_text);
    return true;
}

/* The serialized spec without id, sandbox and digest is what is digested: every field is in it. */
static void digest_spec(const Recorder__V1__CommandSpec *spec, uint8_t digest[COMMAND_DIGEST_LEN])
{
    Recorder__V1__CommandSpec bare = *spec;

    bare.command_id = bare.sandbox_id = (char *)protobuf_c_empty_string;
    bare.digest = (ProtobufCBinaryData){0};
    bare.n_labels = 0; /* a name for it, not a part of it */

    size_t len = recorder__v1__command_spec__get_packed_size(&bare);
    AUTO_FREE uint8_t *bytes = xmalloc(len);

    recorder__v1__command_spec__pack(&bare, bytes);
    if (EVP_Digest(bytes, len, digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
}

/* As OpenTelemetry has traces passed to programs. There is room for TRACE_ENVS more. */
static void add_trace(const Sandbox__V1__RunCommandRequest *r, const struct trace *trace,
                      struct parts *p)
{
    char traceparent[TRACE_PARENT_SIZE];

    for (size_t i = 0; i < r->n_envs; i++) {
        if (strcmp(r->envs[i]->key, "TRACEPARENT") == 0)
            return;
    }
    if (trace == NULL)
        return;
    trace_format(trace, trace->span, traceparent);
    p->envs[p->n_envs++] = xasprintf("TRACEPARENT=%s", traceparent);
    if (trace->state[0] != '\0')
        p->envs[p->n_envs++] = xasprintf("TRACESTATE=%s", trace->state);
}

static void pack_spec_file(Recorder__V1__CommandSpec *spec, uint8_t **ret_bytes, size_t *ret_len)
{
    Recorder__V1__SpecFile file = RECORDER__V1__SPEC_FILE__INIT;
    char end[] = "end";

    file.spec_case = RECORDER__V1__SPEC_FILE__SPEC_COMMAND;
    file.command = spec;
    file.end = end;
    *ret_len = recorder__v1__spec_file__get_packed_size(&file);
    *ret_bytes = xmalloc(*ret_len);
    recorder__v1__spec_file__pack(&file, *ret_bytes);
}

void command_spec_seal(Recorder__V1__CommandSpec *spec, uint8_t ret_digest[COMMAND_DIGEST_LEN],
                       uint8_t **ret_bytes, size_t *ret_len)
{
    digest_spec(spec, ret_digest);
    spec->digest = (ProtobufCBinaryData){.data = ret_digest, .len = COMMAND_DIGEST_LEN};
    pack_spec_file(spec, ret_bytes, ret_len);
}

bool command_spec_make(const Sandbox__V1__RunCommandRequest *request, const char *command_id,
                       const struct trace *trace, uint8_t **ret_bytes, size_t *ret_len,
                       uint8_t ret_digest[COMMAND_DIGEST_LEN], struct status *st)
{
    AUTO(parts_deinit) struct parts parts = {0};
    Recorder__V1__CommandSpec spec = RECORDER__V1__COMMAND_SPEC__INIT;

    if (!take_command(request, &parts, st) || !take_envs(request, &parts, st) ||
        !take_labels(request, &parts, st) || !take_limits(request, &spec, st) ||
        !take_times(request, &spec, st) || !take_terminal(request, &spec, st) ||
        !take_resources(request->limits, &spec, st) || !validate_user("user", request->user, st) ||
        (request->cwd[0] != '\0' && !validate_path("cwd", request->cwd, st)))
        return false;
    spec.command_id = (char *)command_id;
    spec.sandbox_id = request->sandbox_id;
    spec.args = parts.args;
    spec.n_args = parts.n_args;
    spec.envs = parts.envs;
    spec.n_envs = parts.n_envs;
    spec.labels = parts.labels;
    spec.n_labels = parts.n_labels;
    spec.cwd = request->cwd;
    spec.user = request->user;
    digest_spec(&spec, ret_digest);
    spec.digest = (ProtobufCBinaryData){.data = ret_digest, .len = COMMAND_DIGEST_LEN};
    add_trace(request, trace, &parts);
    spec.n_envs = parts.n_envs;
    pack_spec_file(&spec, ret_bytes, ret_len);
    return true;
}

void command_id_make(char *to)
{
    uint8_t random[COMMAND_ID_MADE_LEN / 2];

    if (RAND_bytes(random, sizeof(random)) != 1)
        abort();
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(to + 2 * i, 3, "%02x", random[i]);
}
