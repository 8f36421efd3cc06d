/*
 * See daemon.h: making sandboxes. One on its way in is a creation: described on the loop's thread,
 * asked of the zygote on the keeper's, and finished on the loop's again when the zygote says that
 * it started or could not. It is in the registry only then.
 */
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "runtime/local/daemon/daemon.h"
#include "runtime/local/daemon/pause.h"
#include "runtime/local/daemon/record.h"
#include "runtime/local/daemon/token.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* For a template's ready command: less than the minute that E2B's SDKs wait for an answer. */
enum { READY_MS = 50000 };

void sandbox_request_deinit(struct sandbox_request *r)
{
    pairs_deinit(&r->metadata);
    pairs_deinit(&r->envs);
    free(r->from);
    free(r->template_id);
    blueprint_deinit(&r->blueprint);
    network_deinit(&r->network);
    creation_key_deinit(&r->key);
}

/* A sandbox on its way in. */
struct creation {
    struct task task;
    struct list node;        /* of the daemon's */
    struct daemon *daemon;   /* borrowed */
    struct sandbox *sandbox; /* owned; in no registry yet */
    char *from;              /* owned; the snapshot it starts with, or NULL */
    bool again;              /* it takes the place of one with its id */
    struct egress_policy policy;
    struct buf record;
    int64_t lifetime_ns;
    int64_t began_ns; /* boottime */
    struct status st; /* why it was not begun */
    daemon_created *done;
    void *ctx; /* borrowed */
};

static void creation_free(struct creation *c)
{
    registry_unmake(c->sandbox);
    free(c->from);
    egress_policy_deinit(&c->policy);
    buf_deinit(&c->record);
    free(c);
}

/* What goes on with the sandbox goes on with the one that takes its place. */
static void replace(struct daemon *d, struct sandbox *s)
{
    struct sandbox *old = registry_find(&d->registry, s->id);

    if (old == NULL)
        return;
    s->busy = old->busy;
    daemon_move_waiting(&s->waiting, &old->waiting);
    daemon_forget(d, old);
}

static void count_spawn(struct daemon *d, const struct sandbox *s)
{
    struct template *template = templates_get(&d->templates, s->template_id);

    if (template == NULL)
        return;
    template->spawned_ns = s->start_ns;
    template->n_spawned++;
}

static struct sandbox *enter(struct creation *c, const struct sandbox_net_sockets *net)
{
    struct daemon *d = c->daemon;
    struct sandbox *s = TAKE(c->sandbox);
    int64_t now_ns = clock_boottime_ns();

    if (c->again)
        replace(d, s);
    /* The time it took to start is not charged. */
    registry_add(&d->registry, s, clock_wall_ns(), now_ns, c->lifetime_ns);
    daemon_enter(d, s, net, &c->policy);
    daemon_keep(d, s);
    daemon_note(s, NOTE_INFO, "Sandbox started", NULL);
    if (!c->again)
        count_spawn(d, s);
    log_info("sandbox started", LOG_S("sandbox_id", s->id), LOG_S("template", s->template_id),
             LOG_N("took_us", (now_ns - c->began_ns) / 1000));
    return s;
}

/* net is taken; NULL: there is no sandbox, and st says why. */
static void finish(struct creation *c, const struct sandbox_net_sockets *net,
                   const struct status *st)
{
    list_unlink(&c->node);
    c->daemon->starting--;
    c->done(c->ctx, net != NULL ? enter(c, net) : NULL, st);
    creation_free(c);
}

/* Back on the loop's thread: not even begun. */
static void not_begun(struct task *task)
{
    struct creation *c = container_of(task, struct creation, task);

    finish(c, NULL, &c->st);
}

void daemon_drop_creations(struct daemon *d)
{
    struct status st = STATUS_INIT;

    status_set(&st, CODE_UNAVAILABLE, 0, "the server is stopping");
    LIST_FOR_EACH_SAFE (node, &d->creations)
        finish(container_of(node, struct creation, node), NULL, &st);
}

/* On the keeper's thread. */
static void create_in_zygote(struct task *task)
{
    struct creation *c = container_of(task, struct creation, task);
    const struct sandbox *s = c->sandbox;
    const struct blueprint *b = &s->blueprint;
    struct zygote_env *envs = xcalloc(s->envs.n + 1, sizeof(*envs));
    struct zygote_spec spec = {
        .id = s->id,
        .template_id = s->template_id,
        .envs = envs,
        .n_envs = s->envs.n,
        .from = c->from,
        .access_token = s->access_token[0] != '\0' ? s->access_token : NULL,
        .limits = b->limits,
        .rootfs = b->rootfs,
        .start = b->start,
        .ready = b->ready,
        .start_ms = b->ready != NULL ? READY_MS : 0,
        .default_user = b->user,
        .default_workdir = b->workdir,
        .life = {.record = buf_data(&c->record),
                 .record_len = buf_len(&c->record),
                 .deadline_ns = c->began_ns + c->lifetime_ns,
                 .at_deadline = daemon_at_deadline(s)},
    };

    for (size_t i = 0; i < s->envs.n; i++)
        envs[i] = (struct zygote_env){s->envs.items[i].name, s->envs.items[i].value};
    if (!zygote_create(c->daemon->zygote, &spec, &c->st)) {
        c->task.run = not_begun;
        executor_post(loop_executor(&c->daemon->loop), &c->task);
    }
    free(envs);
}

/* Where connections are not redirected, programs have to be told how to reach the internet. */
static void add_proxy(struct pairs *envs)
{
    static const struct zygote_env told[] = {
        {"HTTP_PROXY", SANDBOX_NET_PROXY_URL},
        {"http_proxy", SANDBOX_NET_PROXY_URL},
        {"HTTPS_PROXY", SANDBOX_NET_PROXY_URL},
        {"https_proxy", SANDBOX_NET_PROXY_URL},
        {"ALL_PROXY", SANDBOX_NET_PROXY_URL},
        {"all_proxy", SANDBOX_NET_PROXY_URL},
        {"NO_PROXY", "localhost,127.0.0.1,::1," SANDBOX_NET_SELF},
        {"no_proxy", "localhost,127.0.0.1,::1," SANDBOX_NET_SELF},
        {"NODE_USE_ENV_PROXY", "1"},
    };

    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
        if (pairs_get(envs, told[i].name) == NULL)
            pairs_add(envs, told[i].name, told[i].value);
    }
}

static bool take_network(struct creation *c, struct network *take, bool internet)
{
    if (!daemon_take_network(c->daemon, c->sandbox, take, internet, &c->st))
        return false;
    c->policy = take->policy;
    take->policy = (struct egress_policy){.n_rules = 0};
    return true;
}

static bool make_id(char ret[SANDBOX_ID_LEN + 1], struct status *st)
{
    uint8_t random[20];

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return status_set(st, CODE_INTERNAL, 0, "no random numbers");
    sandbox_id_make(random, ret);
    return true;
}

/* What is known of it before it is there. */
static bool describe(struct creation *c, struct sandbox_request *take)
{
    struct daemon *d = c->daemon;
    char id[SANDBOX_ID_LEN + 1];

    if (!make_id(id, &c->st))
        return false;
    c->sandbox = registry_make(id);
    c->sandbox->template_id = TAKE(take->template_id);
    c->sandbox->blueprint = take->blueprint;
    take->blueprint = (struct blueprint){NULL};
    c->from = TAKE(take->from);
    c->sandbox->timeout_s = take->timeout_s;
    c->sandbox->auto_pause = take->auto_pause;
    c->sandbox->keeps_memory = take->keeps_memory;
    c->sandbox->auto_resume = take->auto_resume;
    if (take->secure)
        token_make(d->seed, sizeof(d->seed), id, c->sandbox->access_token);
    c->sandbox->metadata = take->metadata;
    c->sandbox->creation = take->key;
    c->sandbox->envs = take->envs;
    pairs_add_missing(&c->sandbox->envs, &c->sandbox->blueprint.envs);
    take->metadata = take->envs = (struct pairs){NULL, 0};
    take->key.text = NULL;
    return take_network(c, &take->network, take->internet);
}

static bool is_room(const struct daemon *d, struct status *st)
{
    if ((int64_t)d->registry.n_sandboxes + d->starting < d->config.max_sandboxes)
        return true;
    return status_set(st, CODE_RESOURCE_EXHAUSTED, 0,
                      "there are already %lld sandboxes, the limit of this server",
                      (long long)d->config.max_sandboxes);
}

static bool write_record(struct creation *c)
{
    if (!zygote_net_redirects(c->daemon->zygote))
        add_proxy(&c->sandbox->envs);
    /* As if it had started now, should we not be there when it has. */
    c->sandbox->start_ns = clock_wall_ns();
    c->sandbox->start_at_ns = c->began_ns;
    sandbox_set_end(c->sandbox, c->sandbox->start_ns, c->began_ns, c->lifetime_ns);
    return record_write(c->sandbox, &c->record, &c->st);
}

/* All but what it is to be. */
static struct creation *creation_new(struct daemon *d, int64_t timeout_s, daemon_created *done,
                                     void *ctx)
{
    struct creation *c = xcalloc(1, sizeof(*c));

    *c = (struct creation){
        .task.run = create_in_zygote,
        .daemon = d,
        .record = BUF_INIT(ZYGOTE_RECORD_MAX - NETWORK_TEXT_MAX),
        .lifetime_ns = timeout_s * NS_PER_S,
        .began_ns = clock_boottime_ns(),
        .done = done,
        .ctx = ctx,
    };
    list_init(&c->node);
    return c;
}

static void begin(struct creation *c, bool prepared)
{
    struct daemon *d = c->daemon;

    if (prepared) {
        d->starting++;
        list_append(&d->creations, &c->node);
        executor_post(keeper_executor(&d->keeper), &c->task);
    } else {
        c->done(c->ctx, NULL, &c->st);
        creation_free(c);
    }
}

void daemon_create(struct daemon *d, struct sandbox_request *take, daemon_created *done, void *ctx)
{
    struct creation *c = creation_new(d, take->timeout_s, done, ctx);

    begin(c, is_room(d, &c->st) && describe(c, take) && write_record(c));
}

/* By way of its record, which has all that a start needs. */
static bool copy(struct creation *c, const struct sandbox *s, const char *id)
{
    AUTO(buf_deinit) struct buf record = BUF_INIT(ZYGOTE_RECORD_MAX);
    AUTO(network_deinit) struct network network = {.public_traffic = true};
    char own_id[SANDBOX_ID_LEN + 1];

    if (!make_id(own_id, &c->st) || !record_write(s, &record, &c->st))
        return false;
    c->sandbox = record_read(id != NULL ? id : own_id, buf_data(&record), buf_len(&record), &c->st);
    if (c->sandbox == NULL || !network_parse_text(&network, s->network, s->internet, &c->st))
        return false;
    if (id == NULL) {
        creation_key_deinit(&c->sandbox->creation);
        c->sandbox->creation = (struct creation_key){NULL};
        if (s->access_token[0] != '\0')
            token_make(c->daemon->seed, sizeof(c->daemon->seed), own_id, c->sandbox->access_token);
    }
    return take_network(c, &network, s->internet);
}

void daemon_create_like(struct daemon *d, const struct sandbox *s, const char *id, const char *from,
                        int64_t timeout_s, daemon_created *done, void *ctx)
{
    struct creation *c = creation_new(d, timeout_s, done, ctx);

    c->again = id != NULL;
    c->from = xstrdup(from);
    begin(c, (c->again || is_room(d, &c->st)) && copy(c, s, id) && write_record(c));
}

static struct creation *find_creation(const struct daemon *d, const char *id)
{
    LIST_FOR_EACH (node, &d->creations) {
        struct creation *c = container_of(node, struct creation, node);

        if (strcmp(c->sandbox->id, id) == 0)
            return c;
    }
    return NULL;
}

void daemon_take_started(struct daemon *d, struct zygote_event *e)
{
    struct creation *c = find_creation(d, e->id);

    if (e->status.code == CODE_OK && d->stopping)
        status_set(&e->status, CODE_UNAVAILABLE, 0, "the server is stopping");
    else if (e->status.code == CODE_OK && e->net.dns_fd < 0)
        status_set(&e->status, CODE_INTERNAL, 0, "the sandbox came without its network");
    if (c != NULL && e->status.code == CODE_OK) {
        finish(c, &e->net, &e->status);
        return;
    }
    if (e->net.tcp_fd >= 0)
        close(e->net.tcp_fd);
    if (e->net.dns_fd >= 0)
        close(e->net.dns_fd);
    if (c != NULL)
        finish(c, NULL, &e->status);
}
