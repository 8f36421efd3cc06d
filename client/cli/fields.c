/* See fields.h. */
#include "client/cli/fields.h"

#include "client/cli/cli.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void *cli_field(const ProtobufCMessage *m, const char *name, size_t **ret_n)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);

    if (field == NULL)
        abort(); /* verbs name only what there is */
    if (ret_n != NULL)
        *ret_n = (size_t *)((char *)m + field->quantifier_offset);
    return (char *)m + field->offset;
}

static ProtobufCMessage *make_entry(const ProtobufCMessageDescriptor *type, const char *text,
                                    size_t key_len)
{
    ProtobufCMessage *entry = xcalloc(1, type->sizeof_message);

    type->message_init(entry);
    *(char **)cli_field(entry, "key", NULL) = xstrndup(text, key_len);
    *(char **)cli_field(entry, "value", NULL) = xstrdup(text + key_len + 1);
    return entry;
}

bool cli_map(const char *option, const struct option_strings *from, ProtobufCMessage *request,
             const char *name)
{
    const ProtobufCMessageDescriptor *type =
        protobuf_c_message_descriptor_get_field_by_name(request->descriptor, name)->descriptor;
    size_t *n;
    ProtobufCMessage ***entries = cli_field(request, name, &n);

    for (size_t i = 0; i < from->n; i++) {
        size_t key_len = strcspn(from->at[i], "=");

        if (key_len == 0 || from->at[i][key_len] == '\0') {
            cli_usage("--%s=%s: KEY=VALUE is needed", option, from->at[i]);
            return false;
        }
    }
    *entries = xcalloc(from->n, sizeof(**entries));
    *n = from->n;
    for (size_t i = 0; i < from->n; i++)
        (*entries)[i] = make_entry(type, from->at[i], strcspn(from->at[i], "="));
    return true;
}

void cli_map_free(ProtobufCMessage *request, const char *name)
{
    size_t *n;
    ProtobufCMessage ***entries = cli_field(request, name, &n);

    for (size_t i = 0; i < *n; i++)
        protobuf_c_message_free_unpacked((*entries)[i], NULL);
    free(*entries);
    *entries = NULL;
    *n = 0;
}

const char *cli_time(const Google__Protobuf__Timestamp *t, char room[32])
{
    time_t seconds = t != NULL ? t->seconds : 0;
    struct tm tm;

    if (t == NULL || gmtime_r(&seconds, &tm) == NULL)
        return "-";
    strftime(room, 32, "%Y-%m-%d %H:%M:%S", &tm);
    return room;
}

const char *cli_enum(const ProtobufCEnumDescriptor *type, int value, const char *prefix,
                     char room[32])
{
    const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(type, value);
    size_t skip = strlen(prefix);

    if (found == NULL) {
        snprintf(room, 32, "%d", value);
        return room;
    }
    snprintf(room, 32, "%s",
             strncmp(found->name, prefix, skip) == 0 ? found->name + skip : found->name);
    for (char *c = room; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return room;
}

/* As an option takes it: "keep-up". */
static const char *enum_option(const ProtobufCEnumDescriptor *type, int value, const char *prefix,
                               char room[32])
{
    cli_enum(type, value, prefix, room);
    for (char *c = room; *c != '\0'; c++)
        *c = *c == '_' ? '-' : *c;
    return room;
}

/* "a, b or c": the names that cli_enum_of() takes. */
static void list_names(const ProtobufCEnumDescriptor *type, const char *prefix, struct buf *to)
{
    char room[32];

    for (unsigned i = 1; i < type->n_values; i++) {
        if (i > 1)
            buf_append_str(to, i + 1 < type->n_values ? ", " : " or ");
        buf_append_str(to, enum_option(type, type->values[i].value, prefix, room));
    }
    buf_append_byte(to, '\0');
}

bool cli_enum_of(const char *option, const ProtobufCEnumDescriptor *type, const char *prefix,
                 const char *text, int *ret)
{
    AUTO(buf_deinit) struct buf names = BUF_INIT(1024);
    char room[32];

    for (unsigned i = 1; i < type->n_values; i++) {
        if (strcmp(enum_option(type, type->values[i].value, prefix, room), text) == 0) {
            *ret = type->values[i].value;
            return true;
        }
    }
    list_names(type, prefix, &names);
    cli_usage("%s: %s is not %s", option, text, (const char *)buf_data(&names));
    return false;
}

bool cli_mode(const char *text, uint32_t *ret)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);

    *ret = (uint32_t)mode;
    if (*end == '\0' && mode <= 07777)
        return true;
    cli_usage("--mode: %s is not an octal mode such as 755", text);
    return false;
}

Google__Protobuf__Duration *cli_duration(int64_t ms, Google__Protobuf__Duration *room)
{
    if (ms == 0)
        return NULL;
    *room = (Google__Protobuf__Duration)GOOGLE__PROTOBUF__DURATION__INIT;
    room->seconds = ms / 1000;
    room->nanos = (int32_t)(ms % 1000) * 1000000;
    return room;
}

bool cli_terminal_size(const char *option, const char *text, Sandbox__V1__TerminalSize *ret)
{
    unsigned cols, rows;
    int end = 0;

    sandbox__v1__terminal_size__init(ret);
    if (sscanf(text, "%ux%u%n", &cols, &rows, &end) != 2 || text[end] != '\0' || cols < 1 ||
        cols > 1000 || rows < 1 || rows > 1000) {
        cli_usage("%s: %s is no size such as 120x40, with at most 1000 of each", option, text);
        return false;
    }
    ret->cols = cols;
    ret->rows = rows;
    return true;
}

/* "10m": in seconds. False: it is none. */
static bool parse_ago(const char *text, int64_t *ret_s)
{
    static const struct {
        const char *name;
        int64_t s;
    } units[] = {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    char *end;
    long long n = strtoll(text, &end, 10);

    for (size_t i = 0; end != text && n >= 0 && i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].name) == 0)
            return !__builtin_mul_overflow(n, units[i].s, ret_s);
    }
    return false;
}

bool cli_when(const char *option, const char *text, Google__Protobuf__Timestamp *room,
              Google__Protobuf__Timestamp **ret)
{
    struct tm tm = {0};
    const char *end;
    int64_t ago_s;

    if (text == NULL)
        return true;
    google__protobuf__timestamp__init(room);
    end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (end != NULL && *end == '\0') {
        room->seconds = timegm(&tm);
    } else if (parse_ago(text, &ago_s)) {
        room->seconds = time(NULL) - ago_s;
    } else {
        cli_usage("%s: %s is no time such as 2026-01-31T12:00:00Z, or 10m for ten minutes ago",
                  option, text);
        return false;
    }
    *ret = room;
    return true;
}
