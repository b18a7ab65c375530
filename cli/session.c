/* session.c: from options to programs that run: network -> graph -> passes -> code -> memory. Every command that needs
 * a network goes through here.
 *
 * Tested by tests/unit/test_cli.c, test_cli_errors.c and tests/e2e. */
#include "cli/cli.h"

#include <stdlib.h>

/* The number that the author of the network wrote: 0.1f in the source is 0.1 here, as on the command line. */
static double session_decimal(Arena *a, float f)
{
    Str text = str_new(a);
    str_add_f32(&text, f);
    return strtod(text.s, NULL);
}

/* What the command line left open is as the network says, else as most people would. */
static void session_defaults(Arena *a, CliOptions *o, const Recipe *r, const DtTraining *t)
{
    o->batch = o->batch > 0 ? o->batch : t->batch > 0 ? t->batch : 128;
    o->lr = o->lr > 0 ? o->lr : t->lr > 0 ? session_decimal(a, t->lr) : 0.1;
    if (!cli_given(o, "epochs"))
        o->epochs = !recipe_trains(r) ? 0 : t->epochs > 0 ? t->epochs : 10;
    if (!cli_given(o, "momentum"))
        o->momentum = t->momentum > 0 ? session_decimal(a, t->momentum) : 0.9;
    if (!cli_given(o, "weight-decay"))
        o->weight_decay = session_decimal(a, t->weight_decay);
    if (!cli_given(o, "nesterov"))
        o->nesterov = t->nesterov;
    if (o->schedule == NULL)
        o->schedule = t->schedule != NULL ? t->schedule : "cosine";
    if (o->dataset == NULL)
        o->dataset = t->data;
}

/* Only what is calibrated alone is done without training. */
static bool session_check_epochs(Session *s)
{
    Loc at = cli_place(&s->opt, "epochs", 0);
    if (s->opt.epochs > 0 || !recipe_trains(&s->recipe))
        return true;
    diag_error(&s->diag, at, "%s: expected at least 1 for method %s, found 0",
               at.file != NULL ? "recipe: epochs" : "--epochs", s->recipe.method);
    diag_help(&s->diag, "0 is for ptq, which calibrates and trains nothing");
    return false;
}

bool session_open(Session *s, const DtModel *model)
{
    s->model = model;
    if (!cli_read_recipe(&s->arena, &s->diag, &s->opt))
        return false;
    cli_recipe_defaults(&s->opt);
    if (!cli_recipe(&s->arena, &s->diag, &s->opt, &s->recipe))
        return false;
    session_defaults(&s->arena, &s->opt, &s->recipe, &model->training);
    s->optimizer = (OptimizerConfig){ s->opt.momentum, s->opt.weight_decay, s->opt.nesterov };
    s->clamped = s->opt.clamped;
    return session_check_epochs(s) && cli_moment(&s->diag, &s->opt, &s->moment);
}

void session_close(Session *s)
{
    session_backend_close(s);
    diag_free(&s->diag);
    arena_free(&s->arena);
}

/* ---- Graphs
 * ---------------------------------------------------------------------------------------------------------- */

StepKind session_step(const CliOptions *o)
{
    for (int k = 0; k < STEP_COUNT; k++)
        if (str_eq(o->step, step_kind_name((StepKind)k)))
            return (StepKind)k;
    DT_UNREACHABLE("step %s", o->step);
}

Graph *session_graph(Session *s, StepKind step, PassCtx *keep, bool *stopped)
{
    Graph *g = frontend_build(&s->arena, &s->diag, s->model, s->opt.batch, step);
    if (g == NULL)
        return NULL;
    Arena   scratch = arena_new("pass");
    Str     explain = str_new(&s->arena);
    PassCtx c = {
        .scratch = &scratch,
        .d = &s->diag,
        .step = step,
        .recipe = &s->recipe,
        .moment = s->moment,
        .clamped = s->clamped,
        .optimizer = &s->optimizer,
        .target = cli_target(s->opt.backend),
        .int8_forward = str_eq(s->opt.forward, "int8"),
        .keep = &s->arena,
    };
    if (s->opt.pass.explain_fusion != NULL) {
        c.explain = &explain;
        c.explain_scope = s->opt.pass.explain_fusion[0] != 0 ? s->opt.pass.explain_fusion : NULL;
    }
    bool ok = passes_run(&c, g, &s->opt.pass, s->out, stopped);
    if (explain.len > 0)
        fputs(explain.s, s->out);
    c.scratch = NULL;
    c.explain = NULL;
    if (keep != NULL)
        *keep = c;
    arena_free(&scratch);
    return ok ? g : NULL;
}

/* ---- Programs
 * -------------------------------------------------------------------------------------------------------- */

Program *session_program(Session *s, StepKind step, bool run, Graph **graph)
{
    bool   stopped = false;
    Graph *g = session_graph(s, step, NULL, &stopped);
    if (graph != NULL)
        *graph = g;
    if (g == NULL || !session_backend(s, run))
        return NULL;
    if (stopped) {
        diag_error(&s->diag, LOC_NONE,
                   "--stop-after, --passes: expected a pipeline up to lower, found one that ends before: there is "
                   "nothing to run");
        return NULL;
    }
    Program *p = codegen_program(&s->arena, &s->diag, g, s->jit, s->lib);
    if (p == NULL)
        return NULL;
    p->saved_bytes = passes_saved_bytes(g);
    ValueId largest[PEAK_VALUES];
    int32_t n = passes_peak_values(g, largest, PEAK_VALUES);
    for (int32_t i = 0; i < n; i++)
        p->peak[i] = (PeakValue){ ir_label(&s->arena, g, largest[i]), type_bytes(ir_value(g, largest[i])->type) };
    return p;
}

LoadedProgram session_load(Session *s, StepKind step)
{
    Program *p = session_program(s, step, true, NULL);
    bool     plan = s->gpu != NULL && s->gpu->t->runs_source; /* where bits are checked, the plan is, too */
    bool     ok = p != NULL && session_fits(s, step, p) && (!plan || program_check(&s->diag, p));
    int32_t  index = ok ? exec_add(s->exec, p) : -1;
    return (LoadedProgram){ s->exec, index >= 0 ? p : NULL, index };
}

bool session_needs_init(const Session *s)
{
    return recipe_quantizes(&s->recipe);
}
