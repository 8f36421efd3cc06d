/* Spans as OTLP's JSON: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. Pure. */
#pragma once

#include "service/trace/tracer.h"

#include <stddef.h>

/* The body of one export; to be released with free(). resource: "key=value,…" or NULL. */
char *otlp_pack(const char *service_name, const char *resource, const struct span *spans, size_t n);
