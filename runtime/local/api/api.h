/* The control plane: E2B's REST API. */
#pragma once

#include "runtime/local/daemon/daemon.h"

#include <json-c/json_object.h>

/* Takes the exchange of a request that is for the control plane. */
void api_request(struct daemon *d, struct http_exchange *x);

/* For the handlers. */

struct api_call {
    struct daemon *daemon;
    struct http_exchange *x;
    size_t route;                   /* its place in the table of them */
    bool v2;                        /* the path began with /v2 */
    char id[SANDBOX_ID_LEN + 64];   /* of the path, without a client id behind it */
    const struct json_object *body; /* borrowed; NULL when the request had none */
};

typedef void api_handler(const struct api_call *call);

api_handler api_create, api_list_v1, api_list, api_get, api_connect, api_delete, api_timeout,
    api_refresh, api_network;
api_handler api_pause, api_resume;                      /* api_pause.c, and connect */
api_handler api_snapshot, api_list_snapshots, api_fork; /* api_snapshots.c */
api_handler api_delete_template;
api_handler api_metrics, api_metrics_of_many; /* api_metrics.c */
api_handler api_logs_v1, api_logs;            /* api_logs.c */
/* api_templates.c */
api_handler api_list_templates_v1, api_list_templates, api_template_alias;

/* Ends the exchange with E2B's error body. */
void api_error(struct http_exchange *x, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with E2B's name for the reason beside the status. */
void api_error_code(struct http_exchange *x, int status, const char *error_code,
                    const char *message);
/* Ends it with what went wrong, as HTTP has it. */
void api_status(struct http_exchange *x, const struct status *st);
/* Ends it with a JSON body; takes the object. */
void api_json(struct http_exchange *x, int status, struct json_object *take);
/* The same for a page of a list. next_token: names the page behind it; NULL: there is none. */
void api_page(struct http_exchange *x, struct json_object *take, const char *next_token);

/*
 * Ends it once what it changed would outlive this process: as api_json(), or without a body for
 * NULL.
 */
void api_reply_kept(const struct api_call *call, int status, struct json_object *take);
/* The same answer as a task, which has to be run once, whenever that is. */
struct task *api_later(const struct api_call *call, int status, struct json_object *take);

/* The sandbox of the call; answered with 400 or 404, and NULL, when there is none. */
struct sandbox *api_sandbox(const struct api_call *call);

/* Whether it runs; answered with 409 when it is paused. */
bool api_is_running(const struct api_call *call, const struct sandbox *s);
/* The same, and nothing goes on with it: with 409 when something does. */
bool api_is_idle(const struct api_call *call, const struct sandbox *s);
/* A whole number of seconds of the body. False: answered with 400. */
bool api_body_number(const struct api_call *call, const char *key, bool required, int64_t min,
                     int64_t missing, int64_t *ret);
/* A timeout that is no longer than a sandbox may live. False: answered with 400. */
bool api_timeout_fits(const struct api_call *call, int64_t timeout_s);

/* Whether the id of the call is one at all; answered with 400 when not. */
bool api_check_id(const struct api_call *call);
/* A whole number of the query, missing when it is not there. False: answered with 400. */
bool api_query_number(const struct api_call *call, const char *name, int64_t min, int64_t max,
                      int64_t missing, int64_t *ret);

/* The Sandbox schema. */
struct json_object *api_sandbox_json(const struct daemon *d, const struct sandbox *s);
