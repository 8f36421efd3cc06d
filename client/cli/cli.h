/* What every verb of sandboxctl uses: the options before the verb, results, errors, exit codes. */
#pragma once

#include "client/cli/fields.h"
#include "client/include/sandbox.h"
#include "common/base/buf.h"
#include "common/base/options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EXIT_LOCAL = 1,       /* a local file, or our own output, failed */
    EXIT_USAGE = 2,       /* the command line makes no sense */
    EXIT_TIMED_OUT = 124, /* the command's timeout passed */
    EXIT_LOST = 254,      /* how the command ended is not known */
    EXIT_RPC = 255,       /* a call failed */
};

struct cli {
    const char *addresses;
    const char *output;
    bool json;   /* output, understood */
    bool dashes; /* "--" stood among the verb's arguments */
    struct option_strings headers;
    const char *token, *token_file;
    bool tls;
    const char *tls_ca, *tls_cert, *tls_key, *tls_server_name; /* files, but for the name */
    int64_t call_timeout_ms;
    int64_t heartbeat_ms;
    int64_t give_up_ms;
};

struct verb {
    const char *name;
    const char *operands;         /* "ID [PATH]", for --help */
    const char *summary;          /* one line */
    const struct option *options; /* NULL for none of its own */
    const char *more;             /* the end of --help; NULL for none */
    int min_operands;
    int max_operands;
    /* Returns the exit code. */
    int (*run)(struct cli *cli, int n, char **operands);
};

/* One table per family; each ends with a verb without name. */
extern const struct verb sandbox_verbs[];
extern const struct verb lifecycle_verbs[];
extern const struct verb snapshot_verbs[];
extern const struct verb file_verbs[];
extern const struct verb entry_verbs[];
extern const struct verb transfer_verbs[];
extern const struct verb stream_verbs[];
extern const struct verb attach_verbs[];
extern const struct verb forward_verbs[];
extern const struct verb command_verbs[];
extern const struct verb health_verbs[];
extern const struct verb key_verbs[];

/* A client as the options ask for. NULL: the error is printed; exit with EXIT_USAGE. */
struct sandbox_client *cli_connect(const struct cli *cli, const char *addresses);

/* Prints a message as one line of JSON. False: it could not be; errno says why. */
bool cli_print_json(const ProtobufCMessage *message);

/* Appends a text as a JSON string; "?" stands for what is not UTF-8. */
void cli_json_string(struct buf *to, const char *text);

/* Prints what failed, on stderr; returns EXIT_RPC. */
int cli_fail(const struct cli *cli, const struct sandbox_error *err);

/* Prints a sentence on stderr; returns the code. */
int cli_say(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same, for EXIT_USAGE. */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* All that a descriptor gives. False: errno says why; EFBIG: it is more than the buffer takes. */
bool cli_read(int fd, struct buf *to);
