/* What the files of options.h share. */
#pragma once

#include "common/base/options.h"

struct reading {
    const struct program *program; /* borrowed */
    uint8_t sources[OPTIONS_MAX];  /* enum option_source of each option so far */
    const char *file;              /* borrowed; NULL: none */
};

/* options_value.c */
/* where: how the source names the option, for errors. text is kept where the option is text. */
bool option_store(struct reading *r, const struct option *o, enum option_source source,
                  const char *where, const char *text, struct status *st);

/* options_file.c: r->file and the environment. */
bool options_read_file(struct reading *r, struct status *st);
bool options_read_environment(struct reading *r, struct status *st);
const struct option *option_named(const struct program *p, const char *name, size_t len);
/* "; did you mean …" or nothing. ret has room for NEAREST_HINT_MAX. */
enum { NEAREST_HINT_MAX = 96 };
void option_hint(const struct program *p, bool of_env, const char *before, const char *name,
                 size_t len, char *ret);
