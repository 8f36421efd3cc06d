/* See methods.h. Rows of one service stand together; the server checks that none is missing. */
#include "service/handlers/methods.h"

#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "grpc/reflection/v1alpha/reflection.pb-c.h"
#include "service/handlers/health.h"
#include "service/handlers/reflection.h"

#define HEALTH &grpc__health__v1__health__descriptor
#define REFLECTION_V1 &grpc__reflection__v1__server_reflection__descriptor
#define REFLECTION_V1ALPHA &grpc__reflection__v1alpha__server_reflection__descriptor

const struct method methods[] = {
    {HEALTH, "Check", METHOD_UNARY, health_check_start},
    {HEALTH, "List", METHOD_UNARY, health_list_start},
    {HEALTH, "Watch", METHOD_SERVER_STREAM, health_watch_start},

    {REFLECTION_V1, "ServerReflectionInfo", METHOD_BIDI, reflection_start},
    {REFLECTION_V1ALPHA, "ServerReflectionInfo", METHOD_BIDI, reflection_start},
};

const size_t n_methods = sizeof(methods) / sizeof(methods[0]);
