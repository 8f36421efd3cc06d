/*
 * sandbox_download(): a file in as many attempts as it takes, on the caller's thread. Each goes on
 * behind the bytes that were taken, of the same version of the file, or not at all.
 */
#include "client/client.h"
#include "client/error.h"
#include "common/base/clock.h"
#include "common/base/sha256.h"

#include <string.h>

struct download {
    struct sandbox_client *client;           /* borrowed */
    const struct sandbox_transfer *transfer; /* borrowed */
    struct resume resume;
    const Sandbox__V1__DownloadFileRequest *request; /* borrowed: what is wanted in all */
    Sandbox__V1__DownloadFileRequest rest;           /* what is still missing */
    Sandbox__V1__DownloadStart *start;               /* owned; the first; NULL: nothing came yet */
    uint64_t left;                                   /* of this attempt */
    struct sha256 hash;                              /* of what was taken */

    bool started; /* this attempt has */
    bool ended;   /* it has told its end */
    bool broken;  /* the attempt before was */
};

static bool bad_response(struct sandbox_error *err, const char *what)
{
    return error_local(err, SANDBOX_DATA_LOSS, "BAD_RESPONSE", "the server sent %s", what);
}

static bool take_start(struct download *d, Sandbox__V1__DownloadFileResponse *m,
                       struct sandbox_error *err)
{
    if (d->started)
        return bad_response(err, "the start of a file in the middle");
    d->started = true;
    d->left = m->start->length;
    if (d->broken && d->start != NULL && d->transfer->on_resume != NULL)
        d->transfer->on_resume(d->transfer->user,
                               endpoint_address(d->client->endpoints[d->resume.address]),
                               d->rest.offset);
    d->broken = false;
    if (d->start == NULL) {
        d->start = m->start;
        m->start = NULL;
    }
    d->rest.if_version = d->start->version;
    return true;
}

static bool take_data(struct download *d, const ProtobufCBinaryData *data,
                      struct sandbox_error *err)
{
    if (data->len == 0)
        return true; /* a sign of life */
    if (!d->started || data->len > d->left)
        return bad_response(err, "more of the file than it said");
    if (!d->transfer->write(d->transfer->user, data->data, data->len))
        return error_local(err, SANDBOX_ABORTED, "HANDLER_FAILED",
                           "what came could not be written");
    sha256_update(&d->hash, data->data, data->len);
    resume_progress(&d->resume);
    d->left -= data->len;
    d->rest.offset += data->len;
    if (d->rest.length > 0)
        d->rest.length -= data->len;
    if (d->transfer->on_progress != NULL)
        d->transfer->on_progress(d->transfer->user, d->rest.offset);
    return true;
}

static bool take_end(struct download *d, const Sandbox__V1__DownloadEnd *end,
                     struct sandbox_error *err)
{
    uint8_t digest[SHA256_LEN];

    if (!d->started || d->left > 0)
        return bad_response(err, "the end of a file before all of it");
    d->ended = true;
    if (d->request->offset > 0 || end->sha256.len == 0)
        return true; /* a part has no digest of its own */
    sha256_final(&d->hash, digest);
    if (end->sha256.len == SHA256_LEN && memcmp(end->sha256.data, digest, SHA256_LEN) == 0)
        return true;
    return error_local(err, SANDBOX_DATA_LOSS, "DIGEST_MISMATCH",
                       "what came is not what the file holds: SHA-256 differs");
}

static bool take_message(struct download *d, Sandbox__V1__DownloadFileResponse *m,
                         struct sandbox_error *err)
{
    if (d->ended)
        return bad_response(err, "something behind the end of the file");
    switch (m->message_case) {
    case SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE_START:
        return take_start(d, m, err);
    case SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE_DATA:
        return take_data(d, &m->data, err);
    case SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE_END:
        return take_end(d, m->end, err);
    case SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE__NOT_SET:
    case _SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE__CASE_IS_INT_SIZE:
        break;
    }
    return bad_response(err, "a message that says nothing");
}

static bool read_stream(struct download *d, struct rpc *rpc, struct sandbox_error *err)
{
    int64_t silence_ms = d->client->heartbeat_interval_ms * 5 / 2;

    for (;;) {
        ProtobufCMessage *m = NULL;
        bool ok;

        switch (rpc_next(rpc, &sandbox__v1__download_file_response__descriptor,
                         clock_monotonic_ns() + silence_ms * NS_PER_MS, &m)) {
        case RPC_MESSAGE:
            ok = take_message(d, (Sandbox__V1__DownloadFileResponse *)m, err);
            sandbox_free(m);
            if (!ok)
                return false;
            break;
        case RPC_AGAIN:
            break;
        case RPC_TIMEOUT:
            return error_local(err, SANDBOX_UNAVAILABLE, "SILENT",
                               "nothing was heard for %lld ms, not even a heartbeat",
                               (long long)silence_ms);
        case RPC_END:
            *err = *rpc_error(rpc);
            if (err->code == SANDBOX_OK && !d->ended)
                return error_local(err, SANDBOX_UNAVAILABLE, "TRUNCATED",
                                   "the stream ended before the file did");
            return err->code == SANDBOX_OK;
        }
    }
}

static bool attempt(struct download *d, struct sandbox_error *err)
{
    struct client_call call = {0};
    struct sandbox_error why;
    bool ok;

    d->started = d->ended = false;
    if (!client_call_start(d->client, &call, d->resume.address,
                           sandbox__v1__sandbox_service__descriptor.name, "DownloadFile", RPC_ONE,
                           &d->rest.base, INT64_MAX, err))
        return false;
    ok = read_stream(d, call.rpc, &why);
    client_call_end(d->client, &call, ok ? NULL : &why);
    if (!ok)
        client_error(d->client, d->resume.address, &why, err);
    return ok;
}

/* A part whose last byte has come lacks nothing but its end, and a length of 0 asks for more. */
static bool is_complete(const struct download *d)
{
    return d->request->length > 0 && d->rest.length == 0;
}

static bool run(struct download *d, struct sandbox_error *err)
{
    while (!attempt(d, err)) {
        if (!error_is_passing(err))
            return false;
        if (is_complete(d))
            break;
        d->broken = true;
        if (!client_try_next(d->client, &d->resume, d->transfer->on_break, d->transfer->user, err))
            return false;
    }
    atomic_store(&d->client->preferred, d->resume.address);
    *err = (struct sandbox_error){.code = SANDBOX_OK};
    return true;
}

bool sandbox_download(struct sandbox_client *client,
                      const Sandbox__V1__DownloadFileRequest *request,
                      const struct sandbox_transfer *transfer, Sandbox__V1__DownloadStart **ret,
                      struct sandbox_error *err)
{
    struct sandbox_error unwanted;
    struct download d = {
        .client = client,
        .transfer = transfer,
        .request = request,
        .rest = *request,
    };
    bool ok;

    d.rest.with_sha256 = request->with_sha256 || (request->offset == 0 && request->length == 0);
    sha256_init(&d.hash);
    resume_init(&d.resume, &client->policy, atomic_load(&client->preferred));
    ok = run(&d, err != NULL ? err : &unwanted);
    if (ret != NULL)
        *ret = ok ? d.start : NULL;
    if (ret == NULL || !ok)
        sandbox_free(d.start);
    return ok;
}
