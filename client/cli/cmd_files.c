/* The verbs about the content of files: write read file-url. */
#include "client/cli/call.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Far above any server's message limit, which has the last word. */
enum { MAX_FILE_BYTES = 64 << 20 };

static struct {
    const char *user;
    const char *mode;
    bool create, changed;
} write_to = {.user = "", .mode = ""};

static const struct option write_options[] = {
    {"mode", 0, NULL, OPTION_STRING, &write_to.mode, "OCTAL",
     "Permission bits, such as 755. As the sandbox makes files (644) if not set."},
    {"user", 'u', NULL, OPTION_STRING, &write_to.user, "NAME",
     "Who owns it, and whose home relative paths start from. The template's user if not set."},
    {"create", 0, NULL, OPTION_BOOL, &write_to.create, NULL,
     "Only if nothing is at PATH: never replaces."},
    {"changed", 0, NULL, OPTION_BOOL, &write_to.changed, NULL,
     "Only if PATH has another content, or mode."},
    {NULL},
};

static bool read_local(const char *path, struct buf *to)
{
    AUTO_CLOSE int opened = -1;
    int fd = STDIN_FILENO;

    if (strcmp(path, "-") != 0) {
        opened = open(path, O_RDONLY | O_CLOEXEC);
        if (opened < 0)
            return false;
        fd = opened;
    }
    return cli_read(fd, to);
}

CLI_METHOD(write_files, WriteFiles)

static int run_write(struct cli *cli, int n, char **operands)
{
    AUTO(buf_deinit) struct buf content = BUF_INIT(MAX_FILE_BYTES);
    Sandbox__V1__WriteFilesRequest request = SANDBOX__V1__WRITE_FILES_REQUEST__INIT;
    Sandbox__V1__File file;
    Sandbox__V1__File *files[] = {&file};

    sandbox__v1__file__init(&file);
    if (!cli_mode(write_to.mode, &file.mode))
        return EXIT_USAGE;
    if (!read_local(operands[1], &content))
        return cli_say(EXIT_LOCAL, "cannot read %s: %s", operands[1], strerror(errno));
    file.path = operands[2];
    file.create_only = write_to.create;
    request.only_changed = write_to.changed;
    file.content_case = SANDBOX__V1__FILE__CONTENT_DATA;
    file.data = (ProtobufCBinaryData){.data = buf_data(&content), .len = buf_len(&content)};
    request.sandbox_id = operands[0];
    request.user = (char *)write_to.user;
    request.files = files;
    request.n_files = 1;
    return cli_call(cli, call_write_files, &request.base, NULL);
}

static struct {
    const char *user;
    bool text;
} read_from = {.user = ""};

static const struct option read_options[] = {
    {"text", 0, NULL, OPTION_BOOL, &read_from.text, NULL,
     "As valid UTF-8: U+FFFD stands for every byte that is not."},
    {"user", 'u', NULL, OPTION_STRING, &read_from.user, "NAME",
     "Whose home relative paths start from. The template's user if not set."},
    {NULL},
};

CLI_METHOD(read_file, ReadFile)

static bool print_content(const ProtobufCMessage *response)
{
    const Sandbox__V1__ReadFileResponse *r = (const Sandbox__V1__ReadFileResponse *)response;

    switch (r->content_case) {
    case SANDBOX__V1__READ_FILE_RESPONSE__CONTENT_DATA:
        return fd_write_all(STDOUT_FILENO, r->data.data, r->data.len);
    case SANDBOX__V1__READ_FILE_RESPONSE__CONTENT_TEXT:
        return fd_write_all(STDOUT_FILENO, r->text, strlen(r->text));
    case SANDBOX__V1__READ_FILE_RESPONSE__CONTENT__NOT_SET:
    case _SANDBOX__V1__READ_FILE_RESPONSE__CONTENT__CASE_IS_INT_SIZE:
        break;
    }
    return true;
}

static int run_read(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__ReadFileRequest request = SANDBOX__V1__READ_FILE_REQUEST__INIT;

    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.user = (char *)read_from.user;
    request.encoding = read_from.text ? SANDBOX__V1__ENCODING__ENCODING_TEXT
                                      : SANDBOX__V1__ENCODING__ENCODING_BYTES;
    return cli_call(cli, call_read_file, &request.base, print_content);
}

static struct {
    const char *user;
    int64_t expire_ms;
    bool upload;
} url_for = {.user = "", .expire_ms = 3600 * 1000};

static const struct option url_options[] = {
    {"upload", 0, NULL, OPTION_BOOL, &url_for.upload, NULL,
     "To write the file, by POST, instead of reading it."},
    {"expire", 0, NULL, OPTION_DURATION, &url_for.expire_ms, "TIME", "How long it works (1h)."},
    {"user", 'u', NULL, OPTION_STRING, &url_for.user, "NAME",
     "Who will own the file, and whose home relative paths start from. The template's user if not "
     "set."},
    {NULL},
};

CLI_METHOD(create_file_url, CreateFileUrl)

static bool print_file_url(const ProtobufCMessage *response)
{
    return printf("%s\n", ((const Sandbox__V1__CreateFileUrlResponse *)response)->url) > 0;
}

static int run_file_url(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__CreateFileUrlRequest request = SANDBOX__V1__CREATE_FILE_URL_REQUEST__INIT;
    Google__Protobuf__Duration expire;

    request.sandbox_id = operands[0];
    request.path = operands[1];
    request.user = (char *)url_for.user;
    request.expire_in = cli_duration(url_for.expire_ms, &expire);
    request.operation = url_for.upload
                            ? SANDBOX__V1__CREATE_FILE_URL_REQUEST__OPERATION__OPERATION_WRITE
                            : SANDBOX__V1__CREATE_FILE_URL_REQUEST__OPERATION__OPERATION_READ;
    return cli_call(cli, call_create_file_url, &request.base, print_file_url);
}

const struct verb file_verbs[] = {
    {"write", "ID LOCAL PATH", "write a file into a sandbox (LOCAL may be -: stdin)", write_options,
     NULL, 3, 3, run_write},
    {"file-url", "ID PATH", "print a URL that reads (or writes) a file of a sandbox", url_options,
     NULL, 2, 2, run_file_url},
    {"read", "ID PATH", "print a file of a sandbox", read_options, NULL, 2, 2, run_read},
    {NULL},
};
