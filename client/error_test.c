#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/error.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DETAILS = 4, ROOM = 4096 };

/* What a server would put into grpc-status-details-bin. */
struct trailer {
    uint8_t packed[MAX_DETAILS][ROOM];
    Google__Protobuf__Any any[MAX_DETAILS];
    Google__Protobuf__Any *all[MAX_DETAILS];
    size_t n;
    uint8_t bytes[MAX_DETAILS * ROOM];
    size_t len;
};

static void add(struct trailer *t, const char *type, const ProtobufCMessage *m)
{
    static char urls[MAX_DETAILS][80];
    Google__Protobuf__Any *any = &t->any[t->n];

    assert_true(t->n < MAX_DETAILS);
    snprintf(urls[t->n], sizeof(urls[0]), "type.googleapis.com/google.rpc.%s", type);
    google__protobuf__any__init(any);
    any->type_url = urls[t->n];
    any->value.len = protobuf_c_message_pack(m, t->packed[t->n]);
    any->value.data = t->packed[t->n];
    t->all[t->n++] = any;
}

static void finish(struct trailer *t)
{
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;

    status.n_details = t->n;
    status.details = t->all;
    t->len = google__rpc__status__pack(&status, t->bytes);
}

static struct sandbox_error decode(int code, const char *message, const struct trailer *t)
{
    struct sandbox_error err;

    error_decode(&err, code, message, strlen(message), t != NULL ? t->bytes : NULL,
                 t != NULL ? t->len : 0);
    return err;
}

static void add_info(struct trailer *t, const char *reason, const char *domain)
{
    Google__Rpc__ErrorInfo__MetadataEntry pair = GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry *pairs[] = {&pair};
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;

    pair.key = (char *)"limit_bytes";
    pair.value = (char *)"4194304";
    info.reason = (char *)reason;
    info.domain = (char *)domain;
    info.n_metadata = 1;
    info.metadata = pairs;
    add(t, "ErrorInfo", &info.base);
}

static void add_retry(struct trailer *t, int64_t seconds, int32_t nanos)
{
    Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;
    Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;

    delay.seconds = seconds;
    delay.nanos = nanos;
    retry.retry_delay = &delay;
    add(t, "RetryInfo", &retry.base);
}

static void test_all_details_are_read(void **state)
{
    Google__Rpc__BadRequest__FieldViolation violation =
        GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    Google__Rpc__BadRequest__FieldViolation *violations[] = {&violation};
    Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
    struct trailer t = {0};

    violation.field = (char *)"files[3].path";
    bad.n_field_violations = 1;
    bad.field_violations = violations;
    add_info(&t, "FILE_TOO_LARGE", "sandbox.v1");
    add_retry(&t, 1, 500000001);
    add(&t, "BadRequest", &bad.base);
    finish(&t);

    struct sandbox_error err = decode(SANDBOX_FAILED_PRECONDITION, "it does not fit", &t);

    assert_int_equal(err.code, SANDBOX_FAILED_PRECONDITION);
    assert_false(err.local);
    assert_string_equal(err.message, "it does not fit");
    assert_string_equal(err.reason, "FILE_TOO_LARGE");
    assert_string_equal(err.field, "files[3].path");
    assert_int_equal(err.retry_after_ms, 1501);
    assert_string_equal(sandbox_error_metadata(&err, "limit_bytes"), "4194304");
    assert_null(sandbox_error_metadata(&err, "limit"));
    assert_true(error_is_from_api(&err));
}

static void test_another_domain_is_not_ours(void **state)
{
    struct trailer t = {0};

    add_info(&t, "SANDBOX_NOT_FOUND", "googleapis.com");
    finish(&t);

    struct sandbox_error err = decode(SANDBOX_NOT_FOUND, "gone", &t);

    assert_string_equal(err.reason, "");
    assert_false(error_is_from_api(&err));
}

static void test_a_status_without_details_stands_alone(void **state)
{
    struct sandbox_error err = decode(SANDBOX_UNAVAILABLE, "", NULL);

    assert_int_equal(err.code, SANDBOX_UNAVAILABLE);
    assert_string_equal(err.message, "no reason was given");
    assert_string_equal(err.reason, "");
}

static void test_codes_that_are_none_are_unknown(void **state)
{
    assert_int_equal(decode(-1, "x", NULL).code, SANDBOX_UNKNOWN);
    assert_int_equal(decode(17, "x", NULL).code, SANDBOX_UNKNOWN);
    assert_string_equal(sandbox_code_name(SANDBOX_DATA_LOSS), "DATA_LOSS");
    assert_string_equal(sandbox_code_name((enum sandbox_code)99), "UNKNOWN");
}

/* Whatever the details hold, and wherever they are cut, the code and the message survive. */
static void test_broken_details_do_no_harm(void **state)
{
    struct trailer t = {0};

    add_info(&t, "POD_FULL", "sandbox.v1");
    add_retry(&t, 1, 0);
    finish(&t);
    for (size_t len = 0; len <= t.len; len++) {
        struct sandbox_error err;
        uint8_t *exact = test_malloc(len + 1);

        memcpy(exact, t.bytes, len);
        error_decode(&err, SANDBOX_UNAVAILABLE, "full", 4, exact, len);
        assert_int_equal(err.code, SANDBOX_UNAVAILABLE);
        assert_string_equal(err.message, "full");
        test_free(exact);
    }
    for (size_t at = 0; at < t.len; at++) {
        struct trailer bad = t;

        for (size_t i = 0; i < bad.n; i++)
            bad.all[i] = &bad.any[i];
        bad.bytes[at] ^= 0xff;
        assert_int_equal(decode(SANDBOX_UNAVAILABLE, "full", &bad).code, SANDBOX_UNAVAILABLE);
    }
}

static void test_texts_are_cut_and_made_utf8(void **state)
{
    struct trailer t = {0};
    char reason[200], message[2000];

    memset(reason, 'R', sizeof(reason) - 1);
    reason[sizeof(reason) - 1] = '\0';
    memset(message, 'm', sizeof(message) - 1);
    message[3] = (char)0xff;
    message[sizeof(message) - 1] = '\0';
    add_info(&t, reason, "sandbox.v1");
    finish(&t);

    struct sandbox_error err = decode(SANDBOX_INTERNAL, message, &t);

    assert_int_equal(strlen(err.reason), sizeof(err.reason) - 1);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
    assert_int_equal(err.message[3], '?');
}

static void test_delays_are_bounded(void **state)
{
    static const struct {
        int64_t seconds;
        int32_t nanos;
        int64_t ms;
    } cases[] = {
        {0, 1, 1},    {0, 250000000, 250}, {-1, 0, 0},
        {0, -1, 0},   {0, 1000000000, 0},  {INT64_MAX, 0, 24 * 60 * 60 * 1000},
        {2, 0, 2000},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct trailer t = {0};

        add_retry(&t, cases[i].seconds, cases[i].nanos);
        finish(&t);
        assert_int_equal(decode(SANDBOX_UNAVAILABLE, "x", &t).retry_after_ms, cases[i].ms);
    }
}

static void test_what_passes_and_what_does_not(void **state)
{
    static const struct {
        struct sandbox_error err;
        bool passing, refusal;
    } cases[] = {
        {{.code = SANDBOX_UNAVAILABLE}, true, false},
        {{.code = SANDBOX_UNAVAILABLE, .reason = "POD_DRAINING"}, true, true},
        {{.code = SANDBOX_UNAVAILABLE, .reason = "POD_FULL"}, true, true},
        {{.code = SANDBOX_UNAVAILABLE, .reason = "E2B_UNAVAILABLE"}, true, false},
        {{.code = SANDBOX_UNAVAILABLE, .reason = "SILENT", .local = true}, true, false},
        {{.code = SANDBOX_INTERNAL}, true, false}, /* RST_STREAM */
        {{.code = SANDBOX_INTERNAL, .reason = "INTERNAL"}, false, false},
        {{.code = SANDBOX_UNKNOWN}, true, false},
        {{.code = SANDBOX_CANCELLED}, true, false},
        {{.code = SANDBOX_CANCELLED, .reason = "STOPPED", .local = true}, false, false},
        {{.code = SANDBOX_RESOURCE_EXHAUSTED, .reason = "E2B_QUOTA"}, false, false},
        {{.code = SANDBOX_RESOURCE_EXHAUSTED, .reason = "E2B_QUOTA", .retry_after_ms = 10},
         true,
         false},
        {{.code = SANDBOX_RESOURCE_EXHAUSTED}, false, false}, /* a message over the limit */
        {{.code = SANDBOX_NOT_FOUND, .reason = "COMMAND_NOT_FOUND"}, false, false},
        {{.code = SANDBOX_DATA_LOSS, .reason = "SEQUENCE_GAP", .local = true}, false, false},
        {{.code = SANDBOX_DEADLINE_EXCEEDED}, false, false},
        {{.code = SANDBOX_UNIMPLEMENTED}, false, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (error_is_passing(&cases[i].err) != cases[i].passing ||
            error_is_refusal(&cases[i].err) != cases[i].refusal)
            fail_msg("case %zu: %s %s", i, sandbox_code_name(cases[i].err.code),
                     cases[i].err.reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_details_are_read),
        cmocka_unit_test(test_another_domain_is_not_ours),
        cmocka_unit_test(test_a_status_without_details_stands_alone),
        cmocka_unit_test(test_codes_that_are_none_are_unknown),
        cmocka_unit_test(test_broken_details_do_no_harm),
        cmocka_unit_test(test_texts_are_cut_and_made_utf8),
        cmocka_unit_test(test_delays_are_bounded),
        cmocka_unit_test(test_what_passes_and_what_does_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
