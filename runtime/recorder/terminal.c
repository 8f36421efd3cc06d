/* See terminal.h. Called by the writer and, before its exec, by the command's process. */
#include "runtime/recorder/terminal.h"

#include "common/base/cleanup.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum { CONTROL_D = 4 };

/* The kernel's own settings, and that a character may have several bytes: erasing takes all. */
static void set_utf8(int fd)
{
    struct termios t;

    if (tcgetattr(fd, &t) != 0)
        return;
    t.c_iflag |= IUTF8;
    tcsetattr(fd, TCSANOW, &t);
}

bool terminal_open(struct terminal_size size, uid_t uid, int *ret_writer, int *ret_command)
{
    AUTO_CLOSE int writer = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    AUTO_CLOSE int command = -1;
    char name[64];

    if (writer < 0 || grantpt(writer) != 0 || unlockpt(writer) != 0 ||
        ptsname_r(writer, name, sizeof(name)) != 0)
        return false;
    command = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (command < 0 || !terminal_resize(writer, size))
        return false;
    /* So that it can be opened by name too. What cannot be given away still works as it is. */
    if (fchown(command, uid, (gid_t)-1) == 0)
        fchmod(command, 0620);
    set_utf8(command);
    *ret_writer = take_fd(&writer);
    *ret_command = take_fd(&command);
    return true;
}

bool terminal_control(int fd)
{
    return ioctl(fd, TIOCSCTTY, 0) == 0;
}

bool terminal_resize(int writer, struct terminal_size size)
{
    struct winsize w = {.ws_col = size.cols, .ws_row = size.rows};

    return ioctl(writer, TIOCSWINSZ, &w) == 0;
}

pid_t terminal_foreground(int writer)
{
    pid_t group = 0;

    return ioctl(writer, TIOCGPGRP, &group) == 0 && group > 0 ? group : 0;
}

char terminal_eof(int writer)
{
    struct termios t;

    return tcgetattr(writer, &t) == 0 && t.c_cc[VEOF] != 0 ? (char)t.c_cc[VEOF] : CONTROL_D;
}
