/*
 * E2B as handlers see it: sandboxes, files, and the recorder's verbs, all asynchronous. The only
 * code that calls libcurl is below this header, on threads of its own.
 *
 * Every operation starts with a struct e2b_op embedded in the caller's state. It ends exactly once,
 * by op->done() on the op's executor, whether it succeeded, failed, was cancelled, or ran into
 * op->deadline_ns; op->st then holds the outcome, already translated to the API's codes and
 * reasons. Until then the op and what was passed "borrowed until done" must stay where they are.
 * Retries where repeating is safe happen inside, within the deadline.
 */
#pragma once

#include "common/base/status.h"
#include "common/base/task.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct e2b;
struct metrics;
struct tracer;

enum { E2B_RECORDERS = 2 };

/* The recorder as built for one kind of machine. */
struct e2b_recorder {
    const char *machine;    /* as `uname -m` has it; NULL: there is none */
    const uint8_t *program; /* borrowed for the process's life, as all of it */
    size_t len;
};

struct e2b_config {
    const char *api_key;        /* E2B_API_KEY; NULL: every caller brings its own */
    const char *domain;         /* E2B_DOMAIN; "e2b.app" */
    const char *api_url;        /* E2B_API_URL; NULL: https://api.<domain> */
    const char *sandbox_url;    /* E2B_SANDBOX_URL; NULL: by the sandbox's own domain */
    const char *template;       /* E2B_TEMPLATE; "base" */
    int64_t request_timeout_ms; /* per attempt of a unary request; 60000 */
    int64_t lease_ms;           /* of a follower, before jitter; 600000 */
    int64_t threads;            /* 1 or 2 */
    size_t stream_buffer_bytes; /* per stream between the sandbox and the client; 65536 */
    size_t queue_bytes; /* in all streams together; beyond it each has but a block. 0: no bound */
    size_t read_file_max_bytes;                   /* larger files: FILE_TOO_LARGE */
    struct e2b_recorder recorders[E2B_RECORDERS]; /* of which the one that fits is installed */
    struct metrics *metrics;                      /* borrowed; NULL: nothing is counted */
    struct tracer *tracer;                        /* borrowed; NULL: no span is recorded */
};

bool e2b_new(const struct e2b_config *config, struct e2b **ret, struct status *st);
void e2b_free(struct e2b *e); /* no operation may be running */

/* Any thread: as much waits for slow readers as may; new streams had better go elsewhere. */
bool e2b_queue_is_full(const struct e2b *e);

/*
 * For whom an operation is done. With a tenant, sandboxes are stamped with its name, and those of
 * others do not exist: reading, changing or listing them ends as for an id that never was.
 */
struct e2b_caller {
    const char *tenant;           /* NULL: tenancy is off, everything of the account is visible */
    const char *api_key;          /* NULL: the configured one */
    const char *const *templates; /* that may be used, as create names them */
    size_t n_templates;           /* 0: all */
};

struct e2b_op {
    const struct e2b_caller *caller; /* borrowed until started; without one nothing is done */
    struct executor *executor;       /* where done runs; set before starting */
    void (*done)(struct e2b_op *op); /* set before starting */
    int64_t deadline_ns;             /* monotonic; INT64_MAX: none */
    bool lets_sleep;  /* a paused sandbox stays so, even one that wants to be woken by use */
    bool aside;       /* the same, and it is no use of the sandbox: it may go on to be idle */
    struct status st; /* the outcome, set before done */
    struct task task; /* private */
    void *request;    /* private */
};

/* Asks a running operation to end; done still comes (maybe with success, if it was too late). On
 * the executor's thread. */
void e2b_cancel(struct e2b_op *op);

/* --- sandboxes (control plane) --- */

struct e2b_pair {
    char *key, *value;
};

enum e2b_state { E2B_RUNNING, E2B_PAUSED };

/* What a sandbox may reach; where both lists fit, it may. */
struct e2b_network {
    char **allow_out, **deny_out;
    size_t n_allow_out, n_deny_out;
    bool deny_internet; /* all of it */
};

void e2b_network_deinit(struct e2b_network *network);

/* What is known of a sandbox. Strings are owned; e2b_sandbox_deinit frees them. Keys of metadata
 * that are sandboxd's own are included: the handler hides them. */
struct e2b_sandbox {
    char *id;
    char *template_id;
    enum e2b_state state;
    int64_t start_ns, end_ns; /* wall clock */
    int32_t cpu_count;
    int64_t memory_mib;
    struct e2b_pair *metadata;
    size_t n_metadata;
    char *domain;               /* NULL: none said */
    char *traffic_token;        /* NULL: none; only after create */
    bool auto_resume;           /* using it wakes it; not told in lists */
    int64_t idle_s;             /* it ends when it is not used for so long; 0: only by its time */
    int64_t lifetime_s;         /* it is not prolonged beyond by use; only with idle_s */
    bool public_traffic;        /* false: a traffic token is needed at its ports */
    struct e2b_network network; /* owned; empty in lists */
};

void e2b_sandbox_deinit(struct e2b_sandbox *s);

struct e2b_create_args {  /* borrowed until done */
    const char *template; /* NULL: the configured one */
    int64_t timeout_s;
    const struct e2b_pair *metadata;
    size_t n_metadata;
    const struct e2b_pair *envs;
    size_t n_envs;
    bool pause_on_timeout;
    bool auto_resume;                  /* once it is paused, using it wakes it */
    int64_t idle_s;                    /* at most E2B_KEEP_ALIVE_MAX_S; 0: none */
    const struct e2b_network *network; /* NULL: not restricted */
    const char *request_id; /* NULL: none; see design: one sandbox whatever the retries */
    const char *reuse_key;  /* NULL: none */
};

/* Creates, or finds by request_id or reuse_key. *ret is filled on success; *ret_reused says which.
 */
void e2b_create(struct e2b *e, struct e2b_op *op, const struct e2b_create_args *args,
                struct e2b_sandbox *ret, bool *ret_reused);

/* Neither prolongs nor wakes. */
void e2b_get(struct e2b *e, struct e2b_op *op, const char *sandbox_id, struct e2b_sandbox *ret);

struct e2b_list_args { /* borrowed until done */
    const struct e2b_pair *metadata;
    size_t n_metadata;
    bool running, paused;   /* both false: both */
    int limit;              /* 1..100 */
    const char *page_token; /* NULL or "": first page */
};

struct e2b_list {
    struct e2b_sandbox *items;
    size_t n_items;
    char *next_page_token; /* NULL: last page */
};

void e2b_list_deinit(struct e2b_list *l);
void e2b_list(struct e2b *e, struct e2b_op *op, const struct e2b_list_args *args,
              struct e2b_list *ret);

void e2b_delete(struct e2b *e, struct e2b_op *op, const char *sandbox_id);

/* Changes; *ret is the sandbox afterwards. Of a paused one the first two and the network cannot be
 * changed (SANDBOX_PAUSED). */
void e2b_set_timeout(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int64_t timeout_s,
                     struct e2b_sandbox *ret);
/* Never shortens. timeout_s: at most E2B_KEEP_ALIVE_MAX_S. */
void e2b_keep_alive(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int64_t timeout_s,
                    struct e2b_sandbox *ret);
/* One that is paused already is fine. */
void e2b_pause(struct e2b *e, struct e2b_op *op, const char *sandbox_id, bool discard_memory,
               struct e2b_sandbox *ret);
/* Of a running one it only prolongs the time. */
void e2b_resume(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int64_t timeout_s,
                struct e2b_sandbox *ret, bool *ret_resumed);
/* Replaces all of it; network is borrowed for the call alone. */
void e2b_set_network(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                     const struct e2b_network *network, struct e2b_sandbox *ret);

enum {
    E2B_KEEP_ALIVE_MAX_S = 3600,
    E2B_WOKEN_S = 600, /* what a sandbox gets that is woken by use, unless its idle time says it */
};

/* --- what a sandbox used --- */

struct e2b_sample {
    int64_t time_ns; /* wall clock */
    int32_t cpu_count;
    double cpu_used_percent;
    int64_t memory_used, memory_total, memory_cache; /* bytes */
    int64_t disk_used, disk_total;                   /* bytes */
};

struct e2b_metrics {
    struct e2b_sample *samples; /* owned; oldest first */
    size_t n_samples;
};

void e2b_metrics_deinit(struct e2b_metrics *m);

/* start_s, end_s: wall clock; 0: from the start, until now. */
void e2b_metrics(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int64_t start_s,
                 int64_t end_s, struct e2b_metrics *ret);

/* --- snapshots --- */

struct e2b_snapshot {
    char *id;     /* owned, as the names */
    char **names; /* owned */
    size_t n_names;
};

struct e2b_snapshots {
    struct e2b_snapshot *items; /* owned; newest first */
    size_t n_items;
    char *next_page_token; /* NULL: last page */
};

void e2b_snapshot_deinit(struct e2b_snapshot *s);
void e2b_snapshots_deinit(struct e2b_snapshots *l);

/* name: NULL for none. Strings are copied. */
void e2b_snapshot_create(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *name,
                         struct e2b_snapshot *ret);
/* sandbox_id: NULL for all; limit 1..100; page_token: NULL for the first page. Strings are copied.
 */
void e2b_snapshot_list(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int limit,
                       const char *page_token, struct e2b_snapshots *ret);
/* By its id or a name. E2B deletes templates in the same way, so it is looked for first. */
void e2b_snapshot_delete(struct e2b *e, struct e2b_op *op, const char *snapshot_id);

/* Where a port answers; *ret_url and *ret_host are owned by the caller, *ret_token too (NULL: no
 * token is needed). */
void e2b_port_url(struct e2b *e, struct e2b_op *op, const char *sandbox_id, unsigned port,
                  char **ret_url, char **ret_host, char **ret_token);

/* --- the platform's log of a sandbox --- */

enum { E2B_LOGS_PAGE = 1000, E2B_LOGS_MAX = 32 * 1024 * 1024 };

struct e2b_logs_args {
    bool backward;   /* the newest first, instead of from from_ms on, the oldest first */
    int64_t from_ms; /* wall clock */
    int limit;       /* 1..E2B_LOGS_PAGE */
};

struct e2b_log_entry {
    int64_t time_ns; /* wall clock */
    char *text;      /* owned; one line, UTF-8, without its newline */
};

struct e2b_logs {
    struct e2b_log_entry *entries; /* owned */
    size_t n_entries;
};

void e2b_logs_deinit(struct e2b_logs *l);

/* One page. A sandbox that never was has an empty log. Copies args. */
void e2b_logs(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
              const struct e2b_logs_args *args, struct e2b_logs *ret);

/* --- files (in the sandbox) --- */

struct e2b_file { /* borrowed until done */
    const char *path;
    const uint8_t *data;
    size_t len;
    uint32_t mode; /* 0: leave */
};

/* paths_out[i]: owned by the caller, the absolute path E2B reports; room for n. */
void e2b_write_files(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                     const struct e2b_file *files, size_t n, char **paths_out);

/* *ret_data is owned by the caller. */
void e2b_read_file(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                   const char *path, uint8_t **ret_data, size_t *ret_len);

/*
 * A file written by a stream whose length is not known: what is there stays, as far as it came,
 * when the stream breaks. Nothing is repeated inside. The bytes are queued: stop writing while
 * e2b_upload_is_full(), go on when `writable` was called (on op->executor). op->done comes after
 * e2b_upload_end() when E2B has taken all of it, or at any time with a failure; later writes are
 * dropped then.
 */
struct e2b_upload;

struct e2b_upload *e2b_upload_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                    const char *user, const char *path,
                                    void (*writable)(struct e2b_op *op));
void e2b_upload_write(struct e2b_upload *u, const uint8_t *data, size_t len); /* copies */
bool e2b_upload_is_full(struct e2b_upload *u);
void e2b_upload_end(struct e2b_upload *u);
/* After done only. */
void e2b_upload_free(struct e2b_upload *u);

/* A URL by which anybody reads (or writes) the file until expire_s (wall clock). user: "" for the
 * template's. *ret_url is owned by the caller. */
void e2b_file_url(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                  const char *path, bool write, int64_t expire_s, char **ret_url);

/* --- the recorder (in the sandbox) --- */

/*
 * Runs one verb of the recorder (common/journal/verbs.h) to its end and collects its output. The
 * recorder is installed when it is missing. args: without the program, NULL-terminated. spec: bytes
 * of a SpecFile to send along, whose path is appended as "--spec=…"; NULL for none. idempotent:
 * may be repeated when it is not known whether it ran.
 * op->st is OK when the verb ran, whatever its exit code; ret->exit_code says how it went.
 */
struct e2b_output {
    int exit_code; /* enum recorder_exit */
    uint8_t *out;  /* owned */
    size_t out_len;
    char err[512]; /* the sentence on stderr, made valid UTF-8 */
};

enum { E2B_OUTPUT_MAX = 4 * 1024 * 1024 };

void e2b_verb(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *const *args,
              const uint8_t *spec, size_t spec_len, bool idempotent, struct e2b_output *ret);

/* The same for a verb that may take as long as a follower. */
void e2b_long_verb(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                   const char *const *args, bool idempotent, struct e2b_output *ret);

/*
 * The same for a verb that only looks, without a spec: where no command ever ran, nothing is
 * installed, and ret->exit_code is E2B_NO_COMMANDS.
 */
enum { E2B_NO_COMMANDS = -1 };

void e2b_look(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *const *args,
              struct e2b_output *ret);

/*
 * One follower: a verb whose stdout is read as it comes, with backpressure. op->done comes when it
 * ended: OK with *ret as e2b_verb has it (ret->out stays NULL), or a failure of the way to it;
 * bytes that arrived before can still be taken then. A follower also ends when its lease is over:
 * that looks like a failure with CODE_UNAVAILABLE, and the caller starts another one.
 */
struct e2b_stream;

/* readable: bytes can be taken, or more of them; on op->executor. Copies its arguments. */
struct e2b_stream *e2b_stream_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                    const char *const *args, const uint8_t *spec, size_t spec_len,
                                    void (*readable)(struct e2b_op *op), struct e2b_output *ret);

/*
 * The same for a verb that is also written to, without a spec. It is never started twice and has no
 * lease: it must end by itself when nobody is there any more.
 */
struct e2b_stream *e2b_talk_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                  const char *const *args, void (*readable)(struct e2b_op *op),
                                  struct e2b_output *ret);

/* Its process; known as soon as bytes can be taken. */
uint32_t e2b_stream_pid(struct e2b_stream *s);

/* What is written to a process's stdin, as e2b_upload_…() has it, but with e2b_input_write(). op is
 * another than the stream's. A process that does not read may take any time. */
struct e2b_upload *e2b_input_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                   uint32_t pid, void (*writable)(struct e2b_op *op));
void e2b_input_write(struct e2b_upload *u, const uint8_t *data, size_t len); /* copies */

/* Takes what has arrived: a malloc'ed block that is the caller's then (*ret_base), whose bytes
 * start at headroom (so that the caller can put the rest of a cut frame in front). False: nothing
 * there. On the executor's thread. Taking is what lets the sandbox send more. */
bool e2b_stream_take(struct e2b_stream *s, size_t headroom, uint8_t **ret_base, size_t *ret_len);

/* After done only. */
void e2b_stream_free(struct e2b_stream *s);
