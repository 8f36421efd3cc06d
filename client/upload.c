/*
 * sandbox_upload(): a file in as many attempts as it takes, on the caller's thread. An attempt is
 * one stream: it begins where the sandbox says that the bytes end which came before, sends a block
 * at a time, and commits. The digest is of the bytes in their order, each counted once, however
 * often it is sent.
 */
#include "client/client.h"
#include "client/error.h"
#include "client/unary.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/sha256.h"

#include <stdlib.h>
#include <string.h>

/* A block, and how many bytes a server may read of what it has for every second of its answer. */
enum { BLOCK_BYTES = 1 << 18, CHECKED_PER_S = 16 << 20 };

struct upload {
    struct sandbox_client *client;           /* borrowed */
    const struct sandbox_transfer *transfer; /* borrowed */
    struct resume resume;
    Sandbox__V1__UploadStart start;   /* a shallow copy */
    Sandbox__V1__UploadCommit commit; /* the same */
    uint8_t *block;                   /* owned; what is on its way */

    uint64_t received; /* what the sandbox had when it was last asked */
    uint64_t at;       /* what is read next; behind hashed where it is sent once more */
    uint64_t hashed;   /* what `hash` has of the file */
    struct sha256 hash;
    uint8_t digest[SHA256_LEN];

    bool ask;         /* what came before is to be asked for */
    bool whole;       /* the file's end was reached: commit has its size and digest */
    bool committed;   /* commit was sent, in this attempt */
    bool may_be_over; /* in one before: it may have had its effect */
    bool broken;      /* the attempt before was */
    Sandbox__V1__UploadFileResponse *response; /* owned */
};

/* Reads the next block. It ends where bytes begin that are new to the digest, or to the sandbox. */
static bool read_block(struct upload *u, size_t *ret_len, struct sandbox_error *err)
{
    uint64_t room = BLOCK_BYTES;
    int64_t n;

    if (u->at < u->received && u->received - u->at < room)
        room = u->received - u->at;
    if (u->at < u->hashed && u->hashed - u->at < room)
        room = u->hashed - u->at;
    n = u->transfer->read(u->transfer->user, u->at, u->block, (size_t)room);
    if (n < 0 || (n == 0 && u->at < u->hashed))
        return error_local(err, SANDBOX_ABORTED, "HANDLER_FAILED",
                           "the file could not be read at %llu", (unsigned long long)u->at);
    if (u->at == u->hashed) {
        sha256_update(&u->hash, u->block, (size_t)n);
        u->hashed += (uint64_t)n;
    }
    *ret_len = (size_t)n;
    return true;
}

static void set_commit(struct upload *u)
{
    if (!u->whole)
        sha256_final(&u->hash, u->digest);
    u->whole = true;
    u->commit.size = u->at;
    u->commit.sha256 = (ProtobufCBinaryData){.data = u->digest, .len = sizeof(u->digest)};
}

/* Sends what comes next: a block, or at the end the commit, and then nothing. */
static bool send_next(struct upload *u, struct rpc *rpc, struct sandbox_error *err)
{
    Sandbox__V1__UploadFileRequest m = SANDBOX__V1__UPLOAD_FILE_REQUEST__INIT;
    size_t len = 0;

    if (u->committed)
        return true;
    do {
        u->at += len; /* what the sandbox has is only read for the digest */
        if (u->whole && u->at == u->commit.size)
            len = 0;
        else if (!read_block(u, &len, err))
            return false;
    } while (len > 0 && u->at < u->received);
    if (len == 0) {
        set_commit(u);
        m.message_case = SANDBOX__V1__UPLOAD_FILE_REQUEST__MESSAGE_COMMIT;
        m.commit = &u->commit;
        u->committed = u->may_be_over = true;
    } else {
        m.message_case = SANDBOX__V1__UPLOAD_FILE_REQUEST__MESSAGE_DATA;
        m.data = (ProtobufCBinaryData){.data = u->block, .len = len};
        u->at += len;
    }
    rpc_send(rpc, &m.base);
    if (u->transfer->on_progress != NULL)
        u->transfer->on_progress(u->transfer->user, u->at);
    return true;
}

/* How long nothing may happen. A commit is answered when the sandbox has read the whole file. */
static int64_t patience_ns(const struct upload *u)
{
    int64_t ms = u->client->call_timeout_ms;

    if (u->committed)
        ms += (int64_t)(u->commit.size / CHECKED_PER_S) * 1000;
    return ms * NS_PER_MS;
}

static bool check_response(const struct upload *u, struct sandbox_error *err)
{
    if (u->response != NULL && u->response->committed && u->committed)
        return true;
    return error_local(err, SANDBOX_DATA_LOSS, "BAD_RESPONSE",
                       "the server ended the upload without a word on the file");
}

/* Sends and waits until the stream is over. */
static bool exchange(struct upload *u, struct rpc *rpc, struct sandbox_error *err)
{
    int64_t since_ms = client_now_ms();

    for (;;) {
        ProtobufCMessage *m = NULL;

        switch (rpc_next(rpc, &sandbox__v1__upload_file_response__descriptor,
                         clock_monotonic_ns() + patience_ns(u), &m)) {
        case RPC_AGAIN:
            /* What went out has not arrived for sure, but what went out for so long has. */
            if (client_now_ms() - since_ms >= u->client->heartbeat_interval_ms)
                resume_progress(&u->resume);
            if (!send_next(u, rpc, err))
                return false;
            break;
        case RPC_MESSAGE:
            sandbox_free(u->response);
            u->response = (Sandbox__V1__UploadFileResponse *)m;
            break;
        case RPC_TIMEOUT:
            return error_local(err, SANDBOX_UNAVAILABLE, "SILENT", "nothing was taken for %lld ms",
                               (long long)(patience_ns(u) / NS_PER_MS));
        case RPC_END:
            *err = *rpc_error(rpc);
            return err->code == SANDBOX_OK && check_response(u, err);
        }
    }
}

/* What the sandbox has: "start alone". The pod that knows it is as good as any to go on with. */
static bool ask(struct upload *u, struct sandbox_error *err)
{
    Sandbox__V1__UploadFileRequest m = SANDBOX__V1__UPLOAD_FILE_REQUEST__INIT;
    ProtobufCMessage *response;
    uint64_t before = u->received;

    m.message_case = SANDBOX__V1__UPLOAD_FILE_REQUEST__MESSAGE_START;
    m.start = &u->start;
    u->start.offset = 0;
    atomic_store(&u->client->preferred, u->resume.address);
    if (!unary_call(u->client, &sandbox__v1__sandbox_service__descriptor, "UploadFile", &m.base,
                    UNARY_QUICK, u->client->call_timeout_ms, &response, err))
        return false;
    u->received = ((Sandbox__V1__UploadFileResponse *)response)->received_size;
    sandbox_free(response);
    u->resume.address = atomic_load(&u->client->preferred);
    if (u->received > before)
        resume_progress(&u->resume);
    return true;
}

/* Where this attempt begins. */
static bool find_start(struct upload *u, struct sandbox_error *err)
{
    if (u->ask && !ask(u, err))
        return false;
    u->ask = false;
    u->at = u->received < u->hashed ? u->received : u->hashed;
    u->start.offset = u->received;
    if (u->broken && u->transfer->on_resume != NULL)
        u->transfer->on_resume(u->transfer->user,
                               endpoint_address(u->client->endpoints[u->resume.address]),
                               u->received);
    u->committed = false;
    u->broken = false;
    sandbox_free(u->response);
    u->response = NULL;
    return true;
}

static bool attempt(struct upload *u, struct sandbox_error *err)
{
    Sandbox__V1__UploadFileRequest m = SANDBOX__V1__UPLOAD_FILE_REQUEST__INIT;
    struct client_call call = {0};
    struct sandbox_error why;
    bool ok;

    if (!find_start(u, err))
        return false;
    m.message_case = SANDBOX__V1__UPLOAD_FILE_REQUEST__MESSAGE_START;
    m.start = &u->start;
    if (!client_call_start(u->client, &call, u->resume.address,
                           sandbox__v1__sandbox_service__descriptor.name, "UploadFile", RPC_MANY,
                           &m.base, INT64_MAX, err))
        return false;
    ok = exchange(u, call.rpc, &why);
    client_call_end(u->client, &call, ok ? NULL : &why);
    if (!ok)
        client_error(u->client, u->resume.address, &why, err);
    return ok;
}

/*
 * What to do about an attempt that failed. A commit may have had its effect though its answer was
 * lost, and then nothing of the parts is left to be asked for: it is sent again as it was, and only
 * when the sandbox says that bytes are missing (UPLOAD_GAP) are they sent again, too.
 */
static bool next_attempt(struct upload *u, struct sandbox_error *err)
{
    const char *expected = sandbox_error_metadata(err, "expected_offset");

    u->broken = true;
    if (strcmp(err->reason, "UPLOAD_GAP") == 0 && expected != NULL) {
        u->received = strtoull(expected, NULL, 10);
        u->may_be_over = false;
        if (u->received < u->start.offset)
            return true; /* as good as an answer to ask(): nothing is wrong with this address */
    } else if (!error_is_passing(err)) {
        return false;
    } else if (u->may_be_over) {
        u->received = u->commit.size;
    } else {
        u->ask = true;
    }
    return client_try_next(u->client, &u->resume, u->transfer->on_break, u->transfer->user, err);
}

static bool run(struct upload *u, struct sandbox_error *err)
{
    while (!attempt(u, err)) {
        if (!next_attempt(u, err))
            return false;
    }
    atomic_store(&u->client->preferred, u->resume.address);
    *err = (struct sandbox_error){.code = SANDBOX_OK};
    return true;
}

bool sandbox_upload(struct sandbox_client *client, const Sandbox__V1__UploadStart *start,
                    const Sandbox__V1__UploadCommit *commit,
                    const struct sandbox_transfer *transfer, Sandbox__V1__UploadFileResponse **ret,
                    struct sandbox_error *err)
{
    AUTO_FREE uint8_t *block = xcalloc(1, BLOCK_BYTES);
    struct sandbox_error unwanted;
    struct upload u = {
        .client = client,
        .transfer = transfer,
        .start = *start,
        .commit = SANDBOX__V1__UPLOAD_COMMIT__INIT,
        .block = block,
        .ask = start->upload_id[0] != '\0', /* it may be an earlier one's */
    };
    char id[SANDBOX_ID_SIZE];
    bool ok;

    if (commit != NULL)
        u.commit = *commit;
    if (!u.ask) {
        sandbox_make_id(id);
        u.start.upload_id = id;
    }
    sha256_init(&u.hash);
    resume_init(&u.resume, &client->policy, atomic_load(&client->preferred));
    ok = run(&u, err != NULL ? err : &unwanted);
    if (ret != NULL)
        *ret = ok ? u.response : NULL;
    if (ret == NULL || !ok)
        sandbox_free(u.response);
    return ok;
}
