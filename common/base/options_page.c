/* See options_page.h. One function for each kind of page; they share only the table. */
#include "common/base/options_page.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/utf8.h"
#include "common/base/version.h"

#include <ctype.h>
#include <string.h>

enum { VALUE_MAX = 4096 };

/* What is in every program, behind its own options. */
static const struct {
    const char *flag, *help;
} common[] = {
    {"print=WHAT", "Print a page made of this table and exit: man, markdown, bash, zsh or fish "
                   "(completion), or config (a file of all options)."},
    {"help", "Print all options and exit."},
    {"version", "Print the version and exit."},
};

enum { N_COMMON = sizeof(common) / sizeof(common[0]) };

static const char pages[] = "man markdown bash zsh fish config";

/* "Default: …." behind the option's own sentences, or nothing. */
static const char *default_of(const struct option *o, struct buf *text)
{
    buf_clear(text);
    options_default(o, text);
    return buf_str(text);
}

/* Each character of text, with `escape` in front of those in `which`. */
static void put_escaped(FILE *to, const char *text, const char *which, const char *escape)
{
    for (; *text != '\0'; text++)
        fprintf(to, "%s%c", strchr(which, *text) != NULL ? escape : "", *text);
}

/* --- man --- */

/* A character of several bytes by its number: the page itself stays ASCII, which every roff reads.
 */
static void put_roff_wide(FILE *to, const char *text, int len)
{
    uint32_t c = (uint8_t)text[0] & (0x7f >> len);

    for (int i = 1; i < len; i++)
        c = c << 6 | ((uint8_t)text[i] & 0x3f);
    fprintf(to, "\\[u%04X]", c);
}

/* A hyphen that is to be copied is \-, and a line must not begin with a control character. */
static void put_roff(FILE *to, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", to);
    while (*text != '\0') {
        int len = utf8_sequence((const uint8_t *)text, strlen(text));

        if (len > 1)
            put_roff_wide(to, text, len);
        else if (*text == '-')
            fputs("\\-", to);
        else if (*text == '\\')
            fputs("\\e", to);
        else
            fputc(*text, to);
        text += len > 1 ? len : 1;
    }
}

static void put_paragraphs(FILE *to, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        AUTO_FREE char *line = strndup(text, len);

        if (len == 0) {
            fputs(".PP\n", to);
        } else {
            put_roff(to, line);
            fputc('\n', to);
        }
        text += len + (text[len] == '\n');
    }
}

/* Lines as they are. */
static void put_verbatim(FILE *to, const char *text)
{
    fputs(".nf\n", to);
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        AUTO_FREE char *line = strndup(text, len);

        put_roff(to, line);
        fputc('\n', to);
        text += len + (text[len] == '\n');
    }
    fputs(".fi\n", to);
}

static void man_option(const struct program *p, const struct option *o, FILE *to)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);

    if (o->section != NULL)
        fprintf(to, ".SS \"%s\"\n", o->section);
    fputs(".TP\n\\fB", to);
    if (o->letter != '\0')
        fprintf(to, "\\-%c\\fR, \\fB", o->letter);
    fputs("\\-\\-", to);
    put_roff(to, o->name);
    fputs("\\fR", to);
    if (o->arg != NULL) {
        fputs("=\\fI", to);
        put_roff(to, o->arg);
        fputs("\\fR", to);
    }
    fputc('\n', to);
    put_roff(to, o->help);
    fputc('\n', to);
    if (*default_of(o, &value) != '\0') {
        fputs("Default: ", to);
        put_roff(to, buf_str(&value));
        fputs(".\n", to);
    }
    if (o->env != NULL)
        fprintf(to, "Environment: \\fB%s\\fR.\n", o->env);
}

static void print_man(const struct program *p, FILE *to)
{
    const char *section = p->manual != NULL ? p->manual : "8";
    char upper[64];
    size_t i = 0;

    for (; p->name[i] != '\0' && i + 1 < sizeof(upper); i++)
        upper[i] = (char)toupper((unsigned char)p->name[i]);
    upper[i] = '\0';
    fprintf(to, ".TH \"%s\" %s \"\" \"%s\" \"%s\"\n.SH NAME\n", upper, section, SANDBOXD_VERSION,
            strcmp(section, "1") == 0 ? "User Commands" : "System Manager's Manual");
    put_roff(to, p->name);
    fputs(" \\- ", to);
    put_roff(to, p->summary);
    fputs("\n.SH SYNOPSIS\n\\fB", to);
    put_roff(to, p->name);
    fputs("\\fR ", to);
    put_roff(to, p->usage);
    fputc('\n', to);
    if (p->about != NULL) {
        fputs(".SH DESCRIPTION\n", to);
        put_paragraphs(to, p->about);
    }
    fputs(".SH OPTIONS\n", to);
    for (const struct option *o = p->options; o->name != NULL; o++)
        man_option(p, o, to);
    fputs(".SS \"About the program\"\n", to);
    for (size_t c = 0; c < N_COMMON; c++) {
        fputs(".TP\n\\fB\\-\\-", to);
        put_roff(to, common[c].flag);
        fputs("\\fR\n", to);
        put_roff(to, common[c].help);
        fputc('\n', to);
    }
    fputs(
        ".SH EXIT STATUS\n0: it ended as it was told to. 1: it could not go on; its log says why. "
        "2: the options make no sense; stderr says which.\n",
        to);
    if (p->more != NULL) {
        fputs(".SH EXAMPLES\n", to);
        put_verbatim(to, p->more);
    }
}

/* --- markdown --- */

static void markdown_option(const struct option *o, FILE *to)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);

    if (o->section != NULL)
        fprintf(to, "\n## %s\n\n| Option | Default | Meaning |\n|---|---|---|\n", o->section);
    fputs("| ", to);
    if (o->letter != '\0')
        fprintf(to, "`-%c` ", o->letter);
    fprintf(to, "`--%s", o->name);
    if (o->arg != NULL)
        fprintf(to, "=%s", o->arg);
    fputc('`', to);
    if (o->env != NULL)
        fprintf(to, "<br>`%s`", o->env);
    fputs(" | ", to);
    put_escaped(to, default_of(o, &value), "|<>*_", "\\");
    fputs(" | ", to);
    put_escaped(to, o->help, "|<>*_", "\\");
    if (o->not_in_file)
        fputs(" Not in the file.", to);
    fputs(" |\n", to);
}

static void print_markdown(const struct program *p, FILE *to)
{
    fprintf(to,
            "# Options of %s\n\n"
            "<!-- Made by `%s --print=markdown`; a test compares them. -->\n\n",
            p->name, p->name);
    if (p->about != NULL)
        fputs(p->about, to);
    for (const struct option *o = p->options; o->name != NULL; o++)
        markdown_option(o, to);
    fputs("\n## About the program\n\n| Option | Meaning |\n|---|---|\n", to);
    for (size_t i = 0; i < N_COMMON; i++)
        fprintf(to, "| `--%s` | %s |\n", common[i].flag, common[i].help);
}

/* --- completion --- */

static bool takes_path(const struct option *o)
{
    return o->arg != NULL && (strstr(o->arg, "PATH") != NULL || strstr(o->arg, "FILE") != NULL ||
                              strstr(o->arg, "DIR") != NULL);
}

/* A name that a shell function can have. */
static void put_identifier(FILE *to, const char *name)
{
    for (; *name != '\0'; name++)
        fputc(isalnum((unsigned char)*name) ? *name : '_', to);
}

static void print_bash(const struct program *p, FILE *to)
{
    fputc('_', to);
    put_identifier(to, p->name);
    fputs("()\n{\n"
          "    local cur prev\n"
          "    cur=${COMP_WORDS[COMP_CWORD]}\n"
          "    prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    # Bash takes --name=value for three words.\n"
          "    if [[ $cur == = ]]; then\n"
          "        cur=\n"
          "    elif [[ $prev == = ]]; then\n"
          "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
          "    fi\n"
          "    case $prev in\n",
          to);
    for (const struct option *o = p->options; o->name != NULL; o++) {
        if (o->choices == NULL && !takes_path(o))
            continue;
        fprintf(to, "    --%s)\n", o->name);
        if (o->choices != NULL)
            fprintf(to, "        mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n",
                    o->choices);
        else
            fputs("        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n", to);
        fputs("        return\n        ;;\n", to);
    }
    fprintf(to,
            "    --print)\n"
            "        mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n"
            "        return\n        ;;\n"
            "    esac\n"
            "    mapfile -t COMPREPLY < <(compgen -W '",
            pages);
    for (const struct option *o = p->options; o->name != NULL; o++)
        fprintf(to, "--%s%s ", o->name, o->type != OPTION_BOOL ? "=" : "");
    fputs("--print= --help --version' -- \"$cur\")\n"
          "    if [[ ${COMPREPLY[0]-} == *= ]]; then\n"
          "        compopt -o nospace\n"
          "    fi\n"
          "}\ncomplete -F _",
          to);
    put_identifier(to, p->name);
    fprintf(to, " %s\n", p->name);
}

/* Up to the end of its first sentence. */
static void put_sentence(FILE *to, const char *help, const char *which, const char *escape)
{
    const char *end = strstr(help, ". ");
    AUTO_FREE char *first = strndup(help, end != NULL ? (size_t)(end - help) : strlen(help));
    size_t len = strlen(first);

    if (len > 0 && first[len - 1] == '.')
        first[len - 1] = '\0';
    put_escaped(to, first, which, escape);
}

static void print_zsh(const struct program *p, FILE *to)
{
    fprintf(to, "#compdef %s\n\n_arguments \\\n", p->name);
    for (const struct option *o = p->options; o->name != NULL; o++) {
        fprintf(to, "    '--%s%s[", o->name, o->type != OPTION_BOOL ? "=" : "");
        for (const char *at = o->help; *at != '\0' && strncmp(at, ". ", 2) != 0; at++) {
            if (*at == '\'')
                fputs("'\\''", to);
            else if (*at == '.' && at[1] == '\0')
                break;
            else
                fprintf(to, "%s%c", strchr("[]:\\", *at) != NULL ? "\\" : "", *at);
        }
        fputc(']', to);
        if (o->choices != NULL)
            fprintf(to, ":%s:(%s)", o->arg, o->choices);
        else if (takes_path(o))
            fputs(":file:_files", to);
        else if (o->type != OPTION_BOOL)
            fputs(":value: ", to);
        fputs("' \\\n", to);
    }
    fprintf(to,
            "    '--print=[Print a page made of the options]:page:(%s)' \\\n"
            "    '(-h --help)'{-h,--help}'[Print all options]' \\\n"
            "    '--version[Print the version]'\n",
            pages);
}

static void print_fish(const struct program *p, FILE *to)
{
    fprintf(to, "complete -c %s -f\n", p->name);
    for (const struct option *o = p->options; o->name != NULL; o++) {
        fprintf(to, "complete -c %s -l %s", p->name, o->name);
        if (o->letter != '\0')
            fprintf(to, " -s %c", o->letter);
        if (o->type != OPTION_BOOL)
            fputs(takes_path(o) ? " -r -F" : " -x", to);
        if (o->choices != NULL)
            fprintf(to, " -a '%s'", o->choices);
        fputs(" -d '", to);
        put_sentence(to, o->help, "'\\", "\\");
        fputs("'\n", to);
    }
    fprintf(to,
            "complete -c %s -l print -x -a '%s' -d 'Print a page made of the options'\n"
            "complete -c %s -l help -s h -d 'Print all options'\n"
            "complete -c %s -l version -d 'Print the version'\n",
            p->name, pages, p->name, p->name);
}

/* --- a file --- */

static void put_comment(FILE *to, const char *text)
{
    enum { WIDTH = 98 };
    int column = 0;

    while (*text != '\0') {
        int word = (int)strcspn(text, " ");

        if (column == 0 || column + 1 + word > WIDTH)
            column = fprintf(to, "%s# %.*s", column > 0 ? "\n" : "", word, text) - (column > 0);
        else
            column += fprintf(to, " %.*s", word, text);
        text += word + strspn(text + word, " ");
    }
    fputc('\n', to);
}

static void print_config(const struct program *p, FILE *to)
{
    fprintf(to, "# %s %s: all options, each commented out with what it is without this line.\n",
            p->name, SANDBOXD_VERSION);
    for (const struct option *o = p->options; o->name != NULL; o++) {
        AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);

        if (o->section != NULL)
            fprintf(to, "\n# --- %s ---\n", o->section);
        if (o->not_in_file)
            continue;
        fputc('\n', to);
        put_comment(to, o->help);
        options_value(o, &value);
        if (o->by_default != NULL)
            fprintf(to, "# Default: %s.\n# %s = %s\n", o->by_default, o->name, o->arg);
        else
            fprintf(to, "# %s = %s\n", o->name, buf_len(&value) > 0 ? buf_str(&value) : o->arg);
    }
}

bool options_page(const struct program *p, const char *what, FILE *to)
{
    static const struct {
        const char *name;
        void (*print)(const struct program *p, FILE *to);
    } kinds[] = {
        {"man", print_man}, {"markdown", print_markdown}, {"bash", print_bash},
        {"zsh", print_zsh}, {"fish", print_fish},         {"config", print_config},
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, what) == 0)
            return kinds[i].print(p, to), true;
    }
    return false;
}
