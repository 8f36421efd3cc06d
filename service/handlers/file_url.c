/* CreateFileUrl: see e2b_file_url(). On the call's worker. */
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/handlers/files.h"
#include "service/handlers/operation.h"
#include "service/handlers/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    DEFAULT_S = 3600,
    MAX_S = 30 * 86400,
};

#define OPERATION(name) SANDBOX__V1__CREATE_FILE_URL_REQUEST__OPERATION__OPERATION_##name

struct file_url {
    struct operation o;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    char user[VALIDATE_USER_MAX + 1];
    char path[VALIDATE_PATH_MAX + 1];
    bool write;
    int64_t expire_s; /* wall clock */
    char *url;        /* owned */
};

static void release(struct operation *o)
{
    struct file_url *k = container_of(o, struct file_url, o);

    free(k->url);
    free(k);
}

static void answer(struct operation *o)
{
    struct file_url *k = container_of(o, struct file_url, o);
    Sandbox__V1__CreateFileUrlResponse m = SANDBOX__V1__CREATE_FILE_URL_RESPONSE__INIT;
    Google__Protobuf__Timestamp expire = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    char get[] = "GET", post[] = "POST";

    expire.seconds = k->expire_s;
    m.url = k->url;
    m.method = k->write ? post : get;
    m.expire_time = &expire;
    call_reply(o->call, &m.base);
}

static bool read_request(struct file_url *k, const Sandbox__V1__CreateFileUrlRequest *r,
                         struct status *st)
{
    int64_t ms = (int64_t)DEFAULT_S * 1000;

    if (!validate_id("sandbox_id", r->sandbox_id, st) || !validate_path("path", r->path, st) ||
        !validate_user("user", r->user, st))
        return false;
    if (r->operation > OPERATION(WRITE))
        return status_bad_field(st, INVALID_FIELD, "operation", "operation %d is not known here",
                                (int)r->operation);
    if (r->expire_in != NULL &&
        !validate_duration("expire_in", r->expire_in->seconds, r->expire_in->nanos, 1000,
                           (int64_t)MAX_S * 1000, &ms, st))
        return false;
    snprintf(k->sandbox_id, sizeof(k->sandbox_id), "%s", r->sandbox_id);
    snprintf(k->path, sizeof(k->path), "%s", r->path);
    snprintf(k->user, sizeof(k->user), "%s", r->user);
    k->write = r->operation == OPERATION(WRITE);
    k->expire_s = (clock_wall_ns() + ms * NS_PER_MS) / NS_PER_S;
    return true;
}

void create_file_url_start(struct call *c, const ProtobufCMessage *message)
{
    struct file_url *k = xcalloc(1, sizeof(*k));
    struct status st = STATUS_INIT;

    k->o.answer = answer;
    k->o.release = release;
    if (!read_request(k, (const Sandbox__V1__CreateFileUrlRequest *)message, &st)) {
        release(&k->o);
        call_finish(c, &st);
        return;
    }
    operation_begin(&k->o, c);
    e2b_file_url(operation_e2b(&k->o), &k->o.op, k->sandbox_id, k->user, k->path, k->write,
                 k->expire_s, &k->url);
}
