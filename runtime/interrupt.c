/* interrupt.c: Ctrl-C. The handler sets a flag, the loop looks at it between steps. A handler has no argument to find a
 * context by, so the flag is one of the few variables of the process.
 *
 * Tested by tests/unit/test_train.c. */
#include "runtime/runtime_impl.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t seen;
static struct sigaction      saved[2];
static const int             caught[2] = { SIGINT, SIGTERM };

static void                  on_signal(int number)
{
    (void)number;
    seen = 1;
}

void interrupt_catch(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART; /* the second one kills */
    sigemptyset(&action.sa_mask);
    seen = 0;
    for (int i = 0; i < 2; i++)
        sigaction(caught[i], &action, &saved[i]);
}

void interrupt_release(void)
{
    for (int i = 0; i < 2; i++)
        sigaction(caught[i], &saved[i], NULL);
    seen = 0;
}

bool interrupt_seen(void)
{
    return seen != 0;
}
