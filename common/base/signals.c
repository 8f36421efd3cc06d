/* See signals.h. */
#include "common/base/signals.h"

#include <signal.h>
#include <stddef.h>

void signals_reset(void)
{
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}
