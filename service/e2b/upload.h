/* Bodies of unknown length on their way to a sandbox: what upload.c and input.c share. */
#pragma once

#include "service/e2b/request.h"

struct upload_kind {
    enum source source;
    const char *content_type;
    bool is_patient;                     /* bytes may wait at the other side for any time */
    void (*prepare)(struct exchange *x); /* as struct exchange has them */
    bool (*judge)(struct exchange *x, struct verdict *v);
};

/* See e2b_upload_start(). path: below the sandbox's base URL, with the query. */
struct e2b_upload *upload_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                const struct upload_kind *kind, const char *path,
                                void (*writable)(struct e2b_op *op));
