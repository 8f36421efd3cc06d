#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "recorder/v1/recorder.pb-c.h"
#include "service/handlers/command_spec.h"
#include "service/trace/trace.h"

#include <stdlib.h>
#include <string.h>

struct made {
    uint8_t *bytes; /* owned */
    size_t len;
    uint8_t digest[COMMAND_DIGEST_LEN];
    struct status st;
};

static bool make_traced(const Sandbox__V1__RunCommandRequest *r, const struct trace *trace,
                        struct made *m)
{
    *m = (struct made){0};
    return command_spec_make(r, "c1", trace, &m->bytes, &m->len, m->digest, &m->st);
}

static bool make(const Sandbox__V1__RunCommandRequest *r, struct made *m)
{
    return make_traced(r, NULL, m);
}

static Sandbox__V1__RunCommandRequest shell(const char *line)
{
    Sandbox__V1__RunCommandRequest r = SANDBOX__V1__RUN_COMMAND_REQUEST__INIT;

    r.sandbox_id = (char *)"isandbox";
    r.command_case = SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_SHELL;
    r.shell = (char *)line;
    return r;
}

typedef Sandbox__V1__RunCommandRequest__EnvsEntry env_entry;

static env_entry env(const char *name, const char *value)
{
    env_entry e = SANDBOX__V1__RUN_COMMAND_REQUEST__ENVS_ENTRY__INIT;

    e.key = (char *)name;
    e.value = (char *)value;
    return e;
}

static void test_a_spec_is_whole_and_has_the_defaults(void **state)
{
    Sandbox__V1__RunCommandRequest r = shell("make -j2");
    struct made m;

    assert_true(make(&r, &m));

    Recorder__V1__SpecFile *file = recorder__v1__spec_file__unpack(NULL, m.len, m.bytes);

    assert_non_null(file);
    assert_string_equal(file->end, "end");
    assert_int_equal(file->command->n_args, 4);
    assert_string_equal(file->command->args[0], "/bin/bash");
    assert_string_equal(file->command->args[3], "make -j2");
    assert_string_equal(file->command->command_id, "c1");
    assert_string_equal(file->command->sandbox_id, "isandbox");
    assert_int_equal(file->command->max_journal_bytes, 64 << 20);
    assert_int_equal(file->command->overflow, SANDBOX__V1__OVERFLOW__OVERFLOW_KEEP_UP);
    assert_int_equal(file->command->timeout_ms, 0);
    assert_memory_equal(file->command->digest.data, m.digest, COMMAND_DIGEST_LEN);
    recorder__v1__spec_file__free_unpacked(file, NULL);
    free(m.bytes);
}

static void test_the_digest_is_of_what_runs_not_of_how_it_is_read(void **state)
{
    env_entry a = env("A", "1"), b = env("B", "2");
    env_entry *forth[] = {&a, &b}, *back[] = {&b, &a};
    Sandbox__V1__RunCommandRequest r = shell("make");
    struct made first, second;

    r.envs = forth;
    r.n_envs = 2;
    assert_true(make(&r, &first));
    r.envs = back;
    r.from_seq = 77;
    r.encoding = SANDBOX__V1__ENCODING__ENCODING_TEXT;
    r.overflow = SANDBOX__V1__OVERFLOW__OVERFLOW_KEEP_UP; /* what unset means */
    assert_true(make(&r, &second));
    assert_memory_equal(first.digest, second.digest, COMMAND_DIGEST_LEN);
    free(second.bytes);

    b.value = (char *)"3";
    assert_true(make(&r, &second));
    assert_memory_not_equal(first.digest, second.digest, COMMAND_DIGEST_LEN);
    free(second.bytes);
    free(first.bytes);
}

typedef Sandbox__V1__RunCommandRequest__LabelsEntry label_entry;

static label_entry label(const char *key, const char *value)
{
    label_entry e = SANDBOX__V1__RUN_COMMAND_REQUEST__LABELS_ENTRY__INIT;

    e.key = (char *)key;
    e.value = (char *)value;
    return e;
}

static void test_what_runs_in_a_terminal_is_in_the_spec(void **state)
{
    Sandbox__V1__RunCommandRequest r = shell("vim");
    Sandbox__V1__TerminalSize size = SANDBOX__V1__TERMINAL_SIZE__INIT;
    Sandbox__V1__ResourceLimits limits = SANDBOX__V1__RESOURCE_LIMITS__INIT;
    Google__Protobuf__Duration cpu = GOOGLE__PROTOBUF__DURATION__INIT, idle = cpu, grace = cpu;
    label_entry b = label("b", "2"), a = label("a", "x=y");
    label_entry *labels[] = {&b, &a};
    Recorder__V1__SpecFile *file;
    Recorder__V1__CommandSpec *spec;
    struct made m, plain;

    size.cols = 132; /* rows: as most have them */
    r.pty = &size;
    r.stdin = true; /* says nothing more */
    cpu.nanos = 1;
    limits.cpu_time = &cpu;
    limits.memory_bytes = 1 << 30;
    limits.open_files = 8;
    limits.processes = 3;
    limits.file_size_bytes = 4;
    r.limits = &limits;
    idle.nanos = 500000000;
    r.idle_timeout = &idle;
    grace.seconds = 1;
    r.kill_grace = &grace;
    r.labels = labels;
    r.n_labels = 2;
    assert_true(make(&r, &m));
    file = recorder__v1__spec_file__unpack(NULL, m.len, m.bytes);
    assert_non_null(file);
    spec = file->command;
    assert_true(spec->terminal);
    assert_int_equal(spec->cols, 132);
    assert_int_equal(spec->rows, 24);
    assert_false(spec->stdin);
    assert_int_equal(spec->limit_cpu, 1); /* rounded up */
    assert_int_equal(spec->limit_memory, 1 << 30);
    assert_int_equal(spec->limit_files + spec->limit_processes + spec->limit_file_size, 15);
    assert_int_equal(spec->idle_timeout_ms, 500);
    assert_int_equal(spec->grace_ms, 1000);
    assert_int_equal(spec->n_labels, 2);
    assert_string_equal(spec->labels[0], "a=x=y");
    recorder__v1__spec_file__free_unpacked(file, NULL);

    /* A label is a name for it, and no part of what must agree. */
    r.n_labels = 0;
    r.stdin = false;
    assert_true(make(&r, &plain));
    assert_memory_equal(m.digest, plain.digest, COMMAND_DIGEST_LEN);
    free(plain.bytes);
    size.rows = 25;
    assert_true(make(&r, &plain));
    assert_memory_not_equal(m.digest, plain.digest, COMMAND_DIGEST_LEN);
    free(plain.bytes);
    free(m.bytes);
}

static void expect_refused(const Sandbox__V1__RunCommandRequest *r, const char *field)
{
    struct made m;

    assert_false(make(r, &m));
    assert_int_equal(m.st.code, CODE_INVALID_ARGUMENT);
    assert_string_equal(m.st.field, field);
    assert_null(m.bytes);
}

static void test_bad_requests_name_the_field(void **state)
{
    Sandbox__V1__RunCommandRequest r = shell("");
    Sandbox__V1__Argv none = SANDBOX__V1__ARGV__INIT;
    env_entry bad = env("A=B", "1");
    env_entry *envs[] = {&bad};
    Google__Protobuf__Duration negative = GOOGLE__PROTOBUF__DURATION__INIT;

    expect_refused(&r, "shell");
    r.command_case = SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND__NOT_SET;
    expect_refused(&r, "command");
    r.command_case = SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_ARGV;
    r.argv = &none;
    expect_refused(&r, "argv.args");

    AUTO_FREE char *long_line = malloc(200001);

    memset(long_line, 'x', 200000);
    long_line[200000] = '\0';
    r = shell(long_line);
    expect_refused(&r, "command");

    r = shell("make");
    r.envs = envs;
    r.n_envs = 1;
    expect_refused(&r, "envs");
    r.n_envs = 0;
    negative.seconds = -1;
    r.timeout = &negative;
    expect_refused(&r, "timeout");
    negative.seconds = INT64_MAX;
    expect_refused(&r, "timeout");
    r.timeout = NULL;
    r.max_journal_bytes = 1000;
    expect_refused(&r, "max_journal_bytes");
    r.max_journal_bytes = 0;
    r.overflow = 9;
    expect_refused(&r, "overflow");
    r.overflow = 0;
    r.user = (char *)"root; rm";
    expect_refused(&r, "user");
    r.user = (char *)"";

    Sandbox__V1__TerminalSize size = SANDBOX__V1__TERMINAL_SIZE__INIT;
    Sandbox__V1__ResourceLimits limits = SANDBOX__V1__RESOURCE_LIMITS__INIT;
    Google__Protobuf__Duration tiny = GOOGLE__PROTOBUF__DURATION__INIT;
    label_entry no_key = label("", "x");
    label_entry *labels[] = {&no_key};

    size.rows = 1001;
    r.pty = &size;
    expect_refused(&r, "pty");
    r.pty = NULL;
    limits.memory_bytes = 1 << 20;
    r.limits = &limits;
    expect_refused(&r, "limits.memory_bytes");
    limits.memory_bytes = 0;
    limits.open_files = 3;
    expect_refused(&r, "limits.open_files");
    r.limits = NULL;
    tiny.nanos = 1000000;
    r.idle_timeout = &tiny;
    expect_refused(&r, "idle_timeout");
    r.idle_timeout = NULL;
    tiny.nanos = 0;
    r.kill_grace = &tiny;
    expect_refused(&r, "kill_grace");
    r.kill_grace = NULL;
    r.labels = labels;
    r.n_labels = 1;
    expect_refused(&r, "labels");
}

static void test_made_ids_are_ids_and_differ(void **state)
{
    char a[COMMAND_ID_MADE_LEN + 1], b[COMMAND_ID_MADE_LEN + 1];

    command_id_make(a);
    command_id_make(b);
    assert_int_equal(strspn(a, "0123456789abcdef"), COMMAND_ID_MADE_LEN);
    assert_string_not_equal(a, b);
}

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void assert_envs(const struct made *m, const char *const *envs, size_t n)
{
    Recorder__V1__SpecFile *file = recorder__v1__spec_file__unpack(NULL, m->len, m->bytes);

    assert_int_equal(file->command->n_envs, n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(file->command->envs[i], envs[i]);
    recorder__v1__spec_file__free_unpacked(file, NULL);
}

/* The command learns of the trace; the same step of another trace is still the same. */
static void test_a_trace_is_passed_on_and_not_digested(void **state)
{
    struct trace *trace = trace_parse(TRACEPARENT, "a=1");
    env_entry mine = env("X", "1"), theirs = env("TRACEPARENT", "my own");
    env_entry *list[] = {&mine}, *both[] = {&theirs, &mine};
    Sandbox__V1__RunCommandRequest r = shell("true");
    struct made with, without, own;

    r.envs = list;
    r.n_envs = 1;
    assert_true(make_traced(&r, trace, &with));
    assert_true(make(&r, &without));
    assert_memory_equal(with.digest, without.digest, COMMAND_DIGEST_LEN);
    assert_envs(&with, (const char *[]){"X=1", "TRACEPARENT=" TRACEPARENT, "TRACESTATE=a=1"}, 3);
    assert_envs(&without, (const char *[]){"X=1"}, 1);

    r.envs = both;
    r.n_envs = 2;
    assert_true(make_traced(&r, trace, &own));
    assert_envs(&own, (const char *[]){"TRACEPARENT=my own", "X=1"}, 2);
    free(with.bytes);
    free(without.bytes);
    free(own.bytes);
    trace_unref(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_spec_is_whole_and_has_the_defaults),
        cmocka_unit_test(test_a_trace_is_passed_on_and_not_digested),
        cmocka_unit_test(test_the_digest_is_of_what_runs_not_of_how_it_is_read),
        cmocka_unit_test(test_what_runs_in_a_terminal_is_in_the_spec),
        cmocka_unit_test(test_bad_requests_name_the_field),
        cmocka_unit_test(test_made_ids_are_ids_and_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
