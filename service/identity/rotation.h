/* The server's certificate, kept up to date with its files while the server runs. Made by main. */
#pragma once

#include "service/identity/certificate.h"
#include "service/identity/clients.h"

struct rotation;

/* Reads the files, and has them watched. */
bool rotation_new(const struct certificate_files *files, struct watch *watch, struct rotation **ret,
                  struct status *st);
/* After the watch. NULL is fine. */
void rotation_free(struct rotation *r);

/* Who judges client certificates, kept up to date too; NULL: nobody. */
struct clients *rotation_clients(const struct rotation *r);
/* What the server begins with. */
const struct server_certificate *rotation_certificate(const struct rotation *r);
/* Before the watch starts: who is told of new ones. */
void rotation_serve(struct rotation *r, struct server *server);

struct rotation_counts {
    int64_t reloads, failed_reloads;
    int64_t not_after_ns; /* wall clock */
};
void rotation_count(struct rotation *r, struct rotation_counts *ret);
