/*
 * The standard reflection service, from the descriptors that are built into the program. v1 and
 * v1alpha differ in their package alone, so the v1 messages serve for both: a question is copied by
 * way of the wire, and an answer is sent as bytes. All on the call's worker.
 */
#include "service/handlers/reflection.h"

#include "common/base/list.h"
#include "common/base/mem.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/descriptors.h"
#include "service/handlers/methods.h"

#include <stdlib.h>

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

#define ASKED(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define ANSWER(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name
#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    SERVICES_MAX = 16,
    WAITING_BYTES_MAX = 256 * 1024, /* of answers for a client that asks faster than it reads */
};

/* --- one answer --- */

/* A packed answer; call_send_bytes_take() frees it. */
struct answer {
    struct list node;
    size_t len;
    uint8_t bytes[];
};

static struct answer *pack(const reflection_request *r, reflection_response *m)
{
    size_t len;
    struct answer *a;

    m->valid_host = r->host;
    m->original_request = (reflection_request *)r;
    len = grpc__reflection__v1__server_reflection_response__get_packed_size(m);
    a = xmalloc(sizeof(*a) + len);
    list_init(&a->node);
    a->len = len;
    grpc__reflection__v1__server_reflection_response__pack(m, a->bytes);
    return a;
}

static struct answer *answer_error(const reflection_request *r, enum code code, const char *text)
{
    reflection_response m = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;

    error.error_code = (int32_t)code;
    error.error_message = (char *)text;
    m.message_response_case = ANSWER(ERROR_RESPONSE);
    m.error_response = &error;
    return pack(r, &m);
}

static struct answer *answer_files(const reflection_request *r, const struct descriptor_file *file)
{
    reflection_response m = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__FileDescriptorResponse response =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    const struct descriptor_file *found[DESCRIPTORS_MAX];
    ProtobufCBinaryData bytes[DESCRIPTORS_MAX];

    if (file == NULL)
        return answer_error(r, CODE_NOT_FOUND, "no file or symbol of this server has this name");
    response.n_file_descriptor_proto = descriptors_with_imports(file, found);
    response.file_descriptor_proto = bytes;
    for (size_t i = 0; i < response.n_file_descriptor_proto; i++)
        bytes[i] = (ProtobufCBinaryData){.data = (uint8_t *)found[i]->data, .len = found[i]->len};
    m.message_response_case = ANSWER(FILE_DESCRIPTOR_RESPONSE);
    m.file_descriptor_response = &response;
    return pack(r, &m);
}

/* Each service of the method table once; the rows of one service stand together. */
static struct answer *answer_services(const reflection_request *r)
{
    reflection_response m = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__ListServiceResponse response =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    Grpc__Reflection__V1__ServiceResponse items[SERVICES_MAX], *list[SERVICES_MAX];
    size_t n = 0;

    for (size_t i = 0; i < n_methods && n < SERVICES_MAX; i++) {
        if (i > 0 && methods[i].service == methods[i - 1].service)
            continue;
        grpc__reflection__v1__service_response__init(&items[n]);
        items[n].name = (char *)methods[i].service->name;
        list[n] = &items[n];
        n++;
    }
    response.service = list;
    response.n_service = n;
    m.message_response_case = ANSWER(LIST_SERVICES_RESPONSE);
    m.list_services_response = &response;
    return pack(r, &m);
}

/* Nothing here is extended: a type that there is has none. */
static struct answer *answer_extension_numbers(const reflection_request *r)
{
    reflection_response m = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    Grpc__Reflection__V1__ExtensionNumberResponse response =
        GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;

    if (descriptors_by_symbol(r->all_extension_numbers_of_type) == NULL)
        return answer_error(r, CODE_NOT_FOUND, "no type of this server has this name");
    response.base_type_name = r->all_extension_numbers_of_type;
    m.message_response_case = ANSWER(ALL_EXTENSION_NUMBERS_RESPONSE);
    m.all_extension_numbers_response = &response;
    return pack(r, &m);
}

static struct answer *answer_to(const reflection_request *r)
{
    switch (r->message_request_case) {
    case ASKED(LIST_SERVICES):
        return answer_services(r);
    case ASKED(FILE_BY_FILENAME):
        return answer_files(r, descriptors_by_name(r->file_by_filename));
    case ASKED(FILE_CONTAINING_SYMBOL):
        return answer_files(r, descriptors_by_symbol(r->file_containing_symbol));
    case ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE):
        return answer_extension_numbers(r);
    case ASKED(FILE_CONTAINING_EXTENSION):
        return answer_error(r, CODE_NOT_FOUND, "this server has no extensions");
    default:
        return answer_error(r, CODE_INVALID_ARGUMENT, "the request asks for nothing");
    }
}

/* --- the stream --- */

struct reflection {
    struct call *call;   /* borrowed: it owns this */
    struct list waiting; /* answers, owned */
    size_t waiting_bytes;
    bool ending; /* nothing more is asked: the verdict follows the last answer */
    struct status verdict;
};

static void reflection_destroy(void *state)
{
    struct reflection *s = state;
    struct list *node;

    while ((node = list_pop(&s->waiting)) != NULL)
        free(container_of(node, struct answer, node));
    free(s);
}

static void reflection_step(struct reflection *s)
{
    while (call_can_send(s->call) && !list_is_empty(&s->waiting)) {
        struct answer *a = container_of(list_pop(&s->waiting), struct answer, node);

        s->waiting_bytes -= a->len;
        call_send_bytes_take(s->call, a, a->bytes, a->len, !list_is_empty(&s->waiting));
    }
    if (s->ending && list_is_empty(&s->waiting))
        call_finish(s->call, &s->verdict);
}

static void reflection_on_sent(void *state)
{
    reflection_step(state);
}

static void reflection_end(struct reflection *s, const struct status *verdict)
{
    if (s->ending)
        return;
    s->ending = true;
    s->verdict = *verdict;
    reflection_step(s);
}

static reflection_request *as_v1(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = xmalloc(len);
    reflection_request *r;

    protobuf_c_message_pack(message, bytes);
    r = grpc__reflection__v1__server_reflection_request__unpack(NULL, len, bytes);
    free(bytes);
    return r;
}

static void reflection_on_message(void *state, const ProtobufCMessage *message)
{
    struct reflection *s = state;
    reflection_request *r;
    struct answer *a;
    struct status st;

    if (message == NULL) {
        reflection_end(s, &STATUS_INIT);
        return;
    }
    if (s->ending)
        return;
    if (s->waiting_bytes > WAITING_BYTES_MAX) {
        status_set(&st, CODE_UNAVAILABLE, REASON(POD_FULL),
                   "too many answers wait to be read: read them before asking more");
        call_finish(s->call, &st);
        return;
    }
    r = as_v1(message);
    a = answer_to(r);
    grpc__reflection__v1__server_reflection_request__free_unpacked(r, NULL);
    list_append(&s->waiting, &a->node);
    s->waiting_bytes += a->len;
    reflection_step(s);
}

static void reflection_on_drain(void *state)
{
    struct status st;

    status_set(&st, CODE_UNAVAILABLE, REASON(POD_DRAINING),
               "this pod is about to stop: ask another one");
    st.retry_ms = 1;
    reflection_end(state, &st);
}

static void reflection_on_gone(void *state)
{
    struct reflection *s = state;
    struct status st;

    status_set(&st, call_end_reason(s->call), REASON(DEADLINE), "the caller went away");
    call_finish(s->call, &st);
}

static const struct call_handler handler = {
    .on_sent = reflection_on_sent,
    .on_gone = reflection_on_gone,
    .on_drain = reflection_on_drain,
    .on_message = reflection_on_message,
    .destroy = reflection_destroy,
};

void reflection_start(struct call *c, const ProtobufCMessage *request)
{
    struct reflection *s = xcalloc(1, sizeof(*s));

    s->call = c;
    list_init(&s->waiting);
    call_set_handler(c, &handler, s);
}
