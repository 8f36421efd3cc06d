/* What kind of content a file has. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { CONTENT_TYPE_SNIFFED = 512 };

/* By the extension of its name; NULL when that says nothing. */
const char *content_type_of_name(const char *path);
/* By its first bytes, up to CONTENT_TYPE_SNIFFED; never NULL. */
const char *content_type_of_bytes(const uint8_t *start, size_t len);
