/* The head of a message, once all of it is there. What parser.c needs of head.c. */
#pragma once

#include "common/http/parser.h"

/* Fills p->head from p->bytes. False: the parser has failed. */
bool http_parse_head(struct http_parser *p);

/* Makes the failure the parser's state; a status for requests. Returns HTTP_ERROR. */
enum http_event http_fail(struct http_parser *p, int status, const char *why);

bool http_is_token(const char *s, size_t len);
/* No control characters but tabs. */
bool http_is_text(const char *s, size_t len);
