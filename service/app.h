/* What every handler may reach: see call_app(). Made by main; it outlives the server. */
#pragma once

struct archive;
struct config;
struct e2b;
struct metric;
struct metrics;
struct roster;

struct app {
    const struct config *config; /* borrowed */
    struct e2b *e2b;             /* borrowed */
    struct roster *roster;       /* borrowed; what is watched */
    struct metrics *metrics;     /* borrowed */
    struct metric *resumes;      /* see handlers/counts.h; NULL: not counted */
    struct metric *gaps;
    struct archive *archive; /* borrowed; NULL: none is kept */
};
