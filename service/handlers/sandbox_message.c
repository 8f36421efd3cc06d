/* See sandbox_message.h. */
#include "service/handlers/sandbox_message.h"

#include "common/base/clock.h"
#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

static const char own_prefix[] = "sandboxd.";

static void set_time(Google__Protobuf__Timestamp *t, int64_t ns)
{
    google__protobuf__timestamp__init(t);
    t->seconds = ns / NS_PER_S;
    t->nanos = (int32_t)(ns % NS_PER_S);
}

static void set_metadata(struct sandbox_message *to, const struct e2b_sandbox *s)
{
    to->entries = xcalloc(s->n_metadata, sizeof(to->entries[0]));
    to->pointers = xcalloc(s->n_metadata, sizeof(to->pointers[0]));
    to->m.metadata = to->pointers;
    for (size_t i = 0; i < s->n_metadata; i++) {
        Sandbox__V1__Sandbox__MetadataEntry *e = &to->entries[to->m.n_metadata];

        if (strncmp(s->metadata[i].key, own_prefix, sizeof(own_prefix) - 1) == 0)
            continue;
        sandbox__v1__sandbox__metadata_entry__init(e);
        e->key = s->metadata[i].key;
        e->value = s->metadata[i].value;
        to->pointers[to->m.n_metadata++] = e;
    }
}

/* Nothing is said of one that may reach everything. */
static void set_network(struct sandbox_message *to, const struct e2b_network *from)
{
    if (!from->deny_internet && from->n_allow_out == 0 && from->n_deny_out == 0)
        return;
    sandbox__v1__network__init(&to->network);
    to->network.allow_out = from->allow_out;
    to->network.n_allow_out = from->n_allow_out;
    to->network.deny_out = from->deny_out;
    to->network.n_deny_out = from->n_deny_out;
    to->network.deny_internet_access = from->deny_internet;
    to->m.network = &to->network;
}

void sandbox_message_init(struct sandbox_message *to, const struct e2b_sandbox *s)
{
    sandbox__v1__sandbox__init(&to->m);
    to->m.sandbox_id = s->id;
    to->m.state = s->state == E2B_PAUSED ? SANDBOX__V1__SANDBOX__STATE__STATE_PAUSED
                                         : SANDBOX__V1__SANDBOX__STATE__STATE_RUNNING;
    if (s->template_id != NULL)
        to->m.template_ = s->template_id;
    set_time(&to->start, s->start_ns);
    set_time(&to->end, s->end_ns);
    if (s->start_ns != 0)
        to->m.start_time = &to->start;
    if (s->end_ns != 0)
        to->m.end_time = &to->end;
    to->m.cpu_count = s->cpu_count;
    to->m.memory_mib = s->memory_mib;
    to->m.auto_resume = s->auto_resume;
    if (s->idle_s > 0) {
        google__protobuf__duration__init(&to->idle_timeout);
        to->idle_timeout.seconds = s->idle_s;
        to->m.idle_timeout = &to->idle_timeout;
    }
    set_metadata(to, s);
    set_network(to, &s->network);
}

void sandbox_message_deinit(struct sandbox_message *to)
{
    free(to->entries);
    free(to->pointers);
}
