/*
 * The templates that are served. See daemon.h.
 *
 * Whether disks can be made is found out once, before the keeper has the zygote to itself; a
 * template that wants what this machine does not have is refused like a mistake in its file.
 */
#include "common/base/clock.h"
#include "runtime/local/daemon/daemon.h"

static bool check_disks(const struct daemon *d, const struct templates *t, struct status *st)
{
    for (size_t i = 0; i < t->n && d->no_disk.code != CODE_OK; i++) {
        if (t->items[i].blueprint.limits.on_disk)
            return status_set(st, CODE_FAILED_PRECONDITION, 0,
                              "template %s/template.json: disk cannot be \"disk\" here: %s",
                              t->items[i].id, d->no_disk.message);
    }
    return true;
}

bool daemon_read_templates(struct daemon *d, struct status *st)
{
    struct templates fresh;
    bool good;

    if (!templates_read(&fresh, d->config.template_dir, clock_wall_ns(), &d->config.limits, st))
        return false;
    good = check_disks(d, &fresh, st);
    if (good)
        templates_replace(&d->templates, &fresh);
    templates_deinit(&fresh);
    return good;
}

bool daemon_start_templates(struct daemon *d, struct status *st)
{
    if (d->config.template_dir != NULL)
        zygote_try_disk(d->zygote, &d->no_disk);
    return daemon_read_templates(d, st);
}
