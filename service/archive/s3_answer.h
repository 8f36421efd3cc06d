/* What S3 answers, in XML: just what a store needs of it. Pure. */
#pragma once

#include "service/archive/store.h"

enum { S3_CODE_MAX = 64 };

/* The error's name, such as "NoSuchKey"; empty when there is none. */
void s3_error_code(const char *xml, size_t len, char ret[S3_CODE_MAX + 1]);

/*
 * A page of a listing: adds the names of objects directly below prefix (which ends with a slash).
 * *ret_token is where the next page starts, owned by the caller; NULL: this was the last. False: it
 * is no listing.
 */
bool s3_read_list(const char *xml, size_t len, const char *prefix, struct store_names *to,
                  char **ret_token);
