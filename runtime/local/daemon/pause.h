/*
 * Sandboxes that stand still, and copies of their files. All on the loop's thread.
 *
 * A paused sandbox keeps its processes, frozen with their memory, or only its files, as a snapshot
 * of its own: then it starts anew when it is resumed. While something of this goes on with a
 * sandbox it is busy, and takes nothing else of the kind.
 */
#pragma once

#include "runtime/local/daemon/daemon.h"

/* How it went. s is NULL when the sandbox has ended meanwhile (NOT_FOUND). */
typedef void daemon_changed(void *ctx, struct sandbox *s, const struct status *st);

/* Of one that runs and is not busy. done may be NULL. */
void daemon_pause(struct daemon *d, struct sandbox *s, bool memory, daemon_changed *done,
                  void *ctx);
/* Of one that is paused and not busy; it lives for timeout_s from when it runs again. memory: with
 * what its processes were doing, if that was kept. */
void daemon_resume(struct daemon *d, struct sandbox *s, int64_t timeout_s, bool memory,
                   daemon_changed *done, void *ctx);
/* Saves the files of one that runs and is not busy, which goes on afterwards, under a name. */
void daemon_save(struct daemon *d, struct sandbox *s, const char *name, daemon_changed *done,
                 void *ctx);

/* Runs the task once the sandbox is not busy any more, or has ended. */
void daemon_when_idle(struct sandbox *s, struct task *task);
void daemon_move_waiting(struct list *to, struct list *from);
void daemon_run_waiting(struct daemon *d, struct list *waiting);

/* Takes up sandboxes of which an earlier daemon had only the files left. */
void daemon_adopt_stored(struct daemon *d);
/* Nothing that goes on will come to its end any more. Behind the keeper's stop. */
void daemon_drop_changes(struct daemon *d);

/* What the zygote tells. */
void daemon_take_frozen(struct daemon *d, const char *id);
/* False: that it ended is nothing we asked for. */
bool daemon_take_ended(struct daemon *d, const char *id);
void daemon_take_saved(struct daemon *d, const struct zygote_event *e);
