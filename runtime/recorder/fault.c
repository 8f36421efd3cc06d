/* See fault.h. The program has one thread. */
#include "runtime/recorder/fault.h"

#include <errno.h>
#include <string.h>

int fault_saved_errno;

int fault_exit_of_errno(void)
{
    fault_saved_errno = errno;
    return errno == ENOSPC || errno == EDQUOT ? RECORDER_NO_SPACE : RECORDER_INTERNAL;
}

bool fault_add_errno(struct status *st, int error)
{
    size_t len;

    if (st == NULL)
        return false;
    len = strlen(st->message);
    if (len + 3 < sizeof(st->message)) {
        strcpy(st->message + len, ": ");
        strncat(st->message, strerror(error), sizeof(st->message) - len - 3);
    }
    return false;
}
