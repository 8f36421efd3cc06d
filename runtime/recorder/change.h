/* What changes names: making, moving and removing. Paths are absolute. */
#pragma once

#include "runtime/recorder/place.h"

#include <stdint.h>

/* existing: a directory that is there is left as it is. */
bool change_make(const struct place *p, const char *path, mode_t mode, bool parents, bool existing,
                 bool *ret_created, struct status *st);

bool change_move(const struct place *p, const char *from, const char *to, bool overwrite,
                 bool parents, struct status *st);

/* Renames a file to where nothing is, in one step. False with errno set. */
bool change_rename_new(const char *from, const char *to);

/* *ret: how many entries are gone, counted on failure too. */
bool change_remove(const char *path, bool recursive, bool missing, uint64_t *ret,
                   struct status *st);
