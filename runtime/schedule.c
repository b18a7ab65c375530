/* schedule.c: learning rates. A pure function of the step, in double: a resumed run needs to know nothing else.
 *
 * Tested by tests/unit/test_train.c against closed forms. */
#include "runtime/runtime_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* From 1 at t = 0 down to 0 at t = length. */
static double cosine(double t, double length)
{
    return t >= length ? 0 : 0.5 * (1 + cos(M_PI * t / length));
}

double schedule_lr(const Schedule *s, int64_t step)
{
    const double t = (double)step, per_epoch = (double)s->steps_per_epoch;
    const double warmup = floor(s->warmup_epochs * per_epoch + 0.5);
    if (t < warmup)
        return s->lr * (t + 1) / (warmup + 1);
    double factor = 1;
    switch (s->kind) {
    case SCHEDULE_COSINE:
        factor = cosine(t - warmup, (double)s->epochs * per_epoch - warmup);
        break;
    case SCHEDULE_STEP:
        for (int32_t i = 0; i < s->n_milestones && step >= s->milestones[i] * s->steps_per_epoch; i++)
            factor *= s->gamma;
        break;
    case SCHEDULE_CONSTANT:
        break;
    }
    return s->lr * factor;
}

/* "100,150" or "100,150:0.1"; false: no such text. */
static bool parse_milestones(const char *text, Schedule *out)
{
    out->n_milestones = 0;
    out->gamma = 0.1;
    for (;;) {
        char *end;
        long  epoch = strtol(text, &end, 10);
        if (end == text || epoch < 0 || epoch > INT32_MAX || out->n_milestones == SCHEDULE_MAX_MILESTONES)
            return false;
        out->milestones[out->n_milestones++] = (int32_t)epoch;
        text = end + 1;
        if (*end == 0)
            return true;
        if (*end == ':') {
            out->gamma = strtod(text, &end);
            return end != text && *end == 0;
        }
        if (*end != ',')
            return false;
    }
}

bool schedule_parse(Diag *d, const char *text, Schedule *out)
{
    bool ok = true;
    if (str_eq(text, "cosine"))
        out->kind = SCHEDULE_COSINE;
    else if (str_eq(text, "constant"))
        out->kind = SCHEDULE_CONSTANT;
    else if (strncmp(text, "step:", 5) == 0 && (ok = parse_milestones(text + 5, out)))
        out->kind = SCHEDULE_STEP;
    else
        ok = false;
    if (!ok) {
        diag_error(d, LOC_NONE,
                   "schedule: '%s' is none of cosine, constant, step:EPOCH,EPOCH... and "
                   "step:EPOCH,EPOCH...:GAMMA (at most %d epochs)",
                   text, SCHEDULE_MAX_MILESTONES);
        diag_help(d, "for instance step:100,150:0.1 divides the rate by 10 after 100 and after 150 epochs");
    }
    return ok;
}

bool schedule_check(Diag *d, const Schedule *s)
{
    if (!(s->lr > 0) || !isfinite(s->lr)) {
        diag_error(d, LOC_NONE, "schedule: the learning rate is %g, expected a number above 0", s->lr);
        return false;
    }
    if (s->epochs < 0 || s->epochs > INT32_MAX) {
        diag_error(d, LOC_NONE, "schedule: %lld epochs, expected 0 or more", (long long)s->epochs);
        return false;
    }
    if (!(s->warmup_epochs >= 0 && s->warmup_epochs <= (double)s->epochs)) {
        diag_error(d, LOC_NONE, "schedule: a warm-up of %g epochs does not fit in %lld", s->warmup_epochs,
                   (long long)s->epochs);
        return false;
    }
    if (s->kind == SCHEDULE_STEP && !(s->gamma > 0 && isfinite(s->gamma))) {
        diag_error(d, LOC_NONE, "schedule: the factor of a step is %g, expected a number above 0", s->gamma);
        return false;
    }
    for (int32_t i = 1; s->kind == SCHEDULE_STEP && i < s->n_milestones; i++)
        if (s->milestones[i] <= s->milestones[i - 1]) {
            diag_error(d, LOC_NONE, "schedule: epoch %d after epoch %d: milestones must rise", s->milestones[i],
                       s->milestones[i - 1]);
            return false;
        }
    return true;
}
