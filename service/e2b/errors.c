/*
 * See errors.h. The table is read from the top and the first rule that fits decides, so the special
 * stands above the general. Messages of peers are quoted, cut and made valid UTF-8.
 */
#include "service/e2b/errors.h"

#include "common/base/cleanup.h"
#include "common/base/utf8.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    ANY = -1,
    API = SOURCE_API | SOURCE_CREATE | SOURCE_SNAPSHOT,
    EDGE = SOURCE_FILES | SOURCE_START,
    HTTP = API | EDGE,
    GARBAGE = 0, /* as number */
};

struct rule {
    unsigned from; /* of enum source */
    int number;    /* a number below 10 with an HTTP source stands for its hundred */
    enum code code;
    int reason;
    enum again again;
    const char *says;
    const char *word; /* that the peer's words must contain; NULL: any */
    enum remedy remedy;
};

/* The code and the reason of nearly half of them. */
#define UNAVAILABLE CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE)

static const struct rule rules[] = {
    /* The way there. */
    {SOURCE_CURL, CURLE_COULDNT_RESOLVE_HOST, UNAVAILABLE, AGAIN_ALWAYS,
     "the host name of E2B cannot be resolved"},
    {SOURCE_CURL, CURLE_COULDNT_RESOLVE_PROXY, UNAVAILABLE, AGAIN_ALWAYS,
     "the proxy on the way to E2B cannot be resolved"},
    {SOURCE_CURL, CURLE_COULDNT_CONNECT, UNAVAILABLE, AGAIN_ALWAYS, "E2B cannot be reached"},
    {SOURCE_CURL, CURLE_PEER_FAILED_VERIFICATION, UNAVAILABLE, AGAIN_NEVER,
     "the certificate of E2B is not to be trusted"},
    {SOURCE_CURL, CURLE_URL_MALFORMAT, UNAVAILABLE, AGAIN_NEVER,
     "the address of E2B is no URL: check E2B_API_URL, E2B_SANDBOX_URL"},
    {SOURCE_CURL, CURLE_OPERATION_TIMEDOUT, UNAVAILABLE, AGAIN_IF_SAFE,
     "E2B did not answer in time"},
    {SOURCE_CURL, CURLE_WRITE_ERROR, UNAVAILABLE, AGAIN_NEVER, "E2B answered with more than fits"},
    {SOURCE_CURL, ANY, UNAVAILABLE, AGAIN_IF_SAFE, "the connection to E2B broke"},

    /* Whoever it is, in HTTP. */
    {HTTP, GARBAGE, UNAVAILABLE, AGAIN_IF_SAFE,
     "E2B answered with something that is not its protocol"},
    {HTTP, 429, CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA), AGAIN_IF_TOLD,
     "a limit of the E2B account is reached"},

    /* The control plane. */
    {API, 401, CODE_FAILED_PRECONDITION, REASON(E2B_UNAUTHENTICATED), AGAIN_NEVER,
     "E2B does not accept this server's key: its operator must set E2B_API_KEY"},
    {API, 403, CODE_FAILED_PRECONDITION, REASON(E2B_FORBIDDEN), AGAIN_NEVER,
     "E2B does not allow this"},
    {SOURCE_CREATE, 404, CODE_NOT_FOUND, REASON(TEMPLATE_NOT_FOUND), AGAIN_NEVER,
     "there is no such template"},
    {SOURCE_API, 404, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), AGAIN_NEVER,
     "there is no such sandbox: it never existed, was deleted, or its time ran out"},
    {SOURCE_SNAPSHOT, 404, CODE_NOT_FOUND, REASON(SNAPSHOT_NOT_FOUND), AGAIN_NEVER,
     "there is no such snapshot"},
    {SOURCE_SNAPSHOT, 400, CODE_FAILED_PRECONDITION, REASON(SNAPSHOT_IN_USE), AGAIN_NEVER,
     "sandboxes made from the snapshot live: delete them first", .word = "sandboxes"},
    {API, 409, CODE_UNAVAILABLE, REASON(SANDBOX_BUSY), AGAIN_IF_SAFE,
     "the sandbox is changing its state"},
    {API, 503, UNAVAILABLE, AGAIN_ALWAYS, "E2B has no room for another sandbox at the moment",
     .word = "sandbox_"},

    /* The edge, and envd behind it. */
    {EDGE, 502, UNAVAILABLE, AGAIN_ALWAYS, "the sandbox does not answer", .remedy = REMEDY_LOOK},
    {SOURCE_FILES, 401, CODE_INVALID_ARGUMENT, REASON(USER_NOT_FOUND), AGAIN_NEVER,
     "the sandbox has no such user", .word = "user", .remedy = REMEDY_USER},
    {EDGE, 401, UNAVAILABLE, AGAIN_ALWAYS, "the sandbox does not accept its access token",
     .remedy = REMEDY_LOOK},
    {EDGE, 403, CODE_FAILED_PRECONDITION, REASON(E2B_FORBIDDEN), AGAIN_NEVER,
     "E2B does not allow this"},
    {SOURCE_FILES, 404, CODE_NOT_FOUND, REASON(FILE_NOT_FOUND), AGAIN_NEVER,
     "there is no such file"},
    {EDGE, 409, CODE_UNAVAILABLE, REASON(SANDBOX_BUSY), AGAIN_ALWAYS,
     "the sandbox is changing its state", .remedy = REMEDY_LOOK},
    {SOURCE_FILES, 400, CODE_FAILED_PRECONDITION, REASON(NOT_A_FILE), AGAIN_NEVER,
     "the path is not a file", .word = "directory"},
    {SOURCE_FILES, 500, CODE_FAILED_PRECONDITION, REASON(NOT_A_FILE), AGAIN_NEVER,
     "the path is not a file, or passes through one", .word = "directory"},
    {SOURCE_FILES, 500, CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL), AGAIN_NEVER,
     "the disk of the sandbox is full", .word = "no space"},
    {SOURCE_FILES, 507, CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL), AGAIN_NEVER,
     "the disk of the sandbox is full"},
    {SOURCE_START, 404, CODE_UNIMPLEMENTED, REASON(UNSUPPORTED), AGAIN_NEVER,
     "this E2B cannot do that"},
    {SOURCE_START, 415, CODE_UNIMPLEMENTED, REASON(UNSUPPORTED), AGAIN_NEVER,
     "this E2B cannot do that"},

    /* The rest of HTTP. */
    {HTTP, 408, UNAVAILABLE, AGAIN_IF_SAFE, "E2B did not get the request in time"},
    {HTTP, 4, CODE_INVALID_ARGUMENT, REASON(E2B_REJECTED), AGAIN_NEVER, "E2B refused the request"},
    {HTTP, 501, CODE_UNIMPLEMENTED, REASON(UNSUPPORTED), AGAIN_NEVER, "this E2B cannot do that"},
    {HTTP, 5, UNAVAILABLE, AGAIN_IF_SAFE, "E2B has a fault at the moment"},
    {HTTP, ANY, UNAVAILABLE, AGAIN_NEVER, "E2B answered with something that is not its protocol"},

    /* envd, in Connect's terms. */
    {SOURCE_CONNECT, GARBAGE, UNAVAILABLE, AGAIN_IF_SAFE,
     "the sandbox answered with something that is not its protocol"},
    {SOURCE_CONNECT, CODE_UNAUTHENTICATED, CODE_INVALID_ARGUMENT, REASON(USER_NOT_FOUND),
     AGAIN_NEVER, "the sandbox has no such user", .remedy = REMEDY_USER},
    {SOURCE_CONNECT, CODE_INVALID_ARGUMENT, CODE_INVALID_ARGUMENT, REASON(E2B_REJECTED),
     AGAIN_NEVER, "the sandbox refused the request"},
    {SOURCE_CONNECT, CODE_FAILED_PRECONDITION, CODE_FAILED_PRECONDITION, REASON(E2B_REJECTED),
     AGAIN_NEVER, "the sandbox refused the request"},
    {SOURCE_CONNECT, CODE_PERMISSION_DENIED, CODE_FAILED_PRECONDITION, REASON(E2B_FORBIDDEN),
     AGAIN_NEVER, "the sandbox does not allow this"},
    {SOURCE_CONNECT, CODE_RESOURCE_EXHAUSTED, CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA),
     AGAIN_IF_SAFE, "a limit of the sandbox is reached"},
    {SOURCE_CONNECT, CODE_UNIMPLEMENTED, CODE_UNIMPLEMENTED, REASON(UNSUPPORTED), AGAIN_NEVER,
     "this sandbox cannot do that"},
    {SOURCE_CONNECT, CODE_DEADLINE_EXCEEDED, UNAVAILABLE, AGAIN_IF_SAFE,
     "the sandbox ended the process when its time was over"},
    {SOURCE_CONNECT, ANY, UNAVAILABLE, AGAIN_IF_SAFE, "the sandbox has a fault at the moment"},
};

static bool fits(const struct rule *r, enum source source, int number, const char *words)
{
    if (!(r->from & source))
        return false;
    if (r->number == ANY)
        return true;
    if ((source & HTTP) && r->number > 0 && r->number < 10)
        number /= 100;
    if (r->number != number)
        return false;
    return r->word == NULL || (words != NULL && strcasestr(words, r->word) != NULL);
}

static void quote(struct status *st, const char *how, const char *words)
{
    char safe[256];
    size_t len = strlen(st->message);

    if (words == NULL || words[0] == '\0') {
        snprintf(st->message + len, sizeof st->message - len, " (%s)", how);
        return;
    }
    snprintf(safe, sizeof safe, "%s", words);
    utf8_sanitize(safe);
    for (char *c = safe; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ')
            *c = ' ';
    }
    snprintf(st->message + len, sizeof st->message - len, " (%s: %s)", how, safe);
}

void errors_lookup(enum source source, int number, const char *words, struct verdict *ret)
{
    const struct rule *r = rules;
    char how[32];

    while (!fits(r, source, number, words))
        r++; /* each source has a rule for any number */
    *ret = VERDICT_INIT;
    ret->again = r->again;
    ret->remedy = r->remedy;
    status_set(&ret->st, r->code, r->reason, "%s", r->says);
    if (source == SOURCE_CURL)
        snprintf(how, sizeof how, "curl %d", number);
    else if (number == GARBAGE)
        snprintf(how, sizeof how, "unexpected");
    else if (source == SOURCE_CONNECT)
        snprintf(how, sizeof how, "%s", code_name(number));
    else
        snprintf(how, sizeof how, "HTTP %d", number);
    quote(&ret->st, how, words);
}

enum code errors_connect_code(const char *name)
{
    /* Connect's codes are gRPC's, spelled differently (one of them truly so). */
    if (strcmp(name, "canceled") == 0)
        return CODE_CANCELLED;
    for (int c = CODE_CANCELLED; c <= CODE_UNAUTHENTICATED; c++) {
        if (strcasecmp(code_name(c), name) == 0)
            return c;
    }
    return CODE_UNKNOWN;
}

void errors_connect(const char *code, const char *message, struct verdict *ret)
{
    errors_lookup(SOURCE_CONNECT, errors_connect_code(code), message, ret);
}

void errors_garbage(enum source source, const char *detail, struct verdict *ret)
{
    errors_lookup(source, GARBAGE, detail, ret);
}

/* Seconds, as E2B sends it; HTTP's other form, a date, counts as nothing said. */
static int64_t retry_after_ms(const struct transfer *t)
{
    const char *value = transfer_response_header(t, "Retry-After");
    char *end;
    long seconds;

    if (value == NULL || value[0] < '0' || value[0] > '9')
        return -1;
    seconds = strtol(value, &end, 10);
    return *end == '\0' && seconds <= 86400 ? seconds * 1000 : -1;
}

static void judge_http(const struct transfer *t, enum source source, struct verdict *ret)
{
    AUTO_JSON struct json_object *o = json_parse(buf_data(&t->body), buf_len(&t->body));
    const char *message = json_text(o, "message", 4096);
    const char *error_code = json_text(o, "error_code", 256);
    const char *connect_code = json_text(o, "code", 64);
    char words[512];

    if ((source & EDGE) && connect_code != NULL) {
        errors_connect(connect_code, message, ret);
        return;
    }
    /* Anything can answer 404 or 400: a wrong address, a proxy. Only E2B does it in its own form.
     */
    if ((source & API) && (t->status == 404 || t->status == 400) && message == NULL) {
        snprintf(words, sizeof words, "HTTP %ld without E2B's form", t->status);
        errors_garbage(source, words, ret);
        return;
    }
    snprintf(words, sizeof words, "%s%s%s", error_code ? error_code : "", error_code ? ": " : "",
             message ? message : "");
    errors_lookup(source, (int)t->status, words, ret);
    ret->told_ms = retry_after_ms(t);
    if (ret->told_ms >= 0)
        ret->st.retry_ms = ret->told_ms > 0 ? ret->told_ms : 1;
}

void errors_judge(const struct transfer *t, enum source source, struct verdict *ret)
{
    /* An error that was told whole counts, even if the connection broke behind it. */
    if (t->result != CURLE_OK && (t->status < 400 || t->too_long)) {
        errors_lookup(SOURCE_CURL, t->result, transfer_error(t), ret);
        if (t->times_sent == 0 && ret->again == AGAIN_IF_SAFE)
            ret->again = AGAIN_ALWAYS;
        return;
    }
    judge_http(t, source, ret);
}
