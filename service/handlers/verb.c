/* See verb.h. All on the call's worker. */
#include "service/handlers/verb.h"

#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/recorder_result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void release(struct operation *o)
{
    struct verb *v = container_of(o, struct verb, o);

    free(v->output.out);
    if (v->release != NULL)
        v->release(v);
    else
        free(v);
}

/* The verb ran; how it went is in its exit code. */
static void answer(struct operation *o)
{
    struct verb *v = container_of(o, struct verb, o);
    struct status st;

    if (recorder_result(&v->output, v->command_id, NULL, &st) == RECORDER_RESULT_OK) {
        v->answer(v);
        return;
    }
    if (v->failed != NULL)
        v->failed(v, &st);
    call_finish(o->call, &st);
}

static bool failed(struct operation *o)
{
    struct verb *v = container_of(o, struct verb, o);
    const struct app *app = call_app(o->call);

    if (v->asked_archive) {
        if (o->op.st.reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_LOG_EXPIRED)
            o->op.st = v->gone;
        return false;
    }
    if (v->ask_archive == NULL || app->archive == NULL ||
        o->op.st.reason != SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_NOT_FOUND)
        return false;
    v->asked_archive = true;
    v->gone = o->op.st;
    free(v->output.out);
    v->output = (struct e2b_output){0};
    operation_again(o);
    v->ask_archive(v);
    return true;
}

void verb_begin(struct verb *v, struct call *c, const char *sandbox_id, const char *command_id,
                void (*answer_with)(struct verb *v))
{
    v->o.answer = answer;
    v->o.failed = failed;
    v->o.release = release;
    v->answer = answer_with;
    snprintf(v->sandbox_id, sizeof(v->sandbox_id), "%s", sandbox_id);
    snprintf(v->command_id, sizeof(v->command_id), "%s", command_id);
    operation_begin(&v->o, c);
}

struct verb *verb_new(struct call *c, const char *sandbox_id, const char *command_id,
                      void (*answer_with)(struct verb *v))
{
    struct verb *v = xcalloc(1, sizeof(*v));

    verb_begin(v, c, sandbox_id, command_id, answer_with);
    return v;
}

void verb_start(struct verb *v, const char *const *args, const uint8_t *spec, size_t spec_len,
                bool idempotent)
{
    e2b_verb(operation_e2b(&v->o), &v->o.op, v->sandbox_id, args, spec, spec_len, idempotent,
             &v->output);
}

void verb_again(struct verb *v, const char *const *args)
{
    free(v->output.out);
    v->output = (struct e2b_output){0};
    operation_again(&v->o);
    verb_start(v, args, NULL, 0, true);
}

bool verb_check_ids(const char *sandbox_id, const char *command_id, struct status *st)
{
    return validate_id("sandbox_id", sandbox_id, st) && validate_id("command_id", command_id, st);
}

void verb_finish_corrupt(struct verb *v, const char *what)
{
    struct status st;

    status_set(&st, CODE_DATA_LOSS, SANDBOX__V1__ERROR_REASON__ERROR_REASON_JOURNAL_CORRUPT,
               "the recorder's %s does not hold together: it was changed from inside the sandbox",
               what);
    call_finish(v->o.call, &st);
}
