/* session.c: from options to programs that run: network -> graph -> passes -> code -> memory. Every command that needs
 * a network goes through here.
 *
 * Tested by tests/unit/test_cli.c, test_cli_errors.c and tests/e2e. */
#include "cli/cli.h"

#include <string.h>

/* What the command line left open is as the network says, else as most people would. */
static void session_defaults(Arena *a, CliOptions *o, const Recipe *r, const DtTraining *t)
{
    o->batch = o->batch > 0 ? o->batch : t->batch > 0 ? t->batch : 128;
    if (!cli_given(o, "epochs"))
        o->epochs = !recipe_trains(r) ? 0 : t->epochs > 0 ? t->epochs : 10;
    if (!cli_given(o, "label-smoothing"))
        o->label_smoothing = cli_decimal(a, t->label_smoothing);
    if (!cli_given(o, "eval-batch"))
        o->eval_batch = t->eval_batch;
    if (o->schedule == NULL)
        o->schedule = t->schedule != NULL ? t->schedule : "cosine";
    if (!cli_given(o, "warmup")) { /* one-cycle has its own; a short run is not all warm-up */
        o->warmup = strncmp(o->schedule, "one-cycle", strlen("one-cycle")) == 0 ? 0 : cli_decimal(a, t->warmup);
        o->warmup = o->warmup < (double)o->epochs ? o->warmup : 0;
    }
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

/* The network with what the options say of its training. */
static const DtModel *session_model(Session *s, const DtModel *model)
{
    DtModel *own = ARENA_NEW(&s->arena, DtModel);
    if (!cli_given(&s->opt, "label-smoothing"))
        return model;
    *own = *model;
    own->training.label_smoothing = (float)s->opt.label_smoothing;
    return own;
}

/* --teacher. False: reported. */
static bool session_teacher(Session *s, const DtModel *model)
{
    const char *net = s->opt.teacher_net;
    s->distill = (Distillation){ .weight = s->opt.distill_weight, .temperature = s->opt.temperature };
    if (s->opt.teacher == NULL && net != NULL) {
        diag_error(&s->diag, cli_place(&s->opt, "teacher-net", 0),
                   "--teacher-net: expected --teacher FILE beside it, with the weights, found none");
        return false;
    }
    if (s->opt.teacher != NULL)
        s->distill.teacher = net != NULL ? frontend_find(&s->arena, &s->diag, net) : model;
    return s->opt.teacher == NULL || s->distill.teacher != NULL;
}

bool session_open(Session *s, const DtModel *model)
{
    s->model = model;
    if (!cli_read_recipe(&s->arena, &s->diag, &s->opt))
        return false;
    cli_recipe_defaults(&s->opt);
    if (!cli_recipe(&s->arena, &s->diag, &s->opt, &s->recipe) || !session_resize(s))
        return false;
    model = s->model;
    session_defaults(&s->arena, &s->opt, &s->recipe, &model->training);
    if (!cli_optimizer(&s->arena, &s->diag, &s->opt, &model->training, &s->optimizer) || !session_teacher(s, model))
        return false;
    s->model = session_model(s, model);
    s->use_averages = s->opt.averaged;
    s->clamped = s->opt.clamped;
    return session_check_epochs(s) && cli_moment(&s->diag, &s->opt, &s->moment) && session_forward(s);
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
    int64_t        batch;
    const DtModel *model = session_sized(s, step, &batch);
    Graph         *g = frontend_build_distilled(&s->arena, &s->diag, model, batch, step, &s->distill);
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
        .use_averages = s->use_averages,
        .target = cli_target(s->opt.backend),
        .bf16_backward = str_eq(s->opt.backward, "bf16"),
        .int8_forward = !str_eq(s->opt.forward, "float"),
        .chooser = session_chooser(s),
        .memory = s->most_values > 0 || s->unlimited ? 0 : s->opt.memory_bytes,
        .memory_values = s->least ? 1 : s->most_values,
        .keep = &s->arena,
    };
    const char *scope = pass_options_explain(&s->opt.pass);
    if (scope != NULL) {
        c.explain = &explain;
        c.explain_scope = scope[0] != 0 ? scope : NULL;
    }
    bool ok = passes_run(&c, g, &s->opt.pass, s->out, stopped);
    if (explain.len > 0)
        fputs(explain.s, s->out);
    c.scratch = NULL;
    c.explain = NULL;
    if (keep != NULL)
        *keep = c;
    arena_free(&scratch);
    if (step == STEP_TRAIN)
        s->again = c.again;
    return ok && (step != STEP_TRAIN || session_keeps_to_memory(s, g)) ? g : NULL;
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
    if (p != NULL && s->sizes != NULL) {
        vec_push(&s->arena, s->sizes, p);
        return (LoadedProgram){ s->exec, p, s->sizes->len - 1 };
    }
    bool    ok = p != NULL && session_fits(s, step, p) && (!plan || program_check(&s->diag, p));
    int32_t index = ok ? exec_add(s->exec, p) : -1;
    return (LoadedProgram){ s->exec, index >= 0 ? p : NULL, index };
}

bool session_needs_init(const Session *s)
{
    return recipe_quantizes(&s->recipe);
}
