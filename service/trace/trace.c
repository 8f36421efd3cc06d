/* See trace.h, and https://www.w3.org/TR/trace-context/ for what is and is not a traceparent. */
#include "service/trace/trace.h"

#include "common/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { PARENT_LEN = TRACE_PARENT_SIZE - 1, STATE_MEMBERS_MAX = 32 };

/* --- ids --- */

static bool is_zero(const uint8_t *id, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (id[i] != 0)
            return false;
    }
    return true;
}

static void make_id(uint8_t *ret, size_t len)
{
    do {
        if (getrandom(ret, len, 0) != (ssize_t)len)
            abort(); /* so few bytes are never refused once the system is up */
    } while (is_zero(ret, len));
}

void trace_new_span(uint8_t ret[TRACE_SPAN_LEN])
{
    make_id(ret, TRACE_SPAN_LEN);
}

/* --- reading --- */

/* Small letters only, as W3C has it. */
static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *text, uint8_t *ret, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);

        if (low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Whether these are members with commas between them, in printable characters: what is passed on
 * goes into headers and environments. */
static bool is_state(const char *state)
{
    size_t len = strlen(state), members = 1;

    if (len > TRACE_STATE_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((state[i] < ' ' && state[i] != '\t') || state[i] > '~')
            return false;
        members += state[i] == ',';
    }
    return len == 0 || (members <= STATE_MEMBERS_MAX && strchr(state, '=') != NULL);
}

static struct trace *make(const char *state)
{
    size_t size = strlen(state) + 1;
    struct trace *t = xcalloc(1, sizeof(*t) + size);

    atomic_init(&t->refs, 1);
    memcpy(t->state, state, size);
    return t;
}

struct trace *trace_parse(const char *traceparent, const char *tracestate)
{
    const char *p = traceparent;
    size_t len = p != NULL ? strlen(p) : 0;
    uint8_t version, flags, id[TRACE_ID_LEN], span[TRACE_SPAN_LEN];
    struct trace *t;

    /* A version that we do not know may be longer, behind one more dash. */
    if (len < PARENT_LEN || p[2] != '-' || p[35] != '-' || p[52] != '-' ||
        !read_hex(p, &version, 1) || version == 0xff || !read_hex(p + 3, id, sizeof(id)) ||
        !read_hex(p + 36, span, sizeof(span)) || !read_hex(p + 53, &flags, 1))
        return NULL;
    if (len > PARENT_LEN && (version == 0 || p[PARENT_LEN] != '-'))
        return NULL;
    if (is_zero(id, sizeof(id)) || is_zero(span, sizeof(span)))
        return NULL;
    t = make(tracestate != NULL && is_state(tracestate) ? tracestate : "");
    memcpy(t->id, id, sizeof(id));
    memcpy(t->span, span, sizeof(span));
    t->flags = flags & TRACE_SAMPLED; /* the other bits have no meaning that we could keep */
    return t;
}

/* --- making --- */

struct trace *trace_new(uint8_t flags)
{
    struct trace *t = make("");

    make_id(t->id, sizeof(t->id));
    make_id(t->span, sizeof(t->span));
    t->flags = flags;
    return t;
}

struct trace *trace_child(const struct trace *t, uint8_t flags)
{
    struct trace *child = make(t->state);

    memcpy(child->id, t->id, sizeof(t->id));
    memcpy(child->parent, t->span, sizeof(t->span));
    make_id(child->span, sizeof(child->span));
    child->flags = flags;
    return child;
}

struct trace *trace_ref(struct trace *t)
{
    if (t != NULL)
        atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void trace_unref(struct trace *t)
{
    if (t != NULL && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1)
        free(t);
}

/* --- writing --- */

static char *put_hex(char *to, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to += snprintf(to, 3, "%02x", bytes[i]);
    return to;
}

void trace_format(const struct trace *t, const uint8_t span[TRACE_SPAN_LEN],
                  char ret[TRACE_PARENT_SIZE])
{
    char *to = ret;

    memcpy(to, "00-", 3);
    to = put_hex(to + 3, t->id, sizeof(t->id));
    *to++ = '-';
    to = put_hex(to, span, TRACE_SPAN_LEN);
    *to++ = '-';
    put_hex(to, &t->flags, 1);
}

void trace_id_text(const struct trace *t, char ret[TRACE_ID_TEXT])
{
    put_hex(ret, t->id, sizeof(t->id));
}
