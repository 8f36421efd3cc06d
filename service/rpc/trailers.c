/*
 * See trailers.h. grpc-status-details-bin is a google.rpc.Status: ErrorInfo on every error, and
 * RetryInfo, BadRequest, QuotaFailure and RequestInfo where they apply (AIP-193). Everything in a
 * struct status is bounded, so the trailers stay far below the 8 KiB that clients and proxies
 * accept.
 */
#include "service/rpc/trailers.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPE_URL "type.googleapis.com/google.rpc."

enum { DETAILS_MAX = 5, REASON_PREFIX_LEN = sizeof("ERROR_REASON_") - 1 };

/* The details of one status; each packed message is owned. */
struct details {
    Google__Protobuf__Any any[DETAILS_MAX];
    Google__Protobuf__Any *list[DETAILS_MAX];
    size_t n;
};

static void details_deinit(struct details *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->any[i].value.data);
}

static void add(struct details *d, const char *type_url, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    Google__Protobuf__Any *any = &d->any[d->n];

    google__protobuf__any__init(any);
    any->type_url = (char *)type_url;
    any->value.data = xmalloc(len);
    any->value.len = protobuf_c_message_pack(message, any->value.data);
    d->list[d->n++] = any;
}

static const char *reason_name(int reason)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&sandbox__v1__error_reason__descriptor, reason);

    return value != NULL && reason != 0 ? value->name + REASON_PREFIX_LEN : "INTERNAL";
}

static void add_error_info(struct details *d, const struct status *st)
{
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry entries[STATUS_DETAILS], *list[STATUS_DETAILS];

    info.reason = (char *)reason_name(st->reason);
    info.domain = (char *)"sandbox.v1";
    info.metadata = list;
    for (size_t i = 0; i < STATUS_DETAILS && st->detail[i].key[0] != '\0'; i++) {
        google__rpc__error_info__metadata_entry__init(&entries[i]);
        entries[i].key = (char *)st->detail[i].key;
        entries[i].value = (char *)st->detail[i].value;
        list[info.n_metadata++] = &entries[i];
    }
    add(d, TYPE_URL "ErrorInfo", &info.base);
}

static void add_retry_info(struct details *d, const struct status *st)
{
    Google__Rpc__RetryInfo retry = GOOGLE__RPC__RETRY_INFO__INIT;
    Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;

    delay.seconds = st->retry_ms / 1000;
    delay.nanos = (int32_t)(st->retry_ms % 1000) * 1000000;
    retry.retry_delay = &delay;
    add(d, TYPE_URL "RetryInfo", &retry.base);
}

static void add_bad_request(struct details *d, const struct status *st)
{
    Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
    Google__Rpc__BadRequest__FieldViolation violation =
        GOOGLE__RPC__BAD_REQUEST__FIELD_VIOLATION__INIT;
    Google__Rpc__BadRequest__FieldViolation *list[] = {&violation};

    violation.field = (char *)st->field;
    violation.description = (char *)st->message;
    bad.field_violations = list;
    bad.n_field_violations = 1;
    add(d, TYPE_URL "BadRequest", &bad.base);
}

/* Whose quota it is; in st, or constant. */
static char *quota_subject(const struct status *st)
{
    if (st->reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_QUOTA)
        return (char *)"e2b";
    return st->detail[0].value[0] != '\0' ? (char *)st->detail[0].value : (char *)"all callers";
}

static bool is_quota(const struct status *st)
{
    return st->reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_QUOTA ||
           st->reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_TENANT_QUOTA;
}

static void add_quota_failure(struct details *d, const struct status *st)
{
    Google__Rpc__QuotaFailure quota = GOOGLE__RPC__QUOTA_FAILURE__INIT;
    Google__Rpc__QuotaFailure__Violation violation = GOOGLE__RPC__QUOTA_FAILURE__VIOLATION__INIT;
    Google__Rpc__QuotaFailure__Violation *list[] = {&violation};

    violation.subject = quota_subject(st);
    violation.description = (char *)st->message;
    quota.violations = list;
    quota.n_violations = 1;
    add(d, TYPE_URL "QuotaFailure", &quota.base);
}

static void add_request_info(struct details *d, const char *request_id)
{
    Google__Rpc__RequestInfo info = GOOGLE__RPC__REQUEST_INFO__INIT;

    info.request_id = (char *)request_id;
    add(d, TYPE_URL "RequestInfo", &info.base);
}

static grpc_slice pack_details(const struct status *st, const char *request_id)
{
    AUTO(details_deinit) struct details d = {.n = 0};
    Google__Rpc__Status m = GOOGLE__RPC__STATUS__INIT;

    add_error_info(&d, st);
    if (st->retry_ms > 0)
        add_retry_info(&d, st);
    if (st->field[0] != '\0')
        add_bad_request(&d, st);
    if (is_quota(st))
        add_quota_failure(&d, st);
    if (request_id[0] != '\0')
        add_request_info(&d, request_id);
    m.code = (int32_t)st->code;
    m.message = (char *)st->message;
    m.details = d.list;
    m.n_details = d.n;

    grpc_slice slice = grpc_slice_malloc(google__rpc__status__get_packed_size(&m));

    google__rpc__status__pack(&m, GRPC_SLICE_START_PTR(slice));
    return slice;
}

static void add_trailer(struct trailers *t, const char *key, grpc_slice value)
{
    t->items[t->n++] = (grpc_metadata){.key = grpc_slice_from_static_string(key), .value = value};
}

void trailers_init(struct trailers *t, const struct status *st, const char *request_id)
{
    char pushback[24];

    t->n = 0;
    t->message = grpc_slice_from_copied_string(st->message);
    if (request_id[0] != '\0')
        add_trailer(t, "x-request-id", grpc_slice_from_copied_string(request_id));
    if (st->code == CODE_OK)
        return;
    add_trailer(t, "grpc-status-details-bin", pack_details(st, request_id));
    if (st->retry_ms > 0) {
        snprintf(pushback, sizeof(pushback), "%lld", (long long)st->retry_ms);
        add_trailer(t, "grpc-retry-pushback-ms", grpc_slice_from_copied_string(pushback));
    }
}

void trailers_deinit(struct trailers *t)
{
    for (size_t i = 0; i < t->n; i++)
        grpc_slice_unref(t->items[i].value);
    grpc_slice_unref(t->message);
    t->n = 0;
}
