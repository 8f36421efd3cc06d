/*
 * For tests: a sandbox behind the fake of E2B. It runs what it is asked to as the test says, and
 * counts in bench.n.
 */
#pragma once

#include "service/e2b/bench.h"

/* What bench.n counts; VERBS is also a step that a test and its server agree upon. */
enum { STARTS, UPLOADS, SPECS, LOOKS, KILLS, SETUPS, VERBS, ASKED };

/* What a Start asks for, put into one line: "root|/|/path/to/recorder-x|follow|--id=a". */
void describe_start(const struct fake_call *c, char *to, size_t size);
/* Output, exit code, and a proper end. */
void answer_start(struct fake_call *c, const char *out, const char *err, int code);
void answer_stream_error(struct fake_call *c, const char *json);

/* Answers what every sandbox answers alike: the control plane's look, and kills. True: it did. */
bool serve_sandbox(struct fake_call *c, struct bench *b);

/* --- whole servers, for bench_open() --- */

/* The edge and envd at their worst, as b->mode says. */
void serve_edge(struct fake_call *c, void *arg);
/* A process that starts when n[VERBS] says so, and then stays. */
void serve_endless(struct fake_call *c, void *arg);
