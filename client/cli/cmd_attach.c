/*
 * The verb attach: a command's terminal on ours. The main thread reads the stream and prints; one
 * other reads the keyboard and notices a new size. Ours is set to raw, so that every key goes to
 * the command, but for the two that leave it.
 */
#include "client/cli/cli.h"
#include "client/cli/output.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

enum { KEYS_MAX = 4 };

static struct {
    int64_t from;
    const char *detach_keys;
    bool until_closed;
} attach = {.detach_keys = "ctrl-p,ctrl-q"};

static const struct option attach_options[] = {
    {"from", 0, NULL, OPTION_INT, &attach.from, "SEQ",
     "The first event. Everything that is recorded is shown again if not set, which paints the "
     "screen as it was."},
    {"detach-keys", 0, NULL, OPTION_STRING, &attach.detach_keys, "KEYS",
     "What to type to leave the command running: up to four of ctrl-a to ctrl-z and single "
     "characters, with commas between (ctrl-p,ctrl-q). Empty: nothing."},
    {"until-closed", 0, NULL, OPTION_BOOL, &attach.until_closed, NULL,
     "Also waits for background processes that hold its terminal."},
    {NULL},
};

/* The keys that leave: how many of them were typed so far. */
struct leaving {
    uint8_t keys[KEYS_MAX];
    size_t n;
    size_t typed;
};

struct keyboard {
    struct sandbox_terminal *terminal;
    struct leaving leaving;
    int signals; /* signalfd: SIGWINCH and what ends us */
    int end;     /* eventfd */
    bool is_tty; /* ours */
    pthread_t thread;
};

static bool parse_key(const char *text, size_t len, uint8_t *ret)
{
    bool control = len == 6 && strncmp(text, "ctrl-", 5) == 0;

    *ret = (uint8_t)text[len - 1];
    if (control && *ret >= 'a' && *ret <= 'z')
        *ret &= 0x1f;
    else if (control || len != 1)
        return false;
    return true;
}

static bool parse_keys(const char *text, struct leaving *ret)
{
    *ret = (struct leaving){.n = 0};
    while (*text != '\0') {
        size_t len = strcspn(text, ",");

        if (len == 0 || ret->n == KEYS_MAX || !parse_key(text, len, &ret->keys[ret->n])) {
            cli_usage("--detach-keys: %s is not like ctrl-p,ctrl-q", attach.detach_keys);
            return false;
        }
        ret->n++;
        text += len + (text[len] == ',');
    }
    return true;
}

/*
 * Takes the leaving keys out of what was typed; the rest goes to `to`. A beginning that does not go
 * on goes out late. True: they were typed in full.
 */
static bool filter_keys(struct leaving *l, const uint8_t *data, size_t len, struct buf *to)
{
    for (size_t i = 0; i < len; i++) {
        if (l->n > 0 && data[i] == l->keys[l->typed]) {
            if (++l->typed == l->n)
                return true;
            continue;
        }
        buf_append(to, l->keys, l->typed);
        l->typed = l->n > 0 && data[i] == l->keys[0];
        if (l->typed == 0)
            buf_append_byte(to, data[i]);
    }
    return false;
}

/* --- the keyboard's thread --- */

static void tell_size(struct keyboard *k)
{
    struct winsize size;

    if (k->is_tty && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 &&
        size.ws_row > 0)
        sandbox_terminal_resize(k->terminal, size.ws_col < 1000 ? size.ws_col : 1000,
                                size.ws_row < 1000 ? size.ws_row : 1000);
}

/* False: no more keys will come. */
static bool take_keys(struct keyboard *k)
{
    uint8_t data[4096];
    ssize_t n = read(STDIN_FILENO, data, sizeof(data));
    struct buf typed = BUF_INIT(2 * sizeof(data));
    bool left, more = true;

    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n == 0)
        return false;
    left = filter_keys(&k->leaving, data, (size_t)n, &typed);
    if (buf_len(&typed) > 0)
        more = sandbox_terminal_type(k->terminal, buf_data(&typed), buf_len(&typed));
    if (left)
        sandbox_terminal_detach(k->terminal);
    buf_deinit(&typed);
    return more && !left;
}

static void take_signal(struct keyboard *k)
{
    struct signalfd_siginfo info;

    if (read(k->signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGWINCH)
        tell_size(k);
    else
        sandbox_terminal_detach(k->terminal);
}

static void *keyboard_main(void *arg)
{
    struct keyboard *k = arg;
    struct pollfd fds[] = {{.fd = k->end, .events = POLLIN},
                           {.fd = k->signals, .events = POLLIN},
                           {.fd = STDIN_FILENO, .events = POLLIN}};

    tell_size(k);
    for (;;) {
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[0].revents != 0)
            return NULL;
        if (fds[1].revents != 0)
            take_signal(k);
        if (fds[2].revents != 0 && !take_keys(k))
            fds[2].fd = -1;
    }
}

static void block_signals(struct keyboard *k)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    k->end = eventfd(0, EFD_CLOEXEC);
    if (k->signals < 0 || k->end < 0)
        abort();
}

static void keyboard_start(struct keyboard *k)
{
    if (pthread_create(&k->thread, NULL, keyboard_main, k) != 0)
        abort();
}

static void keyboard_stop(struct keyboard *k)
{
    uint64_t one = 1;

    if (write(k->end, &one, sizeof(one)) != sizeof(one))
        abort();
    pthread_join(k->thread, NULL);
    close(k->signals);
    close(k->end);
}

/* --- our terminal --- */

static bool make_raw(struct termios *before)
{
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, before) < 0)
        return false;
    raw = *before;
    cfmakeraw(&raw);
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

/* A pause is all that is seen of a break: its story would be written over the screen. */
static struct sandbox_handlers quiet_handlers(struct output *output, bool is_tty)
{
    struct sandbox_handlers handlers = output_handlers(output);

    if (is_tty)
        handlers.on_break = NULL, handlers.on_resume = NULL;
    return handlers;
}

static int finish_attach(const struct cli *cli, const struct output *output,
                         const struct sandbox_result *result, bool ok,
                         const struct sandbox_error *err)
{
    if (!ok)
        return cli_fail(cli, err);
    if (output->write_errno != 0)
        return cli_say(EXIT_LOCAL, "cannot write the output: %s; the command goes on",
                       strerror(output->write_errno));
    if (!result->stopped)
        return output_exit_code(cli, result);
    fprintf(stderr, "sandboxctl: left; the command %s goes on\n", output->command_id);
    return 0;
}

static int run_attach(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__AttachBegin begin = SANDBOX__V1__ATTACH_BEGIN__INIT;
    struct output output = {.cli = cli};
    struct keyboard keyboard = {.is_tty = isatty(STDIN_FILENO)};
    struct sandbox_client *client;
    struct sandbox_result result;
    struct sandbox_error err;
    struct termios before;
    bool ok, raw;

    if (!parse_keys(attach.detach_keys, &keyboard.leaving))
        return EXIT_USAGE;
    block_signals(&keyboard);
    client = cli_connect(cli, cli->addresses);
    if (client == NULL)
        return EXIT_USAGE;
    begin.sandbox_id = operands[0];
    begin.command_id = operands[1];
    begin.from_seq = (uint64_t)attach.from;
    if (attach.until_closed)
        begin.until = SANDBOX__V1__UNTIL__UNTIL_CLOSED;

    struct sandbox_handlers handlers = quiet_handlers(&output, keyboard.is_tty);

    keyboard.terminal = sandbox_terminal_new();
    raw = keyboard.is_tty && make_raw(&before);
    keyboard_start(&keyboard);
    ok = sandbox_attach(client, &begin, keyboard.terminal, &handlers, &result, &err);
    keyboard_stop(&keyboard);
    if (raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    sandbox_terminal_free(keyboard.terminal);
    sandbox_client_free(client);
    return finish_attach(cli, &output, &result, ok, &err);
}

const struct verb attach_verbs[] = {
    {"attach", "ID CMDID", "take part in a command's terminal", attach_options,
     "Shows what the command printed so far and what it prints, and types into it. It can be left\n"
     "(Ctrl-P Ctrl-Q) and attached to again, from anywhere. When a pod is lost it goes on through\n"
     "the next one. Exits as run does; with 0 when it was left.\n",
     2, 2, run_attach},
    {NULL},
};
