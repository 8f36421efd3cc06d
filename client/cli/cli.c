/* See cli.h. */
#include "client/cli/cli.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/connect/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is printed was received first, so the message limit is the true bound. */
enum { JSON_MAX_BYTES = 1 << 30 };

/* Of a token, a key or certificates. */
enum { TEXT_MAX_BYTES = 1 << 20 };

static void say(const char *fmt, va_list args)
{
    fputs("sandboxctl: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int cli_say(int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    return code;
}

int cli_usage(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    return EXIT_USAGE;
}

static void fill_headers(const struct cli *cli, struct sandbox_pair *pairs, char **copies)
{
    for (size_t i = 0; i < cli->headers.n; i++) {
        copies[i] = xstrdup(cli->headers.at[i]);

        char *equals = strchr(copies[i], '=');

        pairs[i] = (struct sandbox_pair){.key = copies[i], .value = ""};
        if (equals != NULL) {
            *equals = '\0';
            pairs[i].value = equals + 1;
        }
    }
}

/* What the options name files for, while a client is made. */
struct texts {
    char *token, *ca, *cert, *key; /* owned; NULL: none */
};

static void texts_deinit(struct texts *t)
{
    char *all[] = {t->token, t->ca, t->cert, t->key};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i] != NULL)
            explicit_bzero(all[i], strlen(all[i]));
        free(all[i]);
    }
}

bool cli_read(int fd, struct buf *to)
{
    for (;;) {
        uint8_t *room = buf_reserve(to, 1 << 16);

        if (room == NULL) {
            errno = EFBIG;
            return false;
        }

        ssize_t n = read(fd, room, 1 << 16);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        buf_commit(to, (size_t)n);
    }
}

/* path NULL: nothing to read. False: the usage error is printed. */
static bool read_text(const char *option, const char *path, char **ret)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(TEXT_MAX_BYTES);
    AUTO_CLOSE int fd = -1;

    if (path == NULL)
        return true;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !cli_read(fd, &text)) {
        cli_usage("%s: cannot read %s: %s", option, path, strerror(errno));
        return false;
    }
    *ret = buf_take_str(&text);
    return true;
}

static bool read_texts(const struct cli *cli, struct texts *t)
{
    if (!read_text("--token-file", cli->token_file, &t->token) ||
        !read_text("--tls-ca", cli->tls_ca, &t->ca) ||
        !read_text("--tls-cert", cli->tls_cert, &t->cert) ||
        !read_text("--tls-key", cli->tls_key, &t->key))
        return false;
    if (t->token != NULL)
        t->token[strcspn(t->token, "\r\n")] = '\0'; /* files end with a newline */
    return true;
}

struct sandbox_client *cli_connect(const struct cli *cli, const char *addresses)
{
    struct sandbox_pair pairs[OPTION_STRINGS_MAX];
    char *copies[OPTION_STRINGS_MAX];
    AUTO(texts_deinit) struct texts texts = {0};
    struct sandbox_error err;

    if (!read_texts(cli, &texts))
        return NULL;

    struct sandbox_client_options options = {
        .addresses = addresses,
        .metadata = pairs,
        .n_metadata = cli->headers.n,
        .call_timeout_ms = cli->call_timeout_ms,
        .heartbeat_interval_ms = cli->heartbeat_ms,
        .give_up_ms = cli->give_up_ms,
        .user_agent = "sandboxctl",
        .token = cli->token != NULL ? cli->token : texts.token,
        .tls = cli->tls,
        .tls_ca = texts.ca,
        .tls_cert = texts.cert,
        .tls_key = texts.key,
        .tls_server_name = cli->tls_server_name,
    };

    fill_headers(cli, pairs, copies);

    struct sandbox_client *client = sandbox_client_new(&options, &err);

    for (size_t i = 0; i < cli->headers.n; i++)
        free(copies[i]);
    if (client == NULL)
        cli_usage("%s", err.message);
    return client;
}

bool cli_print_json(const ProtobufCMessage *message)
{
    AUTO(buf_deinit) struct buf line = BUF_INIT(JSON_MAX_BYTES);

    if (!json_encode(&line, message) || !buf_append_byte(&line, '\n')) {
        errno = EILSEQ; /* protobuf-c takes any bytes for a string, JSON does not */
        return false;
    }
    return fd_write_all(STDOUT_FILENO, buf_data(&line), buf_len(&line));
}

void cli_json_string(struct buf *to, const char *text)
{
    AUTO_FREE char *clean = xstrdup(text);

    utf8_sanitize(clean);
    json_append_string(to, clean, strlen(clean));
}

static void json_pair(struct buf *to, const char *key, const char *value)
{
    if (value[0] == '\0')
        return;
    buf_printf(to, ",\"%s\":", key);
    cli_json_string(to, value);
}

static void fail_json(const struct sandbox_error *err)
{
    AUTO(buf_deinit) struct buf line = BUF_INIT(JSON_MAX_BYTES);

    buf_printf(&line, "{\"error\":{\"code\":\"%s\"", sandbox_code_name(err->code));
    json_pair(&line, "reason", err->reason);
    json_pair(&line, "message", err->message);
    json_pair(&line, "field", err->field);
    json_pair(&line, "address", err->address);
    if (err->retry_after_ms > 0)
        buf_printf(&line, ",\"retryAfterMs\":%lld", (long long)err->retry_after_ms);
    if (err->n_metadata > 0) {
        buf_append_str(&line, ",\"metadata\":{");
        for (unsigned i = 0; i < err->n_metadata; i++) {
            if (i > 0)
                buf_append_byte(&line, ',');
            cli_json_string(&line, err->metadata[i].key);
            buf_append_byte(&line, ':');
            cli_json_string(&line, err->metadata[i].value);
        }
        buf_append_byte(&line, '}');
    }
    buf_append_str(&line, "}}\n");
    fd_write_all(STDERR_FILENO, buf_data(&line), buf_len(&line));
}

int cli_fail(const struct cli *cli, const struct sandbox_error *err)
{
    if (cli->json) {
        fail_json(err);
        return EXIT_RPC;
    }
    fprintf(stderr, "sandboxctl: %s", sandbox_code_name(err->code));
    if (err->reason[0] != '\0')
        fprintf(stderr, " (%s)", err->reason);
    fprintf(stderr, ": %s", err->message);
    if (err->field[0] != '\0')
        fprintf(stderr, " [%s]", err->field);
    if (err->address[0] != '\0')
        fprintf(stderr, " (from %s)", err->address);
    fputc('\n', stderr);
    return EXIT_RPC;
}
