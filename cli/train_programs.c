/* train_programs.c: the programs of a training run.
 *
 *   train      one for each phase of the recipe: what is scheduled (a share of noise, a regularizer's weight, what is
 *              delayed or frozen) is a constant of the program, so a schedule costs a step nothing
 *   gather     with --accumulate, for each phase: the step that adds its gradients and updates nothing
 *   reestimate running statistics anew, at the end
 *   eval       rounded as it will be used, of the averages of params where there are any; with a regularizer once
 *              more, clipped alone
 *   init, observe, inspect     first values, calibration, diagnosis, where the recipe quantizes
 *
 * Tested by tests/unit/test_train_phases.c and tests/e2e. */
#include "cli/cli.h"

/* ---- Phases ------------------------------------------------------------------------------------------------------ */

/* "lambda 10", for what the recipe says of the whole network and what a phase changes. `before` NULL: the first one. */
static void phase_numbers(Session *s, const Moment *before, Moment now, Str *out)
{
    for (int role = 0; role < ROLE_COUNT; role++) {
        QuantSpec spec;
        Diag      quiet = diag_new(NULL);
        bool      ok = recipe_resolve(&s->arena, &quiet, &s->recipe, "", false, (Role)role, &spec);
        diag_free(&quiet);
        for (int32_t i = 0; i < SETTING_COUNT && ok; i++) {
            const SettingInfo *info = &pass_settings[i];
            if (info->kind != SETTING_SCHEDULE || (info->roles & 1u << role) == 0 || spec.value[i].n < 2)
                continue;
            double x = spec_number(&spec, (SettingId)i, now);
            if (before == NULL || x != spec_number(&spec, (SettingId)i, *before))
                str_printf(out, "%s %s %g", out->len > 0 ? "," : "", info->key, x);
        }
    }
}

static void phase_thaws(Session *s, const Moment *before, Moment now, Str *out)
{
    for (int32_t i = 0; i < s->optimizer.n_freeze; i++) {
        const Freeze *f = &s->optimizer.freeze[i];
        if (before == NULL && f->until > now.epoch)
            str_printf(out, "%s %s frozen", out->len > 0 ? "," : "", f->pattern);
        if (before != NULL && f->until > before->epoch && f->until <= now.epoch)
            str_printf(out, "%s %s trained", out->len > 0 ? "," : "", f->pattern);
    }
}

static void phase_events(Session *s, const Moment *before, Moment now, Str *out)
{
    static const struct {
        SettingId   id;
        const char *text;
    } events[] = { { SET_DELAY, "inputs quantized" },
                   { SET_FREEZE_BN, "batch norm frozen" },
                   { SET_FREEZE_RANGES, "ranges frozen" } };
    for (int32_t i = 0; i < DT_COUNT(events); i++) {
        double at = recipe_setting(&s->arena, &s->recipe, events[i].id).number[0];
        if (at > 0 && at <= now.epoch && (before == NULL || at > before->epoch))
            str_printf(out, "%s %s", out->len > 0 ? "," : "", events[i].text);
    }
}

/* "3 phases: lambda 1; from epoch 1 lambda 10; from epoch 2 lambda 100" */
static void phases_say(Session *s, const double *at, int32_t n)
{
    Str line = str_new(&s->arena);
    for (int32_t i = 0; i < n; i++) {
        Moment now = { at[i], (double)s->opt.epochs }, before = { i > 0 ? at[i - 1] : 0, now.epochs };
        Str    what = str_new(&s->arena);
        phase_numbers(s, i > 0 ? &before : NULL, now, &what);
        phase_events(s, i > 0 ? &before : NULL, now, &what);
        phase_thaws(s, i > 0 ? &before : NULL, now, &what);
        str_printf(&line, "%s from epoch %.4g%s", i > 0 ? ";" : "", at[i], what.len > 0 ? what.s : "");
    }
    log_info("%d phases:%s", n, line.s);
}

/* The step that only adds up gradients, where several make one update. False: reported. */
static bool load_gather(Session *s, LoadedProgram *out)
{
    if (s->opt.accumulate < 2)
        return true;
    s->optimizer.gather = true;
    *out = session_load(s, STEP_TRAIN);
    s->optimizer.gather = false;
    return out->program != NULL;
}

static bool load_phases(Session *s, TrainConfig *c)
{
    double       at[RECIPE_MOST_PHASES];
    const Moment whole = s->moment;
    int32_t      n = recipe_phases(&s->arena, &s->recipe, (double)s->opt.epochs, at);
    if (!optimizer_phases(&s->diag, &s->optimizer, (double)s->opt.epochs, at, &n))
        return false;
    TrainPhase *phases = ARENA_ARRAY(&s->arena, TrainPhase, n);
    for (int32_t i = 0; i < n; i++) {
        s->moment = (Moment){ at[i], (double)s->opt.epochs };
        phases[i] = (TrainPhase){ .train = session_load(s, STEP_TRAIN), .from_epoch = at[i] };
        if (phases[i].train.program == NULL || !load_gather(s, &phases[i].gather))
            return false;
    }
    s->moment = whole;
    c->train = phases[0].train;
    c->gather = phases[0].gather;
    c->accumulate = s->opt.accumulate;
    c->phases = phases + 1;
    c->n_phases = n - 1;
    if (n > 1 && s->sizes == NULL)
        phases_say(s, at, n);
    return true;
}

/* ---- The others -------------------------------------------------------------------------------------------------- */

static bool load(Session *s, StepKind step, bool wanted, LoadedProgram *out)
{
    if (wanted)
        *out = session_load(s, step);
    return !wanted || out->program != NULL;
}

/* Has a method of the recipe a regularizer? */
static bool has_penalty(Session *s)
{
    for (int32_t i = 0; i < pass_n_methods; i++) {
        const Method *m = &pass_methods[i];
        bool          used = str_eq(s->recipe.method, m->name);
        for (int32_t k = 0; k < s->recipe.settings.len; k++) {
            const RecipeSetting *x = &s->recipe.settings.at[k];
            used |= x->id == SET_METHOD && str_eq(x->value.text, m->name);
        }
        if (used && m->penalty != NULL)
            return true;
    }
    return false;
}

static bool load_clamped(Session *s, LoadedProgram *out)
{
    bool was = s->clamped, wanted = has_penalty(s);
    s->clamped = true;
    bool ok = load(s, STEP_EVAL, wanted, out);
    s->clamped = was;
    return ok;
}

/* Where there are averages, what is evaluated, and what statistics are found anew for. */
static bool load_evaluations(Session *s, TrainConfig *c)
{
    bool was = s->use_averages;
    s->use_averages = s->opt.ema > 0;
    bool ok = load(s, STEP_EVAL, true, &c->eval) && load_clamped(s, &c->eval_clamped) &&
              load(s, STEP_REESTIMATE, s->opt.reestimate_bn > 0 && s->opt.epochs > 0, &c->reestimate);
    s->use_averages = was;
    return ok;
}

static bool is_calibrated(const TrainConfig *c)
{
    for (int32_t i = 0; i < c->n_sites; i++)
        if (c->sites[i].kind != CALIBRATE_NONE)
            return true;
    return false;
}

bool session_train_programs(Session *s, TrainConfig *c)
{
    const bool quantizes = session_needs_init(s);
    if (!load_phases(s, c) || !session_quant_sites(s, &c->sites, &c->n_sites))
        return false;
    c->calibration_batches = (int64_t)recipe_setting(&s->arena, &s->recipe, SET_BATCHES).number[0];
    c->teacher = s->opt.teacher;
    c->reestimate_batches = s->opt.reestimate_bn;
    return load_evaluations(s, c) && load(s, STEP_INIT, quantizes, &c->init) &&
           load(s, STEP_OBSERVE, is_calibrated(c), &c->observe) &&
           load(s, STEP_INSPECT, c->n_sites > 0 && c->inspect_every != 0, &c->inspect);
}
