/*
 * The one table of sandboxd's options. A new option is a field of struct config, its value in
 * config_defaults(), and a row here: flags, environment, file, --help, /debug/config, the manual
 * page, completion and docs/options.md all follow from it (`./dev docs` writes the last one anew).
 */
#include "service/config_table.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS_MAX = 256 };

void config_defaults(struct config *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    *c = (struct config){
        .listen = "127.0.0.1:50051",
        .workers = cores < 1             ? 1
                   : cores > WORKERS_MAX ? WORKERS_MAX
                                         : cores,
        .message_max = 4 << 20,
        .heartbeat_ms = 15 * 1000,
        .watch_period_ms = 5 * 1000,
        .keepalive_ms = 60 * 1000,
        .connection_age_grace_ms = 60 * 1000,
        .drain_spread_ms = 5 * 1000,
        .drain_budget_ms = 20 * 1000,
        .auth_exempt = "health",
        .max_calls = -1,
        .queue_max = 256 << 20,
        .log_level = "info",
        .log_format = "json",
        .service_name = "sandboxd",
        .trace_sampler = "parentbased_always_on",
        .trace_ratio_text = "1.0",
        .admin_listen = "127.0.0.1:9464",
        .e2b_domain = "e2b.app",
        .e2b_template = "base",
        .e2b_request_timeout_ms = 60 * 1000,
        .e2b_threads = 1,
        .max_timeout_ms = 45 * 60 * 1000,
        .lease_ms = 10 * 60 * 1000,
        .stream_buffer = 64 * 1024,
        .archive_timeout_ms = 60 * 1000,
        .archive_before_end_ms = 60 * 1000,
    };
}

void config_table(struct config *c)
{
    const struct option options[] = {
        {"config", 'c', "SANDBOXD_CONFIG", OPTION_STRING, &c->config_file, "FILE",
         "Options are read from this file too: lines of name = value, with the names of the flags, "
         "and # in front of comments. The environment and flags win over it.",
         .not_in_file = true, .section = "Configuration"},
        {"check-config", 0, NULL, OPTION_BOOL, &c->check_only, NULL,
         "Only say whether the options make sense, and exit: with 0 if so, else with 2.",
         .not_in_file = true},

        {"listen", 'l', "SANDBOXD_LISTEN", OPTION_STRING, &c->listen, "HOST:PORT",
         "Where gRPC is served. Port 0 lets the system choose; the ready line says which.",
         .section = "Serving"},
        {"insecure", 0, "SANDBOXD_INSECURE", OPTION_BOOL, &c->insecure, NULL,
         "Allow an address that other machines reach. Calls are neither encrypted nor "
         "authenticated: whoever reaches the port can use every sandbox."},
        {"workers", 0, "SANDBOXD_WORKERS", OPTION_INT, &c->workers, "N",
         "Threads that serve calls.", .min = 1, .max = WORKERS_MAX,
         .by_default = "one for each processor"},
        {"max-message", 0, "SANDBOXD_MAX_MESSAGE", OPTION_SIZE, &c->message_max, "SIZE",
         "The largest request; ReadFile takes files of 64KiB less. Clients accept 4MiB by "
         "themselves.",
         .min = 1 << 20, .max = 256 << 20},

        {"local", 0, "SANDBOXD_LOCAL", OPTION_BOOL, &c->local, NULL,
         "Start the local runtime, e2b-local, and use it in place of E2B. It ends with this "
         "program; E2B_API_KEY, E2B_API_URL and E2B_SANDBOX_URL are not used.",
         .section = "Sandboxes"},
        {"local-runtime", 0, "SANDBOXD_LOCAL_RUNTIME", OPTION_STRING, &c->local_runtime, "PATH",
         "The program of the local runtime.",
         .by_default = "e2b-local beside this program, where the build puts it, or in PATH"},
        {"local-data-dir", 0, "SANDBOXD_LOCAL_DATA_DIR", OPTION_STRING, &c->local_data_dir, "DIR",
         "Where the local runtime keeps its sandboxes.",
         .by_default = "a directory that is removed at the end"},
        {"e2b-api-key", 0, "E2B_API_KEY", OPTION_STRING, &c->e2b_api_key, "KEY",
         "E2B's API key. Better in the environment: command lines are seen by every user.",
         .secret = true},
        {"e2b-domain", 0, "E2B_DOMAIN", OPTION_STRING, &c->e2b_domain, "NAME",
         "The domain of E2B, or of your own installation."},
        {"e2b-api-url", 0, "E2B_API_URL", OPTION_STRING, &c->e2b_api_url, "URL",
         "Where E2B's control plane is.", .by_default = "https://api.DOMAIN"},
        {"e2b-sandbox-url", 0, "E2B_SANDBOX_URL", OPTION_STRING, &c->e2b_sandbox_url, "URL",
         "Where the traffic to all sandboxes goes, named by header.",
         .by_default = "each sandbox's own host"},
        {"e2b-template", 0, "E2B_TEMPLATE", OPTION_STRING, &c->e2b_template, "NAME",
         "The template of sandboxes that name none."},
        {"e2b-request-timeout", 0, "SANDBOXD_E2B_REQUEST_TIMEOUT", OPTION_DURATION,
         &c->e2b_request_timeout_ms, "DURATION",
         "How long one attempt of a request to E2B may take.", .min = 100, .max = 3600 * 1000},
        {"e2b-threads", 0, "SANDBOXD_E2B_THREADS", OPTION_INT, &c->e2b_threads, "N",
         "Threads that speak to E2B, 1 or 2.", .min = 1, .max = 2},

        {"max-timeout", 0, "SANDBOXD_MAX_TIMEOUT", OPTION_DURATION, &c->max_timeout_ms, "DURATION",
         "The longest time that a sandbox may be given; E2B has a limit of its own.", .min = 1000,
         .max = INT64_C(30) * 24 * 3600 * 1000},
        {"idle-timeout", 0, "SANDBOXD_IDLE_TIMEOUT", OPTION_DURATION, &c->idle_timeout_ms,
         "DURATION",
         "Sandboxes that say nothing of it end when they are not used for so long, 30s to 1h. 0: "
         "only by their time.",
         .max = 3600 * 1000},

        {"heartbeat-interval", 0, "SANDBOXD_HEARTBEAT_INTERVAL", OPTION_DURATION, &c->heartbeat_ms,
         "DURATION",
         "A stream with nothing to say sends an empty message this often, or proxies cut it.",
         .min = 10, .max = 3600 * 1000, .section = "Streams and connections"},
        {"watch-period", 0, "SANDBOXD_WATCH_PERIOD", OPTION_DURATION, &c->watch_period_ms,
         "DURATION",
         "E2B is asked this often for the sandboxes that WatchSandboxes tells of, once for all "
         "watches of a tenant.",
         .min = 1000, .max = 3600 * 1000},
        {"follower-lease", 0, "SANDBOXD_FOLLOWER_LEASE", OPTION_DURATION, &c->lease_ms, "DURATION",
         "A follower that this pod lost ends by itself after this time. Streams go on: a live one "
         "is replaced.",
         .min = 100, .max = 24 * 3600 * 1000},
        {"stream-buffer", 0, "SANDBOXD_STREAM_BUFFER", OPTION_SIZE, &c->stream_buffer, "SIZE",
         "What may wait in memory for a client that reads slowly, per stream.", .min = 16 << 10,
         .max = 16 << 20},
        {"keepalive-interval", 0, "SANDBOXD_KEEPALIVE_INTERVAL", OPTION_DURATION, &c->keepalive_ms,
         "DURATION",
         "How often a client's connection is probed, so that dead ones are noticed. 0: never."},
        {"max-connection-age", 0, "SANDBOXD_MAX_CONNECTION_AGE", OPTION_DURATION,
         &c->connection_age_ms, "DURATION",
         "After this time a client is asked to connect anew, maybe to another pod. 0: never."},
        {"max-connection-age-grace", 0, "SANDBOXD_MAX_CONNECTION_AGE_GRACE", OPTION_DURATION,
         &c->connection_age_grace_ms, "DURATION",
         "Then the calls of the old connection have so long to end. Streams end by themselves "
         "within it, each at some moment of its own, and say where to go on.",
         .min = 1000, .max = 24 * 3600 * 1000},

        {"archive", 0, "SANDBOXD_ARCHIVE", OPTION_STRING, &c->archive, "PLACE",
         "Keep what commands wrote when their sandbox is deleted or its time is over: in this "
         "directory, which all pods must share, or in s3://BUCKET/PREFIX. See docs/archive.md.",
         .by_default = "nothing is kept", .section = "Archive"},
        {"archive-timeout", 0, "SANDBOXD_ARCHIVE_TIMEOUT", OPTION_DURATION, &c->archive_timeout_ms,
         "DURATION",
         "How long copying one sandbox may take. DeleteSandbox fails then, and goes on from there "
         "when it is called again.",
         .min = 1000, .max = 3600 * 1000},
        {"archive-before-end", 0, "SANDBOXD_ARCHIVE_BEFORE_END", OPTION_DURATION,
         &c->archive_before_end_ms, "DURATION",
         "Sandboxes are copied from this time before their end on. 0: only those that are deleted "
         "through this server.",
         .max = 24 * 3600 * 1000},
        {"aws-endpoint-url", 0, "AWS_ENDPOINT_URL", OPTION_STRING, &c->aws_endpoint_url, "URL",
         "Where S3 is, for an archive there.", .by_default = "Amazon's own"},
        {"aws-region", 0, "AWS_REGION", OPTION_STRING, &c->aws_region, "NAME",
         "The region of the archive's bucket.", .by_default = "us-east-1"},
        {"aws-access-key-id", 0, "AWS_ACCESS_KEY_ID", OPTION_STRING, &c->aws_access_key_id, "ID",
         "Who writes to the archive's bucket.", .secret = true},
        {"aws-secret-access-key", 0, "AWS_SECRET_ACCESS_KEY", OPTION_STRING,
         &c->aws_secret_access_key, "KEY",
         "The key of that one. Better in the environment: command lines are seen by every user.",
         .secret = true},
        {"aws-session-token", 0, "AWS_SESSION_TOKEN", OPTION_STRING, &c->aws_session_token, "TOKEN",
         "Its session, where the key is a temporary one.", .secret = true},

        {"drain-settle", 0, "SANDBOXD_DRAIN_SETTLE", OPTION_DURATION, &c->drain_settle_ms,
         "DURATION",
         "At SIGTERM health fails at once, and calls are still taken for this time, until load "
         "balancers have noticed.",
         .section = "Ending"},
        {"drain-spread", 0, "SANDBOXD_DRAIN_SPREAD", OPTION_DURATION, &c->drain_spread_ms,
         "DURATION",
         "From SIGTERM on streams are told to go on at another pod, each at some moment within "
         "this time, so that they do not all arrive there at once.",
         .max = 3600 * 1000},
        {"drain-budget", 0, "SANDBOXD_DRAIN_BUDGET", OPTION_DURATION, &c->drain_budget_ms,
         "DURATION", "Then calls have so long to end before they are cut off."},

        {"tls-cert", 0, "SANDBOXD_TLS_CERT", OPTION_STRING, &c->tls_cert, "FILE",
         "The certificate of the gRPC port, PEM, with those between it and its authority behind "
         "it. Read again when it changes, as are the next two.",
         .section = "Who may call, and how much"},
        {"tls-key", 0, "SANDBOXD_TLS_KEY", OPTION_STRING, &c->tls_key, "FILE",
         "Its private key, PEM, without a passphrase."},
        {"tls-client-ca", 0, "SANDBOXD_TLS_CLIENT_CA", OPTION_STRING, &c->tls_client_ca, "FILE",
         "The authorities, PEM, one of which must have signed a client's certificate: without "
         "such a certificate nobody may connect."},
        {"auth", 0, "SANDBOXD_AUTH", OPTION_STRING, &c->auth, "HOW",
         "Who may call. none: everybody. keys: whoever brings a key of --auth-keys, as the tenant "
         "that the key names. passthrough: whoever brings an E2B key, with which all their work is "
         "done.",
         .choices = "none keys passthrough", .by_default = "keys with --auth-keys, else none"},
        {"auth-keys", 0, "SANDBOXD_AUTH_KEYS", OPTION_STRING, &c->auth_keys, "FILE",
         "Hashes of the keys that callers may bring, and their tenants; docs/security.md has the "
         "form. Read again when it changes."},
        {"auth-exempt", 0, "SANDBOXD_AUTH_EXEMPT", OPTION_STRING, &c->auth_exempt, "WHAT",
         "The services that need no key.", .choices = "health reflection health,reflection none"},
        {"max-calls", 0, "SANDBOXD_MAX_CALLS", OPTION_INT, &c->max_calls, "N",
         "Calls in flight on this pod; others are told to try another one. 0: no limit.",
         .max = 1000000, .by_default = "as many as there are file descriptors for"},
        {"max-streams", 0, "SANDBOXD_MAX_STREAMS", OPTION_INT, &c->max_streams, "N",
         "Of these, open streams. 0: no limit of their own.", .max = 1000000},
        {"max-connection-calls", 0, "SANDBOXD_MAX_CONNECTION_CALLS", OPTION_INT,
         &c->max_connection_calls, "N",
         "Calls, streams included, in flight on one connection; further ones wait at the client. "
         "0: no limit.",
         .max = 1000000},
        {"max-queued", 0, "SANDBOXD_MAX_QUEUED", OPTION_SIZE, &c->queue_max, "SIZE",
         "What may wait in memory for slow readers, in all streams together; then each keeps only "
         "a block, and new streams are told to try another pod. 0: no limit."},
        {"tenant-max-calls", 0, "SANDBOXD_TENANT_MAX_CALLS", OPTION_INT, &c->tenant_max_calls, "N",
         "Calls that one tenant may have in flight on this pod, unless the file of keys says "
         "otherwise. 0: no limit.",
         .max = 1000000},
        {"tenant-max-streams", 0, "SANDBOXD_TENANT_MAX_STREAMS", OPTION_INT, &c->tenant_max_streams,
         "N", "Of these, open streams. 0: no limit of their own.", .max = 1000000},
        {"tenant-creates-per-minute", 0, "SANDBOXD_TENANT_CREATES_PER_MINUTE", OPTION_INT,
         &c->tenant_creates_per_minute, "N",
         "Sandboxes that one tenant may create in a minute on this pod. 0: no limit.",
         .max = 1000000},

        {"log-level", 0, "SANDBOXD_LOG_LEVEL", OPTION_STRING, &c->log_level, "LEVEL",
         "What is logged: everything from this level on.", .choices = "debug info warn error",
         .section = "Seeing it"},
        {"log-format", 0, "SANDBOXD_LOG_FORMAT", OPTION_STRING, &c->log_format, "FORMAT",
         "How the log is written, to stderr: json is one object a line, text is for people.",
         .choices = "json text"},
        {"admin-listen", 0, "SANDBOXD_ADMIN_LISTEN", OPTION_STRING, &c->admin_listen, "HOST:PORT",
         "Where /metrics, /livez, /readyz, /version and /debug are served, in plain HTTP. HOST is "
         "numeric or localhost. The pages of /debug answer this machine only, whatever the "
         "address. Empty: there are none.",
         .by_default = "127.0.0.1:9464, or a free port where that is taken"},
        {"otlp-endpoint", 0, "OTEL_EXPORTER_OTLP_ENDPOINT", OPTION_STRING, &c->otlp_endpoint, "URL",
         "The OpenTelemetry collector that spans are sent to, by OTLP over HTTP in JSON: "
         "http://HOST:4318. Without it none are recorded; traces of callers are passed on all the "
         "same."},
        {"otlp-headers", 0, "OTEL_EXPORTER_OTLP_HEADERS", OPTION_STRING, &c->otlp_headers,
         "NAME=VALUE[,…]", "Headers of every request to the collector, such as its key.",
         .secret = true},
        {"service-name", 0, "OTEL_SERVICE_NAME", OPTION_STRING, &c->service_name, "NAME",
         "What this service is called in traces."},
        {"resource-attributes", 0, "OTEL_RESOURCE_ATTRIBUTES", OPTION_STRING,
         &c->resource_attributes, "KEY=VALUE[,…]",
         "What else is said of it there, such as k8s.pod.name=… and deployment.environment=…."},
        {"trace-sampler", 0, "OTEL_TRACES_SAMPLER", OPTION_STRING, &c->trace_sampler, "SAMPLER",
         "Which calls are traced. With parentbased the caller's decision stands, and the rest of "
         "the word is for calls that come without a trace.",
         .choices = "always_on always_off traceidratio parentbased_always_on "
                    "parentbased_always_off parentbased_traceidratio"},
        {"trace-ratio", 0, "OTEL_TRACES_SAMPLER_ARG", OPTION_STRING, &c->trace_ratio_text, "RATIO",
         "Of the ratio samplers: which part of all traces, from 0.0 to 1.0."},
        {NULL},
    };

    static_assert(sizeof(options) / sizeof(options[0]) <= CONFIG_OPTIONS_MAX, "room for the table");
    memcpy(c->options, options, sizeof(options));
}
