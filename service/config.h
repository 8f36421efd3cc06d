/*
 * The configuration of sandboxd: one table (config_table.c) drives the command line, the
 * environment, the file, and every page about them. Read once at start; it does not change after
 * that, and stays where it was read, because the table points into it. Texts are borrowed: from
 * argv, the environment, and the file's memory, which is kept.
 */
#pragma once

#include "common/base/options.h"
#include "common/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { CONFIG_OPTIONS_MAX = 96 };

struct config {
    const char *config_file;
    bool check_only; /* of this one start: config_read() does not say CONFIG_RUN */

    const char *listen;        /* HOST:PORT */
    bool insecure;             /* other addresses than the loopback are allowed without TLS */
    int64_t workers;           /* threads that serve calls */
    int64_t message_max;       /* bytes of a request; ReadFile's limit follows from it */
    int64_t read_file_max;     /* bytes of a file that fits a response */
    int64_t heartbeat_ms;      /* between messages of a silent stream */
    int64_t watch_period_ms;   /* between lists of sandboxes that are watched */
    int64_t keepalive_ms;      /* between HTTP/2 pings of our own; 0: none */
    int64_t connection_age_ms; /* 0: connections live on */
    int64_t connection_age_grace_ms;
    int64_t drain_settle_ms;   /* still accepting calls, for load balancers to notice */
    int64_t drain_spread_ms;   /* streams are sent to other pods over this time */
    int64_t drain_budget_ms;   /* then calls have so long to end */
    const char *log_level;     /* debug, info, warn or error */
    const char *log_format;    /* json or text */
    const char *admin_listen;  /* HOST:PORT; "": there is no admin port */
    bool admin_any_port;       /* nobody asked for that port: another one will do */
    const char *otlp_endpoint; /* URL; NULL: no spans are recorded */
    const char *otlp_headers;
    const char *service_name;
    const char *resource_attributes;
    const char *trace_sampler; /* as OTEL_TRACES_SAMPLER */
    const char *trace_ratio_text;
    double trace_ratio; /* what that means */

    const char *tls_cert, *tls_key; /* files; NULL: no TLS */
    const char *tls_client_ca;      /* file; NULL: clients need no certificate */

    const char *auth;      /* none, keys or passthrough; NULL: keys where there is a file of them */
    const char *auth_keys; /* the file; NULL: none */
    const char *auth_exempt;                 /* "health,reflection", either, or "none" */
    bool health_is_open, reflection_is_open; /* what it means */
    int64_t max_connection_calls;            /* 0: no limit */
    int64_t max_timeout_ms, idle_timeout_ms; /* of sandboxes; the latter 0: none */
    int64_t max_calls, max_streams;          /* of the pod; 0: no limit, -1: by descriptors */
    int64_t tenant_max_calls, tenant_max_streams, tenant_creates_per_minute; /* 0: no limit */

    bool local;                 /* start the local runtime and use it as E2B */
    const char *local_runtime;  /* its program; NULL: found by itself */
    const char *local_data_dir; /* NULL: the runtime's default */

    const char *e2b_api_key; /* NULL only with local */
    const char *e2b_domain;
    const char *e2b_api_url;     /* NULL: by the domain */
    const char *e2b_sandbox_url; /* NULL: by the sandbox's own domain */
    const char *e2b_template;
    int64_t e2b_request_timeout_ms;
    int64_t e2b_threads;
    int64_t lease_ms;      /* of a follower in a sandbox */
    int64_t queue_max;     /* bytes in all of them; 0: no bound */
    int64_t stream_buffer; /* bytes per stream between the sandbox and the client */

    const char *archive; /* a directory, or s3://BUCKET/PREFIX; NULL or empty: none */
    int64_t archive_timeout_ms;
    int64_t archive_before_end_ms;             /* 0: only what is deleted through us */
    const char *aws_endpoint_url, *aws_region; /* NULL: AWS's own */
    const char *aws_access_key_id, *aws_secret_access_key, *aws_session_token; /* NULL: not set */

    struct option options[CONFIG_OPTIONS_MAX]; /* ends with one without a name */
    uint8_t sources[CONFIG_OPTIONS_MAX];       /* enum option_source of each */
};

enum config_result {
    CONFIG_RUN,   /* go on */
    CONFIG_DONE,  /* a page was printed, or the check passed: exit with 0 */
    CONFIG_ERROR, /* st says what is wrong and what to do: exit with 2 */
};

enum config_result config_read(struct config *ret, int argc, char **argv, struct status *st);
