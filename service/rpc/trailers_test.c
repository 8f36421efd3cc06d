#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/rpc/trailers.h"

#include <grpc/grpc.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { TRAILERS_BYTES_MAX = 6 * 1024 };

static const grpc_metadata *find(const struct trailers *t, const char *key)
{
    for (size_t i = 0; i < t->n; i++) {
        if (grpc_slice_str_cmp(t->items[i].key, key) == 0)
            return &t->items[i];
    }
    return NULL;
}

static Google__Rpc__Status *details_of(const struct trailers *t)
{
    const grpc_metadata *m = find(t, "grpc-status-details-bin");
    Google__Rpc__Status *status;

    assert_non_null(m);
    status = google__rpc__status__unpack(NULL, GRPC_SLICE_LENGTH(m->value),
                                         GRPC_SLICE_START_PTR(m->value));
    assert_non_null(status);
    return status;
}

/* The one detail of this type, unpacked; NULL when there is none. */
static void *detail(const Google__Rpc__Status *status, const char *type,
                    const ProtobufCMessageDescriptor *descriptor)
{
    void *found = NULL;

    for (size_t i = 0; i < status->n_details; i++) {
        const Google__Protobuf__Any *any = status->details[i];

        if (strcmp(strrchr(any->type_url, '.') + 1, type) != 0)
            continue;
        assert_null(found);
        found = protobuf_c_message_unpack(descriptor, NULL, any->value.len, any->value.data);
        assert_non_null(found);
    }
    return found;
}

static void test_success_has_the_request_id_alone(void **state)
{
    AUTO(trailers_deinit) struct trailers t;

    trailers_init(&t, &STATUS_INIT, "abc");
    assert_int_equal(t.n, 1);
    assert_int_equal(grpc_slice_str_cmp(find(&t, "x-request-id")->value, "abc"), 0);
}

/* Every reason of the .proto goes out under its own name. */
static void test_reasons_go_out_by_name(void **state)
{
    const ProtobufCEnumDescriptor *reasons = &sandbox__v1__error_reason__descriptor;

    for (unsigned i = 0; i < reasons->n_values; i++) {
        AUTO(trailers_deinit) struct trailers t;
        struct status st;
        Google__Rpc__Status *status;
        Google__Rpc__ErrorInfo *info;

        status_set(&st, CODE_ABORTED, reasons->values[i].value, "no");
        trailers_init(&t, &st, "");
        assert_null(find(&t, "x-request-id"));
        assert_null(find(&t, "grpc-retry-pushback-ms"));
        status = details_of(&t);
        assert_int_equal(status->code, CODE_ABORTED);
        info = detail(status, "ErrorInfo", &google__rpc__error_info__descriptor);
        assert_string_equal(info->domain, "sandbox.v1");
        assert_string_equal(info->reason, reasons->values[i].value == 0
                                              ? "INTERNAL"
                                              : reasons->values[i].name + strlen("ERROR_REASON_"));
        google__rpc__error_info__free_unpacked(info, NULL);
        google__rpc__status__free_unpacked(status, NULL);
    }
}

static void test_an_error_names_its_call(void **state)
{
    AUTO(trailers_deinit) struct trailers t;
    struct status st;

    status_set(&st, CODE_INTERNAL, 0, "no");
    trailers_init(&t, &st, "abc");

    Google__Rpc__Status *status = details_of(&t);
    Google__Rpc__RequestInfo *info =
        detail(status, "RequestInfo", &google__rpc__request_info__descriptor);

    assert_string_equal(info->request_id, "abc");
    google__rpc__request_info__free_unpacked(info, NULL);
    google__rpc__status__free_unpacked(status, NULL);
}

static void test_a_field_becomes_a_bad_request(void **state)
{
    AUTO(trailers_deinit) struct trailers t;
    struct status st;

    status_bad_field(&st, REASON(INVALID_FIELD), "files[3].path", "path has a NUL byte in it");
    trailers_init(&t, &st, "");

    Google__Rpc__Status *status = details_of(&t);
    Google__Rpc__BadRequest *bad =
        detail(status, "BadRequest", &google__rpc__bad_request__descriptor);

    assert_int_equal(bad->n_field_violations, 1);
    assert_string_equal(bad->field_violations[0]->field, "files[3].path");
    assert_string_equal(bad->field_violations[0]->description, st.message);
    google__rpc__bad_request__free_unpacked(bad, NULL);
    google__rpc__status__free_unpacked(status, NULL);
}

static void test_a_quota_says_when_to_come_back(void **state)
{
    AUTO(trailers_deinit) struct trailers t;
    struct status st;

    status_set(&st, CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA), "too many");
    st.retry_ms = 2750;
    trailers_init(&t, &st, "");

    Google__Rpc__Status *status = details_of(&t);
    Google__Rpc__RetryInfo *retry =
        detail(status, "RetryInfo", &google__rpc__retry_info__descriptor);
    Google__Rpc__QuotaFailure *quota =
        detail(status, "QuotaFailure", &google__rpc__quota_failure__descriptor);

    assert_int_equal(retry->retry_delay->seconds, 2);
    assert_int_equal(retry->retry_delay->nanos, 750000000);
    assert_string_equal(quota->violations[0]->description, "too many");
    assert_int_equal(grpc_slice_str_cmp(find(&t, "grpc-retry-pushback-ms")->value, "2750"), 0);
    google__rpc__retry_info__free_unpacked(retry, NULL);
    google__rpc__quota_failure__free_unpacked(quota, NULL);
    google__rpc__status__free_unpacked(status, NULL);
}

/* As HTTP/2 counts a header list: names, values, 32 for each. Binary goes as base64, and of the
 * message every byte may need three. */
static size_t size_on_the_wire(const struct trailers *t)
{
    size_t size = strlen("grpc-message") + 3 * GRPC_SLICE_LENGTH(t->message) + 32;

    size += strlen("grpc-status") + 2 + 32;
    for (size_t i = 0; i < t->n; i++)
        size += GRPC_SLICE_LENGTH(t->items[i].key) + 4 * GRPC_SLICE_LENGTH(t->items[i].value) / 3 +
                4 + 32;
    return size;
}

static void test_the_largest_status_fits_every_client(void **state)
{
    AUTO(trailers_deinit) struct trailers t;
    char text[1024], id[129];
    struct status st;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memset(id, 'i', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    status_bad_field(&st, REASON(E2B_QUOTA), text, "%s", text);
    for (int i = 0; i < STATUS_DETAILS; i++)
        status_detail(&st, text, "%s", text);
    st.retry_ms = INT64_MAX;
    trailers_init(&t, &st, id);
    assert_in_range(size_on_the_wire(&t), 4000, TRAILERS_BYTES_MAX);
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
        cmocka_unit_test(test_success_has_the_request_id_alone),
        cmocka_unit_test(test_reasons_go_out_by_name),
        cmocka_unit_test(test_an_error_names_its_call),
        cmocka_unit_test(test_a_field_becomes_a_bad_request),
        cmocka_unit_test(test_a_quota_says_when_to_come_back),
        cmocka_unit_test(test_the_largest_status_fits_every_client),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
