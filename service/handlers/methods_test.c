/*
 * protobuf-c's service descriptors do not tell which methods stream, so the table says it again;
 * here both are held against the .proto files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/journal/pb.h"
#include "service/handlers/descriptors.h"
#include "service/handlers/methods.h"
#include "service/rpc/server.h"

#include <string.h>

/* Field numbers of FileDescriptorProto, ServiceDescriptorProto and MethodDescriptorProto. */
enum { FILE_SERVICE = 6, ANY_NAME = 1, SERVICE_METHOD = 2, CLIENT_STREAMS = 5, SERVER_STREAMS = 6 };

static bool has_name(struct pb_field *thing, const char *name)
{
    struct pb_reader r = pb_reader(thing->data, thing->len);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (f.number == ANY_NAME)
            return f.len == strlen(name) && memcmp(f.data, name, f.len) == 0;
    }
    return false;
}

static bool find_part(const uint8_t *data, size_t len, uint32_t number, const char *name,
                      struct pb_field *ret)
{
    struct pb_reader r = pb_reader(data, len);

    while (pb_next(&r, ret)) {
        if (ret->number == number && has_name(ret, name))
            return true;
    }
    return false;
}

static bool flag(const struct pb_field *method, uint32_t number)
{
    struct pb_reader r = pb_reader(method->data, method->len);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (f.number == number)
            return f.value != 0;
    }
    return false;
}

static void test_kinds_are_those_of_the_protos(void **state)
{
    for (size_t i = 0; i < n_methods; i++) {
        const struct method *m = &methods[i];
        const struct descriptor_file *file = descriptors_by_symbol(m->service->name);
        struct pb_field service, method;

        assert_non_null(file);
        assert_true(
            find_part(file->data, file->len, FILE_SERVICE, m->service->short_name, &service));
        assert_true(find_part(service.data, service.len, SERVICE_METHOD, m->name, &method));
        assert_int_equal(flag(&method, CLIENT_STREAMS), method_takes_stream(m->kind));
        assert_int_equal(flag(&method, SERVER_STREAMS),
                         m->kind == METHOD_SERVER_STREAM || m->kind == METHOD_BIDI);
        assert_non_null(m->start);
    }
}

/* Reflection lists a service where its rows begin. */
static void test_rows_of_a_service_stand_together(void **state)
{
    for (size_t i = 1; i < n_methods; i++) {
        if (methods[i].service == methods[i - 1].service)
            continue;
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(methods[j].service, methods[i].service);
    }
}

static void test_the_server_takes_the_table(void **state)
{
    const struct server_config config = {
        .listen = "127.0.0.1:0",
        .workers = 1,
        .max_message_bytes = 4 << 20,
        .methods = methods,
        .n_methods = n_methods,
    };
    struct server *server = NULL;
    struct status st = STATUS_INIT;

    rpc_init();
    assert_true(server_new(&config, &server, &st));
    server_free(server);
    rpc_deinit();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_are_those_of_the_protos),
        cmocka_unit_test(test_rows_of_a_service_stand_together),
        cmocka_unit_test(test_the_server_takes_the_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
