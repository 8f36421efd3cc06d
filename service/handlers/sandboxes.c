/*
 * CreateSandbox, GetSandbox, ListSandboxes and DeleteSandbox: the request is checked, copied into
 * what the adapter wants (it may be unpacked memory that is gone by the time the answer comes), and
 * the answer is turned into a message. On the call's worker.
 */
#include "service/handlers/sandboxes.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/sandbox.pb-c.h"
#include "service/config.h"
#include "service/handlers/network_field.h"
#include "service/handlers/pairs.h"
#include "service/handlers/removal.h"
#include "service/handlers/sandbox_message.h"
#include "service/handlers/sandbox_operation.h"
#include "service/handlers/validate.h"
#include "service/identity/caller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    TEMPLATE_MAX = 256,
    IDLE_MIN_MS = 30 * 1000, /* E2B prolongs by no less than 15 s */
    PAGE_MAX = 100,
    PAGE_TOKEN_MAX = 1024,
};

static void refuse(struct call *c, const struct status *st)
{
    call_finish(c, st);
}

/* --- CreateSandbox --- */

struct create {
    struct operation o;
    struct e2b_create_args args;
    struct pairs metadata, envs;
    struct e2b_network network;
    char *template, *request_id, *reuse_key; /* owned */
    struct e2b_sandbox sandbox;
    bool reused;
};

static void create_release(struct operation *o)
{
    struct create *k = container_of(o, struct create, o);

    pairs_deinit(&k->metadata);
    pairs_deinit(&k->envs);
    e2b_network_deinit(&k->network);
    free(k->template);
    free(k->request_id);
    free(k->reuse_key);
    e2b_sandbox_deinit(&k->sandbox);
    free(k);
}

static void create_answer(struct operation *o)
{
    struct create *k = container_of(o, struct create, o);
    Sandbox__V1__CreateSandboxResponse m = SANDBOX__V1__CREATE_SANDBOX_RESPONSE__INIT;
    AUTO(sandbox_message_deinit) struct sandbox_message sandbox;

    sandbox_message_init(&sandbox, &k->sandbox);
    m.sandbox = &sandbox.m;
    m.reused = k->reused;
    call_reply(o->call, &m.base);
}

static char *copy_or_null(const char *text)
{
    return text[0] != '\0' ? xstrdup(text) : NULL;
}

static bool check_create(const Sandbox__V1__CreateSandboxRequest *r, struct status *st)
{
    if (strlen(r->template_) > TEMPLATE_MAX)
        return status_bad_field(st, INVALID_FIELD, "template", "template is longer than %d bytes",
                                TEMPLATE_MAX);
    if (r->on_timeout > SANDBOX__V1__ON_TIMEOUT__ON_TIMEOUT_PAUSE)
        return status_bad_field(st, INVALID_FIELD, "on_timeout", "on_timeout %d is not known here",
                                (int)r->on_timeout);
    return validate_optional_id("request_id", r->request_id, st) &&
           validate_optional_id("reuse_key", r->reuse_key, st);
}

static bool read_network(struct create *k, const Sandbox__V1__CreateSandboxRequest *r,
                         struct status *st)
{
    if (r->network != NULL && !network_field_read("network", r->network, &k->network, st))
        return false;
    k->network.deny_internet = k->network.deny_internet || r->deny_internet_access;
    return true;
}

static bool read_idle(struct create *k, const struct config *config,
                      const Google__Protobuf__Duration *d, struct status *st)
{
    int64_t ms = config->idle_timeout_ms;

    if (d != NULL && d->seconds == 0 && d->nanos == 0)
        ms = 0;
    else if (d != NULL && !validate_duration("idle_timeout", d->seconds, d->nanos, IDLE_MIN_MS,
                                             E2B_KEEP_ALIVE_MAX_S * INT64_C(1000), &ms, st))
        return false;
    k->args.idle_s = (ms + 999) / 1000;
    return true;
}

static bool read_create(struct create *k, const struct config *config,
                        const Sandbox__V1__CreateSandboxRequest *r, struct status *st)
{
    if (!check_create(r, st) || !pairs_metadata(&k->metadata, r->metadata, r->n_metadata, st) ||
        !pairs_envs(&k->envs, r->envs, r->n_envs, st) ||
        !timeout_read(r->timeout, TIMEOUT_DEFAULT_S, config->max_timeout_ms / 1000,
                      &k->args.timeout_s, st) ||
        !read_idle(k, config, r->idle_timeout, st) || !read_network(k, r, st))
        return false;
    k->args.template = k->template = copy_or_null(r->template_);
    k->args.request_id = k->request_id = copy_or_null(r->request_id);
    k->args.reuse_key = k->reuse_key = copy_or_null(r->reuse_key);
    k->args.metadata = k->metadata.items;
    k->args.n_metadata = k->metadata.n;
    k->args.envs = k->envs.items;
    k->args.n_envs = k->envs.n;
    k->args.pause_on_timeout = r->on_timeout == SANDBOX__V1__ON_TIMEOUT__ON_TIMEOUT_PAUSE;
    k->args.auto_resume = r->auto_resume;
    k->args.network = &k->network;
    return true;
}

void create_sandbox_start(struct call *c, const ProtobufCMessage *message)
{
    struct create *k = xcalloc(1, sizeof(*k));
    struct status st = STATUS_INIT;

    k->o.answer = create_answer;
    k->o.release = create_release;
    if (!read_create(k, ((const struct app *)call_app(c))->config,
                     (const Sandbox__V1__CreateSandboxRequest *)message, &st)) {
        create_release(&k->o);
        refuse(c, &st);
        return;
    }
    operation_begin(&k->o, c);
    e2b_create(operation_e2b(&k->o), &k->o.op, &k->args, &k->sandbox, &k->reused);
}

/* --- GetSandbox --- */

static void get_answer(struct operation *o)
{
    struct sandbox_operation *k = container_of(o, struct sandbox_operation, o);
    Sandbox__V1__GetSandboxResponse m = SANDBOX__V1__GET_SANDBOX_RESPONSE__INIT;
    AUTO(sandbox_message_deinit) struct sandbox_message sandbox;

    sandbox_message_init(&sandbox, &k->sandbox);
    m.sandbox = &sandbox.m;
    call_reply(o->call, &m.base);
}

void get_sandbox_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__GetSandboxRequest *r = (const Sandbox__V1__GetSandboxRequest *)message;
    struct sandbox_operation *k = sandbox_operation_new(c, r->sandbox_id, get_answer);

    if (k != NULL)
        e2b_get(operation_e2b(&k->o), &k->o.op, k->sandbox_id, &k->sandbox);
}

/* --- DeleteSandbox --- */

struct deletion {
    struct call *call;
    struct removal removal;
    bool allow_missing;
};

static void deletion_gone(void *state)
{
    struct deletion *d = state;

    removal_cancel(&d->removal); /* its done finishes the call */
}

static const struct call_handler deletion_handler = {.on_gone = deletion_gone, .destroy = free};

/* With allow_missing a sandbox that is not there is as good as deleted. */
static void deletion_done(struct e2b_op *op)
{
    struct deletion *d = container_of(op, struct deletion, removal.op);
    Sandbox__V1__DeleteSandboxResponse m = SANDBOX__V1__DELETE_SANDBOX_RESPONSE__INIT;
    struct call *c = d->call;

    if (op->st.code == CODE_OK || (op->st.code == CODE_NOT_FOUND && d->allow_missing))
        call_reply(c, &m.base);
    else
        call_finish(c, &op->st);
    call_unref(c);
}

void delete_sandbox_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__DeleteSandboxRequest *r = (const Sandbox__V1__DeleteSandboxRequest *)message;
    struct status st = STATUS_INIT;
    struct deletion *d;

    if (!validate_id("sandbox_id", r->sandbox_id, &st)) {
        refuse(c, &st);
        return;
    }
    d = xcalloc(1, sizeof(*d));
    d->call = c;
    d->allow_missing = r->allow_missing;
    d->removal.op = (struct e2b_op){
        .caller = caller_of(c),
        .executor = call_executor(c),
        .done = deletion_done,
        .deadline_ns = call_deadline_ns(c),
    };
    call_set_handler(c, &deletion_handler, d);
    call_ref(c);
    removal_start(&d->removal, call_app(c), r->sandbox_id, r->discard_logs);
}

/* --- ListSandboxes --- */

struct listing {
    struct operation o;
    struct e2b_list_args args;
    struct pairs metadata;
    char *page_token; /* owned */
    struct e2b_list list;
};

static void listing_release(struct operation *o)
{
    struct listing *k = container_of(o, struct listing, o);

    pairs_deinit(&k->metadata);
    free(k->page_token);
    e2b_list_deinit(&k->list);
    free(k);
}

static void listing_answer(struct operation *o)
{
    struct listing *k = container_of(o, struct listing, o);
    Sandbox__V1__ListSandboxesResponse m = SANDBOX__V1__LIST_SANDBOXES_RESPONSE__INIT;
    size_t n = k->list.n_items;
    AUTO_FREE struct sandbox_message *items = xcalloc(n, sizeof(items[0]));
    AUTO_FREE Sandbox__V1__Sandbox **pointers = xcalloc(n, sizeof(pointers[0]));

    for (size_t i = 0; i < n; i++) {
        sandbox_message_init(&items[i], &k->list.items[i]);
        pointers[i] = &items[i].m;
    }
    m.sandboxes = pointers;
    m.n_sandboxes = n;
    if (k->list.next_page_token != NULL)
        m.next_page_token = k->list.next_page_token;
    call_reply(o->call, &m.base);
    for (size_t i = 0; i < n; i++)
        sandbox_message_deinit(&items[i]);
}

static bool read_listing(struct listing *k, const Sandbox__V1__ListSandboxesRequest *r,
                         struct status *st)
{
    if (r->page_size < 0)
        return status_bad_field(st, INVALID_FIELD, "page_size", "page_size is negative");
    if (strlen(r->page_token) > PAGE_TOKEN_MAX)
        return status_bad_field(st, INVALID_FIELD, "page_token",
                                "page_token is not one that this method returned");
    if (!validate_states(r->states, r->n_states, &k->args.running, &k->args.paused, st) ||
        !pairs_metadata(&k->metadata, (pairs_metadata_entry **)r->metadata, r->n_metadata, st))
        return false;
    k->args.limit = r->page_size == 0 || r->page_size > PAGE_MAX ? PAGE_MAX : r->page_size;
    k->args.metadata = k->metadata.items;
    k->args.n_metadata = k->metadata.n;
    k->args.page_token = k->page_token = copy_or_null(r->page_token);
    return true;
}

void list_sandboxes_start(struct call *c, const ProtobufCMessage *message)
{
    struct listing *k = xcalloc(1, sizeof(*k));
    struct status st = STATUS_INIT;

    k->o.answer = listing_answer;
    k->o.release = listing_release;
    if (!read_listing(k, (const Sandbox__V1__ListSandboxesRequest *)message, &st)) {
        listing_release(&k->o);
        refuse(c, &st);
        return;
    }
    operation_begin(&k->o, c);
    e2b_list(operation_e2b(&k->o), &k->o.op, &k->args, &k->list);
}
