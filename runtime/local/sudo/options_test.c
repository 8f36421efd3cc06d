/* The command line of sudo, case by case: what is told of each is one line of text. */
#include "runtime/local/sudo/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { WORDS_MAX = 16 };

/* "mode user group directory kept flags|assigned...|command..." */
static void tell(const struct sudo_options *o, char *to, size_t size)
{
    static const char *const modes[] = {"run", "list", "nothing", "help", "version", "bad"};
    int n = snprintf(to, size, "%s", modes[o->mode]);

    if (o->mode == SUDO_BAD) {
        snprintf(to + n, size - (size_t)n, ": %s", o->complaint);
        return;
    }
    n += snprintf(to + n, size - (size_t)n, "%s%s%s%s%s%s%s%s", o->user ? " user=" : "",
                  o->user ? o->user : "", o->group ? " group=" : "", o->group ? o->group : "",
                  o->directory ? " in=" : "", o->directory ? o->directory : "",
                  o->kept ? " kept=" : "", o->kept ? o->kept : "");
    n += snprintf(to + n, size - (size_t)n, "%s%s%s%s%s", o->keeps_all ? " E" : "",
                  o->sets_home ? " H" : "", o->login ? " i" : "", o->shell ? " s" : "",
                  o->background ? " b" : "");
    for (size_t i = 0; i < o->n_assigned; i++)
        n += snprintf(to + n, size - (size_t)n, " [%s]", o->assigned[i]);
    for (char **word = o->command; *word; word++)
        n += snprintf(to + n, size - (size_t)n, " <%s>", *word);
}

static const struct {
    const char *line;
    const char *told;
} cases[] = {
    {"id", "run <id>"},
    {"ls -la --color /x", "run <ls> <-la> <--color> </x>"},
    {"-u www-data id", "run user=www-data <id>"},
    {"-uwww-data id -u", "run user=www-data <id> <-u>"},
    {"-nEu #33 id", "run user=#33 E <id>"},
    {"--user=bin --group bin id", "run user=bin group=bin <id>"},
    {"-H -S -n -p x: -C 5 true", "run H <true>"},
    {"-- -odd", "run <-odd>"},
    {"A=1 B=2 env C=3", "run [A=1] [B=2] <env> <C=3>"},
    {"./a=b", "run <./a=b>"},
    {"-E A=1 --preserve-env=X,Y env", "run E [A=1] <--preserve-env=X,Y> <env>"},
    {"--preserve-env=X,Y env", "run kept=X,Y <env>"},
    {"--preserve-env env", "run E <env>"},
    {"-i", "run i"},
    {"-i echo hi", "run i <echo> <hi>"},
    {"-s", "run s"},
    {"-D /tmp pwd", "run in=/tmp <pwd>"},
    {"-b sleep 1", "run b <sleep> <1>"},
    {"-k", "nothing"},
    {"-k id", "run <id>"},
    {"-v", "nothing"},
    {"-l", "list"},
    {"-V", "version"},
    {"--help", "help"},
    {"", "bad: what is to be run?"},
    {"-u", "bad: an argument is missing behind -u"},
    {"--user", "bad: an argument is missing behind --user"},
    {"-z id", "bad: there is no option -z"},
    {"--nonsense id", "bad: there is no option --nonsense"},
    {"--login=x", "bad: there is no option --login=x"},
    {"-e /etc/hosts", "bad: this sudo has no option --edit"},
    {"-is", "bad: -i and -s exclude each other"},
    {"-", "run <->"},
};

static void test_command_lines(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[128], told[512], *argv[WORDS_MAX] = {(char[]){"sudo"}}, *rest = line, *word;
        struct sudo_options o;
        int argc = 1;

        snprintf(line, sizeof line, "%s", cases[i].line);
        while ((word = strsep(&rest, " ")) != NULL)
            if (*word)
                argv[argc++] = word;
        sudo_options_parse(&o, argc, argv);
        tell(&o, told, sizeof told);
        assert_string_equal(told, cases[i].told);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_command_lines)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
