/* Responses as all routes give them: with what browsers need, and with errors as E2B has them. */
#pragma once

#include "common/http/server.h"

/* As http_begin(), with CORS fields when the request comes from a browser. */
void reply_begin(struct http_exchange *x, int status);
/* A whole JSON body. */
void reply_json(struct http_exchange *x, int status, const char *text, size_t len);
/* The same as a success that nobody is to keep. */
void reply_fresh_json(struct http_exchange *x, const char *text, size_t len);
/* {"code":status,"message":"..."} */
void reply_error(struct http_exchange *x, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* No body. */
void reply_empty(struct http_exchange *x, int status);
/* Answers a browser's question whether it may ask (an OPTIONS request). */
void reply_preflight(struct http_exchange *x);
