/* See rotation.h. After the start all of it runs on the watch's thread, but for the counts. */
#include "service/identity/rotation.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct rotation {
    struct certificate_files files;
    struct watched watched;
    struct server *server;   /* borrowed */
    struct clients *clients; /* owned; NULL: certificates are not asked for */
    struct certificate now;
    atomic_llong reloads, failed_reloads, not_after_ns;
};

static void log_certificate(const struct certificate *c)
{
    time_t at = (time_t)(c->not_after_ns / NS_PER_S);
    struct tm tm;
    char when[32];

    gmtime_r(&at, &tm);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    log_info("certificate was read", LOG_S("subject", c->subject), LOG_S("expires", when));
}

static void take(struct rotation *r, struct certificate *c)
{
    certificate_deinit(&r->now);
    r->now = *c;
    atomic_store(&r->not_after_ns, c->not_after_ns);
    log_certificate(&r->now);
}

static void files_changed(struct watched *files)
{
    struct rotation *r = container_of(files, struct rotation, watched);
    struct certificate c;
    struct status st = STATUS_INIT;

    if (!certificate_read(&r->files, clock_wall_ns(), &c, &st)) {
        atomic_fetch_add(&r->failed_reloads, 1);
        log_error("the new certificate cannot be used, the old one stays",
                  LOG_S("error", st.message));
        return;
    }
    take(r, &c);
    server_set_certificate(r->server, &r->now.pem);
    if (r->clients != NULL)
        clients_set_authorities(r->clients, r->now.pem.client_ca_pem);
    atomic_fetch_add(&r->reloads, 1);
}

bool rotation_new(const struct certificate_files *files, struct watch *watch, struct rotation **ret,
                  struct status *st)
{
    struct rotation *r = xcalloc(1, sizeof(*r));
    struct certificate first;

    r->files = *files;
    r->watched = (struct watched){.paths = {files->chain, files->key, files->client_ca},
                                  .changed = files_changed};
    watch_add(watch, &r->watched);
    if (!certificate_read(files, clock_wall_ns(), &first, st)) {
        list_unlink(&r->watched.node);
        free(r);
        return false;
    }
    take(r, &first);
    if (r->now.pem.client_ca_pem != NULL)
        r->clients = clients_new(r->now.pem.client_ca_pem);
    *ret = r;
    return true;
}

void rotation_free(struct rotation *r)
{
    if (r == NULL)
        return;
    clients_free(r->clients);
    certificate_deinit(&r->now);
    free(r);
}

struct clients *rotation_clients(const struct rotation *r)
{
    return r->clients;
}

const struct server_certificate *rotation_certificate(const struct rotation *r)
{
    return &r->now.pem;
}

void rotation_serve(struct rotation *r, struct server *server)
{
    r->server = server;
}

void rotation_count(struct rotation *r, struct rotation_counts *ret)
{
    *ret = (struct rotation_counts){
        .reloads = atomic_load(&r->reloads),
        .failed_reloads = atomic_load(&r->failed_reloads),
        .not_after_ns = atomic_load(&r->not_after_ns),
    };
}
