/*
 * The /etc of every sandbox: what programs need of the host's (certificates, alternatives, the
 * loader's cache, shells' profiles), as far as anyone may read it, with users, hosts and resolver
 * of its own. Made once, when the zygote starts. Where hosts keep secrets is not copied: the list
 * names what is.
 */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <sys/types.h>

/* Copies from source ("/etc") into the new directory target; all of it owned by uid and gid. */
bool sandbox_etc_make(const char *source, const char *target, uid_t uid, gid_t gid,
                      struct status *st);

/* Writes to a directory what names the sandbox itself and its name server. False: errno. */
bool sandbox_etc_write_names(int to);
