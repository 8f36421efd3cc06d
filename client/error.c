/*
 * Errors as callers see them. A server's error is its status, its message and google.rpc.Status in
 * the trailer; everything in there is the peer's, so it is copied into fixed room and made UTF-8.
 */
#include "client/error.h"

#include "common/base/status.h"
#include "common/base/utf8.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char api_domain[] = "sandbox.v1";

const char *sandbox_code_name(enum sandbox_code code)
{
    return code_name((enum code)code);
}

const char *sandbox_error_metadata(const struct sandbox_error *error, const char *key)
{
    for (unsigned i = 0; i < error->n_metadata; i++) {
        if (strcmp(error->metadata[i].key, key) == 0)
            return error->metadata[i].value;
    }
    return NULL;
}

static void copy_text(char *to, size_t size, const char *text, size_t len)
{
    size_t n = len < size - 1 ? len : size - 1;

    memcpy(to, text, n);
    to[n] = '\0';
    utf8_sanitize(to);
}

static void copy_string(char *to, size_t size, const char *text)
{
    copy_text(to, size, text, strlen(text));
}

bool error_local(struct sandbox_error *err, enum sandbox_code code, const char *reason,
                 const char *fmt, ...)
{
    va_list args;

    if (err == NULL)
        return false;
    *err = (struct sandbox_error){.code = code, .local = true};
    snprintf(err->reason, sizeof(err->reason), "%s", reason);
    va_start(args, fmt);
    if (vsnprintf(err->message, sizeof(err->message), fmt, args) < 0)
        err->message[0] = '\0';
    va_end(args);
    utf8_sanitize(err->message);
    return false;
}

static void take_error_info(struct sandbox_error *err, const Google__Rpc__ErrorInfo *info)
{
    if (strcmp(info->domain, api_domain) != 0)
        return;
    copy_string(err->reason, sizeof(err->reason), info->reason);
    for (size_t i = 0; i < info->n_metadata && err->n_metadata < SANDBOX_ERROR_METADATA; i++) {
        unsigned at = err->n_metadata++;

        copy_string(err->metadata[at].key, sizeof(err->metadata[at].key), info->metadata[i]->key);
        copy_string(err->metadata[at].value, sizeof(err->metadata[at].value),
                    info->metadata[i]->value);
    }
}

/* A day is longer than anybody waits, and keeps the arithmetic of callers far from overflow. */
static int64_t duration_ms(const Google__Protobuf__Duration *d)
{
    enum { DAY_S = 24 * 60 * 60 };

    if (d == NULL || d->seconds < 0 || d->nanos < 0 || d->nanos > 999999999)
        return 0;
    if (d->seconds >= DAY_S)
        return DAY_S * INT64_C(1000);
    return d->seconds * 1000 + (d->nanos + 999999) / 1000000;
}

static void take_retry_info(struct sandbox_error *err, const Google__Rpc__RetryInfo *info)
{
    err->retry_after_ms = duration_ms(info->retry_delay);
}

static void take_bad_request(struct sandbox_error *err, const Google__Rpc__BadRequest *bad)
{
    if (bad->n_field_violations > 0)
        copy_string(err->field, sizeof(err->field), bad->field_violations[0]->field);
}

static void take_detail(struct sandbox_error *err, const Google__Protobuf__Any *any)
{
    static const struct {
        const char *type_url;
        const ProtobufCMessageDescriptor *descriptor;
    } known[] = {
        {"type.googleapis.com/google.rpc.ErrorInfo", &google__rpc__error_info__descriptor},
        {"type.googleapis.com/google.rpc.RetryInfo", &google__rpc__retry_info__descriptor},
        {"type.googleapis.com/google.rpc.BadRequest", &google__rpc__bad_request__descriptor},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(any->type_url, known[i].type_url) != 0)
            continue;

        ProtobufCMessage *m =
            protobuf_c_message_unpack(known[i].descriptor, NULL, any->value.len, any->value.data);

        if (m == NULL)
            return;
        if (m->descriptor == &google__rpc__error_info__descriptor)
            take_error_info(err, (Google__Rpc__ErrorInfo *)m);
        else if (m->descriptor == &google__rpc__retry_info__descriptor)
            take_retry_info(err, (Google__Rpc__RetryInfo *)m);
        else
            take_bad_request(err, (Google__Rpc__BadRequest *)m);
        protobuf_c_message_free_unpacked(m, NULL);
    }
}

void error_decode(struct sandbox_error *err, int code, const char *message, size_t message_len,
                  const void *details, size_t details_len)
{
    *err = (struct sandbox_error){.code = (enum sandbox_code)code};
    if (code < SANDBOX_OK || code > SANDBOX_UNAUTHENTICATED)
        err->code = SANDBOX_UNKNOWN;
    copy_text(err->message, sizeof(err->message), message, message_len);
    if (err->message[0] == '\0')
        snprintf(err->message, sizeof(err->message), "no reason was given");
    if (details_len == 0)
        return;

    Google__Rpc__Status *status = google__rpc__status__unpack(NULL, details_len, details);

    if (status == NULL)
        return;
    for (size_t i = 0; i < status->n_details; i++)
        take_detail(err, status->details[i]);
    google__rpc__status__free_unpacked(status, NULL);
}

bool error_is_from_api(const struct sandbox_error *err)
{
    return !err->local && err->reason[0] != '\0';
}

bool error_is_passing(const struct sandbox_error *err)
{
    switch (err->code) {
    case SANDBOX_UNAVAILABLE:
        return true;
    case SANDBOX_RESOURCE_EXHAUSTED:
        return err->retry_after_ms > 0;
    case SANDBOX_INTERNAL:
    case SANDBOX_UNKNOWN:
    case SANDBOX_CANCELLED:
        /* What gRPC makes of a reset stream, a proxy's page, a connection cut in a frame. */
        return !err->local && !error_is_from_api(err);
    default:
        return false;
    }
}

bool error_is_refusal(const struct sandbox_error *err)
{
    static const char *const reasons[] = {"POD_DRAINING", "POD_FULL"};

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (!err->local && strcmp(err->reason, reasons[i]) == 0)
            return true;
    }
    return false;
}
