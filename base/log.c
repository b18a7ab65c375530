/* log.c: progress to stderr, the clock, and the end of the process at a bug of ours.
 *
 * The level and the hook are the only process-wide state of Detent. Tested by tests/unit/test_base.c. */
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static _Atomic LogLevel log_level = LOG_INFO;

void                    log_set_level(LogLevel level)
{
    atomic_store(&log_level, level);
}

/* One line, whole even when several threads log. */
static void log_line(const char *fmt, va_list ap)
{
    flockfile(stderr);
    vfprintf(stderr, fmt, ap);
    putc('\n', stderr);
    funlockfile(stderr);
}

void log_info(const char *fmt, ...)
{
    if (atomic_load(&log_level) < LOG_INFO)
        return;
    va_list ap;
    va_start(ap, fmt);
    log_line(fmt, ap);
    va_end(ap);
}

void log_debug(const char *fmt, ...)
{
    if (atomic_load(&log_level) < LOG_DEBUG)
        return;
    va_list ap;
    va_start(ap, fmt);
    log_line(fmt, ap);
    va_end(ap);
}

double time_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct {
    BugHook hook;
    void   *user;
} bug_hook;

void dt_set_bug_hook(BugHook hook, void *user)
{
    bug_hook.hook = hook;
    bug_hook.user = user;
}

/* The message is built on the stack: memory may be what is broken. */
void dt_bug(const char *file, int line, const char *cond, const char *fmt, ...)
{
    char message[4096];
    int  len = snprintf(message, sizeof message, "%s:%d: internal error: %s: ", file, line, cond);
    if (len >= 0 && (size_t)len < sizeof message) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(message + len, sizeof message - (size_t)len, fmt, ap);
        va_end(ap);
    }
    fflush(stdout);
    fprintf(stderr, "%s\n", message);
    BugHook hook = bug_hook.hook;
    bug_hook.hook = NULL; /* a bug within the hook ends at once */
    if (hook)
        hook(bug_hook.user, message);
    abort();
}
