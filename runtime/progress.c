/* progress.c: what a person sees while it trains. On a terminal one line that moves, elsewhere a line now and then.
 *
 *   epoch 3/200  step 120/390  31%  loss 1.2340  top-1 55.21%  lr 0.0912  42.1 ms/step (data 0.3, 1%)  3040 img/s
 * ETA 1:23:45
 *
 * In brackets how long a step waited for data, and the share of it.
 *
 * Tested by tests/unit/test_train.c (the plain form). */
#include "runtime/runtime_impl.h"

#include <math.h>
#include <unistd.h>

#define CLEAR_LINE "\r\033[K"
#define REDRAW_S 0.1 /* faster only flickers */
#define SMOOTH 0.1   /* share of the newest step in the shown times */

struct Progress {
    FILE   *out;
    bool    terminal, shown; /* shown: the moving line is on the screen */
    int64_t every;
    double  start_s, drawn_s;
    int64_t start_done;         /* steps that were done before this process */
    double  step_end_s, wait_s; /* at the end of the last step seen; 0: no step to measure from */
    int64_t step_done;          /* ... and its number: several steps may have ended since */
    double  ms, wait_ms;        /* smoothed, a step */
};

Progress *progress_new(Arena *a, FILE *out, int64_t every)
{
    Progress *p = ARENA_NEW(a, Progress);
    p->out = out;
    p->terminal = out && isatty(fileno(out));
    p->every = every;
    p->start_done = -1;
    return p;
}

const char *progress_duration(char out[32], double seconds)
{
    long long s = (long long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, 32, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 32, "%lld:%02lld", s / 60, s % 60);
    return out;
}

const char *progress_rate(char out[32], double rate)
{
    snprintf(out, 32, "%.*f", rate < 100 ? 1 : 0, rate);
    return out;
}

static void measure(Progress *p, const ProgressStep *s, double now)
{
    if (p->start_done < 0) { /* the first step, which warms things up, is not measured */
        p->start_done = s->done;
        p->start_s = now;
    }
    if (p->step_end_s > 0) {
        double steps = (double)dt_max64(s->done - p->step_done, 1);
        double ms = (now - p->step_end_s) * 1e3 / steps, wait_ms = (s->wait_s - p->wait_s) * 1e3 / steps;
        double share = p->ms == 0 || SMOOTH * steps > 1 ? 1 : SMOOTH * steps;
        p->ms += share * (ms - p->ms);
        p->wait_ms += share * (wait_ms - p->wait_ms);
    }
    p->step_end_s = now;
    p->step_done = s->done;
    p->wait_s = s->wait_s;
}

static bool due(Progress *p, double now, bool plain_due, bool last)
{
    if (!p->out || (p->terminal ? now - p->drawn_s < REDRAW_S && !last : !plain_due))
        return false;
    p->drawn_s = now;
    p->shown = p->terminal;
    return true;
}

void progress_step(Progress *p, const ProgressStep *s)
{
    double now = time_now_s();
    measure(p, s, now);
    if (!due(p, now, s->done % p->every == 0, s->step == s->steps))
        return;
    char   eta[32], rate[32], top1[32] = "";
    double each = (now - p->start_s) / (double)dt_max64(s->done - p->start_done, 1);
    if (!isnan(s->top1))
        snprintf(top1, sizeof top1, "  top-1 %.2f%%", s->top1);
    fprintf(p->out,
            "%sepoch %lld/%lld  step %lld/%lld  %lld%%  loss %.*f%s  lr %.4g  %.1f ms/step (data %.1f, %.0f%%)  "
            "%s img/s  ETA %s%s",
            p->terminal ? CLEAR_LINE : "", (long long)s->epoch, (long long)s->epochs, (long long)s->step,
            (long long)s->steps, (long long)(100 * s->step / s->steps), s->loss_decimals, s->loss, top1, s->lr, p->ms,
            p->wait_ms, p->ms > 0 ? 100 * p->wait_ms / p->ms : 0.0,
            progress_rate(rate, p->ms > 0 ? (double)s->batch / p->ms * 1e3 : 0),
            progress_duration(eta, each * (double)(s->total - s->done)), p->terminal ? "" : "\n");
    fflush(p->out);
}

void progress_eval(Progress *p, int64_t done, int64_t total)
{
    p->step_end_s = 0; /* the time till the next step is none of the step's */
    double now = time_now_s();
    if (!p->terminal || !due(p, now, false, false))
        return;
    fprintf(p->out, CLEAR_LINE "test  batch %lld/%lld  %lld%%", (long long)done, (long long)total,
            (long long)(100 * done / total));
    fflush(p->out);
}

void progress_say(Progress *p, const char *fmt, ...)
{
    if (!p->out)
        return;
    progress_end(p);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(p->out, fmt, ap);
    va_end(ap);
    fputc('\n', p->out);
    fflush(p->out);
}

void progress_end(Progress *p)
{
    if (!p->shown)
        return;
    fputs(CLEAR_LINE, p->out);
    fflush(p->out);
    p->shown = false;
}
