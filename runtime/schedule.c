/* schedule.c: learning rates. A pure function of the step, in double: a resumed run needs to know nothing else. A kind
 * is a row of a table: its factor at a step, how its text is read, what is wrong with its numbers.
 *
 * Tested by tests/unit/test_train.c against closed forms, test_optimizers.c against PyTorch's schedulers. */
#include "runtime/runtime_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Factors of the rate, t steps after the run began -------------------------------------------------------------
 */

/* From `from` at t = 0 to `to` at t = length, along half a cosine. */
static double cosine(double from, double to, double t, double length)
{
    return t >= length ? to : to + (from - to) * 0.5 * (1 + cos(M_PI * t / length));
}

static double warmup_steps(const Schedule *s)
{
    return floor(s->warmup_epochs * (double)s->steps_per_epoch + 0.5);
}

static double all_steps(const Schedule *s)
{
    return (double)s->epochs * (double)s->steps_per_epoch;
}

static double at_cosine(const Schedule *s, double t)
{
    const double warmup = warmup_steps(s);
    return cosine(1, 0, t - warmup, all_steps(s) - warmup);
}

static double at_step(const Schedule *s, double t)
{
    double factor = 1;
    for (int32_t i = 0; i < s->n_milestones && t >= (double)s->milestones[i] * (double)s->steps_per_epoch; i++)
        factor *= s->gamma;
    return factor;
}

static double at_constant(const Schedule *s, double t)
{
    (void)s, (void)t;
    return 1;
}

/* A whole number of steps, but for its rounding, is that number. */
static double at_exponential(const Schedule *s, double t)
{
    static const double rounding = 1e-9;
    return pow(s->gamma, floor(t / (s->every * (double)s->steps_per_epoch) + rounding));
}

static double at_poly(const Schedule *s, double t)
{
    const double warmup = warmup_steps(s), length = all_steps(s) - warmup;
    return t - warmup >= length ? 0 : pow(1 - (t - warmup) / length, s->power);
}

enum { CYCLE_START = 25, CYCLE_END = 10000 }; /* parts of the highest and of the first rate (Smith and Topin 2018) */

static double at_one_cycle(const Schedule *s, double t)
{
    const double last = all_steps(s) - 1, top = s->share * all_steps(s) - 1;
    if (t <= top)
        return cosine(1.0 / CYCLE_START, 1, t, top);
    return cosine(1, 1.0 / CYCLE_START / CYCLE_END, t - top, last - top);
}

/* ---- Texts ------------------------------------------------------------------------------------------------------- */

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

static bool parse_one(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == 0;
}

/* "0.97:2.4" */
static bool parse_exponential(const char *text, Schedule *out)
{
    char *end;
    out->gamma = strtod(text, &end);
    return end != text && *end == ':' && parse_one(end + 1, &out->every);
}

static bool parse_share(const char *text, Schedule *out)
{
    return parse_one(text, &out->share);
}

static bool parse_power(const char *text, Schedule *out)
{
    return parse_one(text, &out->power);
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

static bool above_0(double x)
{
    return x > 0 && isfinite(x);
}

static bool check_milestones(Diag *d, const Schedule *s)
{
    if (!above_0(s->gamma)) {
        diag_error(d, LOC_NONE, "schedule: the factor of a step is %g, expected a number above 0", s->gamma);
        return false;
    }
    for (int32_t i = 1; i < s->n_milestones; i++)
        if (s->milestones[i] <= s->milestones[i - 1]) {
            diag_error(d, LOC_NONE, "schedule: epoch %d after epoch %d: milestones must rise", s->milestones[i],
                       s->milestones[i - 1]);
            return false;
        }
    return true;
}

static bool check_exponential(Diag *d, const Schedule *s)
{
    if (above_0(s->gamma) && above_0(s->every))
        return true;
    diag_error(d, LOC_NONE, "schedule: exp: the factor is %g every %g epochs, expected numbers above 0", s->gamma,
               s->every);
    return false;
}

static bool check_power(Diag *d, const Schedule *s)
{
    if (above_0(s->power))
        return true;
    diag_error(d, LOC_NONE, "schedule: poly: the power is %g, expected a number above 0", s->power);
    return false;
}

static bool check_cycle(Diag *d, const Schedule *s)
{
    if (!(s->share > 0 && s->share < 1)) {
        diag_error(d, LOC_NONE, "schedule: one-cycle: the rate rises for %g of the run, expected above 0 and below 1",
                   s->share);
        return false;
    }
    if (s->warmup_epochs == 0)
        return true;
    diag_error(d, LOC_NONE, "schedule: one-cycle begins with a warm-up of its own, found one of %g epochs beside it",
               s->warmup_epochs);
    diag_help(d, "leave --warmup out; one-cycle:0.1 rises for a tenth of the run");
    return false;
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    double (*at)(const Schedule *s, double t);
    bool (*parse)(const char *text, Schedule *out); /* what stands behind "name:"; NULL: nothing may */
    bool (*check)(Diag *d, const Schedule *s);      /* NULL: there is nothing */
    bool   bare;                                    /* the name alone will do */
    double usual;                                   /* then: the number */
} kinds[] = {
    [SCHEDULE_COSINE] = { "cosine", at_cosine, NULL, NULL, true, 0 },
    [SCHEDULE_STEP] = { "step", at_step, parse_milestones, check_milestones, false, 0 },
    [SCHEDULE_CONSTANT] = { "constant", at_constant, NULL, NULL, true, 0 },
    [SCHEDULE_EXPONENTIAL] = { "exp", at_exponential, parse_exponential, check_exponential, false, 0 },
    [SCHEDULE_ONE_CYCLE] = { "one-cycle", at_one_cycle, parse_share, check_cycle, true, 0.3 },
    [SCHEDULE_POLY] = { "poly", at_poly, parse_power, check_power, true, 1 },
};

double schedule_lr(const Schedule *s, int64_t step)
{
    const double t = (double)step, warmup = warmup_steps(s);
    if (t < warmup)
        return s->lr * (t + 1) / (warmup + 1);
    return s->lr * kinds[s->kind].at(s, t);
}

/* The row whose name the text begins with, and what stands behind "name:" (NULL: nothing). -1: none. */
static int find_kind(const char *text, const char **rest)
{
    const size_t len = strcspn(text, ":");
    for (int k = 0; k < DT_COUNT(kinds); k++)
        if (strlen(kinds[k].name) == len && strncmp(kinds[k].name, text, len) == 0) {
            *rest = text[len] == ':' ? text + len + 1 : NULL;
            return k;
        }
    return -1;
}

bool schedule_parse(Diag *d, const char *text, Schedule *out)
{
    const char *rest = NULL;
    const int   k = find_kind(text, &rest);
    bool        ok = k >= 0 && (rest != NULL ? kinds[k].parse != NULL : kinds[k].bare);
    if (ok) {
        out->kind = (ScheduleKind)k;
        out->share = out->power = kinds[k].usual;
        ok = rest == NULL || kinds[k].parse(rest, out);
    }
    if (!ok) {
        diag_error(d, LOC_NONE,
                   "schedule: '%s' is none of cosine, constant, step:EPOCH,EPOCH... and step:EPOCH,EPOCH...:GAMMA (at "
                   "most %d epochs), exp:GAMMA:EPOCHS, one-cycle, one-cycle:SHARE, poly and poly:POWER",
                   text, SCHEDULE_MAX_MILESTONES);
        diag_help(d, "for instance step:100,150:0.1 divides the rate by 10 after 100 and after 150 epochs, "
                     "exp:0.97:2.4 takes it times 0.97 every 2.4 epochs");
    }
    return ok;
}

bool schedule_check(Diag *d, const Schedule *s)
{
    if (!above_0(s->lr)) {
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
    return kinds[s->kind].check == NULL || kinds[s->kind].check(d, s);
}
