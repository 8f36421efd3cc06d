/*
 * What operators see of the archive: copies and their bytes, reads, and since when a copy has been
 * missing. Any thread.
 */
#pragma once

#include "common/base/status.h"

#include <stdint.h>

struct archive_figures;
struct metrics;

/* At start; its metrics are there, and 0, also where nothing is archived. */
struct archive_figures *archive_figures_new(struct metrics *m);
void archive_figures_free(struct archive_figures *f); /* after the last page; NULL is fine */

void archive_figures_copied(struct archive_figures *f, const char *sandbox_id, uint64_t bytes);
/* st: why. That the sandbox is gone is no failure. */
void archive_figures_not_copied(struct archive_figures *f, const char *sandbox_id,
                                const struct status *st);
/* st: how it ended. */
void archive_figures_read(struct archive_figures *f, const struct status *st);
