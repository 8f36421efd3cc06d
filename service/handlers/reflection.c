/*
 * The standard reflection service, from the descriptor set that is built into the program. v1 and
 * v1alpha differ in their package alone, so the v1 messages serve for both. All on the call's
 * worker.
 */
#include "service/handlers/reflection.h"

#include "common/base/mem.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/descriptors.h"
#include "service/handlers/methods.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

#define ASKED(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define ANSWER(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

static void answer(struct call *c, const reflection_request *r, reflection_response *m)
{
    m->valid_host = r->host;
    m->original_request = (reflection_request *)r;
    call_send(c, &m->base);
}

static void answer_error(struct call *c, const reflection_request *r, enum code code,
                         const char *text)
{
    reflection_response m = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;

    error.error_code = (int32_t)code;
    error.error_message = (char *)text;
    m.message_response_case = ANSWER(ERROR_RESPONSE);
    m.error_response = &error;
    answer(c, r, &m);
}

static void answer_file(struct call *c, const reflection_request *r,
                        const struct descriptor_file *file)
{
    reflection_response m = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    ProtobufCBinaryData bytes;

    if (file == NULL) {
        answer_error(c, r, CODE_NOT_FOUND, "nothing here has this name");
        return;
    }
    bytes = (ProtobufCBinaryData){.data = (uint8_t *)file->data, .len = file->len};
    files.file_descriptor_proto = &bytes;
    files.n_file_descriptor_proto = 1;
    m.message_response_case = ANSWER(FILE_DESCRIPTOR_RESPONSE);
    m.file_descriptor_response = &files;
    answer(c, r, &m);
}

/* Each service of the method table once; the rows of one service stand together. */
static void answer_services(struct call *c, const reflection_request *r)
{
    reflection_response m = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__ListServiceResponse services =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    Grpc__Reflection__V1__ServiceResponse items[16], *list[16];

    services.service = list;
    for (size_t i = 0; i < n_methods && services.n_service < 16; i++) {
        if (i > 0 && methods[i].service == methods[i - 1].service)
            continue;
        grpc__reflection__v1__service_response__init(&items[services.n_service]);
        items[services.n_service].name = (char *)methods[i].service->name;
        list[services.n_service] = &items[services.n_service];
        services.n_service++;
    }
    m.message_response_case = ANSWER(LIST_SERVICES_RESPONSE);
    m.list_services_response = &services;
    answer(c, r, &m);
}

static void on_request(struct call *c, const reflection_request *r)
{
    switch (r->message_request_case) {
    case ASKED(LIST_SERVICES):
        answer_services(c, r);
        break;
    case ASKED(FILE_BY_FILENAME):
        answer_file(c, r, descriptors_by_name(r->file_by_filename));
        break;
    case ASKED(FILE_CONTAINING_SYMBOL):
        answer_file(c, r, descriptors_by_symbol(r->file_containing_symbol));
        break;
    case ASKED(FILE_CONTAINING_EXTENSION):
    case ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE):
        answer_error(c, r, CODE_NOT_FOUND, "there are no extensions here");
        break;
    default:
        answer_error(c, r, CODE_INVALID_ARGUMENT, "the request asks for nothing");
        break;
    }
}

/* --- the stream --- */

/* Answers are sent one at a time; questions that come faster wait here, bounded. */
enum { WAITING_MAX = 256 };

struct reflection {
    struct call *call;                        /* borrowed: it owns this */
    reflection_request *waiting[WAITING_MAX]; /* a ring; owned */
    size_t first, n;
    bool half_closed;
};

static void reflection_destroy(void *state)
{
    struct reflection *s = state;

    for (; s->n > 0; s->n--, s->first = (s->first + 1) % WAITING_MAX)
        grpc__reflection__v1__server_reflection_request__free_unpacked(s->waiting[s->first], NULL);
    free(s);
}

static void reflection_step(struct reflection *s)
{
    while (s->n > 0 && call_can_send(s->call)) {
        reflection_request *r = s->waiting[s->first];

        s->first = (s->first + 1) % WAITING_MAX;
        s->n--;
        on_request(s->call, r);
        grpc__reflection__v1__server_reflection_request__free_unpacked(r, NULL);
    }
    if (s->n == 0 && s->half_closed)
        call_finish(s->call, &STATUS_INIT);
}

static void reflection_sent(void *state)
{
    reflection_step(state);
}

/* A copy: by way of the wire, which also turns v1alpha into v1. */
static reflection_request *copy_request(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = xmalloc(len);
    reflection_request *r;

    protobuf_c_message_pack(message, bytes);
    r = grpc__reflection__v1__server_reflection_request__unpack(NULL, len, bytes);
    free(bytes);
    return r;
}

static void reflection_message(void *state, const ProtobufCMessage *message)
{
    struct reflection *s = state;
    reflection_request *r = message != NULL ? copy_request(message) : NULL;

    if (message == NULL) {
        s->half_closed = true;
    } else if (r == NULL || s->n == WAITING_MAX) {
        struct status st;

        status_set(&st, CODE_RESOURCE_EXHAUSTED, SANDBOX__V1__ERROR_REASON__ERROR_REASON_POD_FULL,
                   "more than %d questions wait for their answers: read them first", WAITING_MAX);
        if (r != NULL)
            grpc__reflection__v1__server_reflection_request__free_unpacked(r, NULL);
        call_finish(s->call, &st);
        return;
    } else {
        s->waiting[(s->first + s->n++) % WAITING_MAX] = r;
    }
    reflection_step(s);
}

static void reflection_gone(void *state)
{
    struct reflection *s = state;
    struct status st;

    status_set(&st, call_end_reason(s->call), SANDBOX__V1__ERROR_REASON__ERROR_REASON_DEADLINE,
               "the caller went away");
    call_finish(s->call, &st);
}

static const struct call_handler reflection_handler = {
    .on_sent = reflection_sent,
    .on_gone = reflection_gone,
    .on_message = reflection_message,
    .destroy = reflection_destroy,
};

void reflection_start(struct call *c, const ProtobufCMessage *message)
{
    struct reflection *s = xcalloc(1, sizeof(*s));

    s->call = c;
    call_set_handler(c, &reflection_handler, s);
}
