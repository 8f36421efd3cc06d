#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/handlers/descriptors.h"

static void test_symbols_are_in_their_files(void **state)
{
    static const struct {
        const char *symbol, *file; /* NULL: there is no such symbol */
    } cases[] = {
        {"sandbox.v1.SandboxService", "sandbox/v1/sandbox_service.proto"},
        {"sandbox.v1.SandboxService.RunCommand", "sandbox/v1/sandbox_service.proto"},
        {"sandbox.v1.RunCommandRequest", "sandbox/v1/commands.proto"},
        {"sandbox.v1.RunCommandRequest.command_id", "sandbox/v1/commands.proto"},
        {"sandbox.v1.RunCommandRequest.command", "sandbox/v1/commands.proto"},
        {"sandbox.v1.Exited.Reason", "sandbox/v1/commands.proto"},
        {"sandbox.v1.Exited.REASON_LOST", "sandbox/v1/commands.proto"},
        {"sandbox.v1.Encoding", "sandbox/v1/files.proto"},
        {"sandbox.v1.ENCODING_TEXT", "sandbox/v1/files.proto"},
        {"sandbox.v1.ErrorReason", "sandbox/v1/errors.proto"},
        {"google.rpc.ErrorInfo", "google/rpc/error_details.proto"},
        {"google.protobuf.Timestamp", "google/protobuf/timestamp.proto"},
        {"grpc.health.v1.Health.Check", "grpc/health/v1/health.proto"},
        {"grpc.reflection.v1alpha.ServerReflection", "grpc/reflection/v1alpha/reflection.proto"},
        {"sandbox.v1.Encoding.ENCODING_TEXT", NULL},
        {"sandbox.v1", NULL},
        {"SandboxService", NULL},
        {".sandbox.v1.SandboxService", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct descriptor_file *file = descriptors_by_symbol(cases[i].symbol);

        if (cases[i].file == NULL) {
            assert_null(file);
            continue;
        }
        assert_non_null(file);
        assert_ptr_equal(file, descriptors_by_name(cases[i].file));
    }
}

static void test_unknown_files_are_not_there(void **state)
{
    assert_null(descriptors_by_name("no/such.proto"));
    assert_null(descriptors_by_name(""));
}

static size_t place(const struct descriptor_file *const *list, size_t n, const char *name)
{
    const struct descriptor_file *file = descriptors_by_name(name);

    for (size_t i = 0; i < n; i++) {
        if (list[i] == file)
            return i;
    }
    return n;
}

static void test_imports_follow_each_once(void **state)
{
    static const char *const imports[] = {
        "sandbox/v1/attach.proto",        "sandbox/v1/commands.proto",
        "sandbox/v1/errors.proto",        "sandbox/v1/files.proto",
        "sandbox/v1/sandbox.proto",       "sandbox/v1/trees.proto",
        "google/protobuf/duration.proto", "google/protobuf/timestamp.proto"};
    const struct descriptor_file *found[DESCRIPTORS_MAX];
    size_t n =
        descriptors_with_imports(descriptors_by_name("sandbox/v1/sandbox_service.proto"), found);

    assert_int_equal(n, 14);
    assert_int_equal(place(found, n, "sandbox/v1/sandbox_service.proto"), 0);
    for (size_t i = 0; i < sizeof(imports) / sizeof(imports[0]); i++)
        assert_in_range(place(found, n, imports[i]), 1, n - 1);
    assert_int_equal(
        descriptors_with_imports(descriptors_by_name("grpc/health/v1/health.proto"), found), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_symbols_are_in_their_files),
        cmocka_unit_test(test_unknown_files_are_not_there),
        cmocka_unit_test(test_imports_follow_each_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
