/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Looks at the start of s. Returns the length (1 to 4) of the sequence when it is valid and whole;
 * 0 when len ends inside a sequence that is valid so far; -n when the first n bytes are no UTF-8
 * and one U+FFFD stands for them (the "maximal subpart" rule that decoders share).
 */
int utf8_sequence(const uint8_t *s, size_t len);

bool utf8_is_valid(const uint8_t *s, size_t len);

/* How many bytes of s fit into room without cutting a character. */
size_t utf8_fitting(const char *s, size_t room);

/* Replaces every byte that is not part of valid UTF-8 by '?', in place. */
void utf8_sanitize(char *s);

/*
 * A copy of any bytes as text: U+FFFD for what is no UTF-8, and for NUL, which a C string cannot
 * hold. The caller's to free.
 */
char *utf8_repair(const uint8_t *data, size_t len);

/* The last bytes of a stream of text, for what may be cut in two between its pieces. */
enum { UTF8_TAIL = 3 };

struct utf8_tail {
    uint8_t bytes[UTF8_TAIL]; /* oldest first */
    size_t n;
};

void utf8_tail_push(struct utf8_tail *t, const uint8_t *data, size_t len);

/* How many bytes at the end are the start of a character that is valid so far. */
size_t utf8_tail_cut(const struct utf8_tail *t);
