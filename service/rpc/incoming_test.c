#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "grpc/health/v1/health.pb-c.h"
#include "service/rpc/incoming.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define TYPE &grpc__health__v1__health_check_request__descriptor

enum { LIMIT = 4096, ZLIB = MAX_WBITS, GZIP = MAX_WBITS + 16 };

/* A request whose service is n letters long. */
static size_t make_request(uint8_t *to, size_t n)
{
    Grpc__Health__V1__HealthCheckRequest r = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    AUTO_FREE char *service = xcalloc(1, n + 1);

    memset(service, 's', n);
    r.service = service;
    return grpc__health__v1__health_check_request__pack(&r, to);
}

static size_t pack(const uint8_t *data, size_t len, uint8_t *to, size_t size, int format)
{
    z_stream z = {
        .next_in = (uint8_t *)data, .avail_in = (uInt)len, .next_out = to, .avail_out = (uInt)size};

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, format, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

/* In two slices, as it may come from the network. */
static ProtobufCMessage *receive(const uint8_t *data, size_t len, grpc_compression_algorithm how,
                                 struct status *st)
{
    grpc_slice slices[2] = {
        grpc_slice_from_copied_buffer((const char *)data, len / 2),
        grpc_slice_from_copied_buffer((const char *)data + len / 2, len - len / 2),
    };
    grpc_byte_buffer *buffer = grpc_raw_compressed_byte_buffer_create(slices, 2, how);
    ProtobufCMessage *m = incoming_unpack(TYPE, buffer, LIMIT, st);

    grpc_byte_buffer_destroy(buffer);
    grpc_slice_unref(slices[0]);
    grpc_slice_unref(slices[1]);
    return m;
}

static void expect_service(ProtobufCMessage *m, size_t len)
{
    assert_non_null(m);
    assert_int_equal(strlen(((Grpc__Health__V1__HealthCheckRequest *)m)->service), len);
    protobuf_c_message_free_unpacked(m, NULL);
}

static void test_plain_and_compressed_are_the_same(void **state)
{
    uint8_t plain[LIMIT], packed[LIMIT];
    struct status st = STATUS_INIT;
    size_t len = make_request(plain, 3000);

    expect_service(receive(plain, len, GRPC_COMPRESS_NONE, &st), 3000);
    expect_service(
        receive(packed, pack(plain, len, packed, sizeof(packed), GZIP), GRPC_COMPRESS_GZIP, &st),
        3000);
    expect_service(
        receive(packed, pack(plain, len, packed, sizeof(packed), ZLIB), GRPC_COMPRESS_DEFLATE, &st),
        3000);
}

static void test_the_limit_holds_after_decompression(void **state)
{
    uint8_t plain[2 * LIMIT], packed[LIMIT];
    struct status st = STATUS_INIT;
    size_t len = make_request(plain, LIMIT - 3);

    assert_int_equal(len, LIMIT);
    expect_service(
        receive(packed, pack(plain, len, packed, sizeof(packed), GZIP), GRPC_COMPRESS_GZIP, &st),
        LIMIT - 3);
    len = make_request(plain, LIMIT - 2);
    assert_null(
        receive(packed, pack(plain, len, packed, sizeof(packed), GZIP), GRPC_COMPRESS_GZIP, &st));
    assert_int_equal(st.code, CODE_RESOURCE_EXHAUSTED);
}

static void test_what_does_not_decompress_is_refused(void **state)
{
    uint8_t plain[LIMIT], packed[LIMIT];
    size_t len = make_request(plain, 3000), packed_len;
    struct status st = STATUS_INIT;

    assert_null(receive(plain, len, GRPC_COMPRESS_GZIP, &st));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
    packed_len = pack(plain, len, packed, sizeof(packed), GZIP);
    for (size_t cut = 0; cut < packed_len; cut++) {
        st = STATUS_INIT;
        assert_null(receive(packed, cut, GRPC_COMPRESS_GZIP, &st));
        assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
    }
}

static int setup(void **state)
{
    grpc_init();
    return 0;
}

static int teardown(void **state)
{
    grpc_shutdown();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_and_compressed_are_the_same),
        cmocka_unit_test(test_the_limit_holds_after_decompression),
        cmocka_unit_test(test_what_does_not_decompress_is_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
