/* What a client takes a response in (Accept-Encoding, RFC 9110 section 12.5.3). Pure. */
#pragma once

#include <stdbool.h>

enum encoding { ENCODING_IDENTITY, ENCODING_GZIP, ENCODING_NONE };

/*
 * What it likes best of the two, the earlier one when it likes both as much; NONE when it takes
 * neither. accept NULL: there is no header. must_be_identity: nothing else will do.
 */
enum encoding encoding_choose(const char *accept, bool must_be_identity);
