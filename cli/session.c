/* session.c: from options to programs that run: network -> graph -> passes -> code -> memory. Every command that needs
 * a network goes through here.
 *
 * Tested by tests/unit/test_cli.c, test_cli_errors.c and tests/e2e. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

/* The number that the author of the network wrote: 0.1f in the source is 0.1 here, as on the command line. */
static double session_decimal(Arena *a, float f)
{
    Str text = str_new(a);
    str_add_f32(&text, f);
    return strtod(text.s, NULL);
}

/* What the command line left open is as the network says, else as most people would. */
static void session_defaults(Arena *a, CliOptions *o, const DtTraining *t)
{
    o->batch = o->batch > 0 ? o->batch : t->batch > 0 ? t->batch : 128;
    o->epochs = o->epochs > 0 ? o->epochs : t->epochs > 0 ? t->epochs : 10;
    o->lr = o->lr > 0 ? o->lr : t->lr > 0 ? session_decimal(a, t->lr) : 0.1;
    if (!cli_given(o, "momentum"))
        o->momentum = t->momentum > 0 ? session_decimal(a, t->momentum) : 0.9;
    if (!cli_given(o, "weight-decay"))
        o->weight_decay = session_decimal(a, t->weight_decay);
    if (!cli_given(o, "nesterov"))
        o->nesterov = t->nesterov;
    if (o->method == NULL)
        o->method = "float";
    if (o->schedule == NULL)
        o->schedule = t->schedule != NULL ? t->schedule : "cosine";
    if (o->dataset == NULL)
        o->dataset = t->data;
    if (o->bits == NULL)
        o->bits = str_eq(o->method, "float") ? "float" : "w8a8";
}

static bool session_recipe(Session *s)
{
    const MethodInfo *method = recipe_find_method(&s->arena, &s->diag, LOC_NONE, "--method", s->opt.method);
    if (method == NULL)
        return false;
    s->recipe =
        (Recipe){ .method = method->name, .edge_bits = (int32_t)s->opt.edge_bits, .batch_in_n = s->opt.batch_in_n };
    if (!method->quantizes && (!str_eq(s->opt.bits, "float") || s->opt.layers.len > 0)) {
        diag_error(&s->diag, LOC_NONE, "--%s: method '%s' does not quantize", s->opt.layers.len > 0 ? "layer" : "bits",
                   method->name);
        diag_help(&s->diag, "add --method lsq, or leave the option out");
        return false;
    }
    if (method->quantizes &&
        !recipe_parse_bits(&s->recipe, &s->diag, s->opt.bits_place != NULL ? s->opt.bits_place : "--bits", s->opt.bits))
        return false;
    for (int32_t i = 0; i < s->opt.layers.len; i++)
        if (!recipe_add_layer(&s->arena, &s->recipe, &s->diag,
                              i < s->opt.layer_places.len ? s->opt.layer_places.at[i] : "--layer", s->opt.layers.at[i]))
            return false;
    return true;
}

/* The file's words become options, where the command line does not say otherwise; its layers come before --layer. */
static bool session_recipe_file(Session *s)
{
    CliOptions *o = &s->opt;
    RecipeFile  f;
    if (o->recipe == NULL)
        return true;
    if (!recipe_read(&s->arena, &s->diag, o->recipe, &f))
        return false;
    StrList given = o->layers;
    o->method = o->method != NULL ? o->method : f.method;
    if (o->bits == NULL) {
        o->bits = f.bits;
        o->bits_place = f.bits_place;
    }
    o->batch_in_n = o->batch_in_n || f.batch_in_n;
    o->layers = f.layers;
    o->layer_places = f.places;
    for (int32_t i = 0; i < given.len; i++)
        vec_push(&s->arena, &o->layers, given.at[i]);
    if (f.has_edge_bits && !cli_given(o, "edge-bits"))
        o->edge_bits = f.edge_bits;
    o->recipe = NULL; /* said; opening again changes nothing */
    return true;
}

bool session_open(Session *s, const DtModel *model)
{
    s->model = model;
    if (!session_recipe_file(s))
        return false;
    session_defaults(&s->arena, &s->opt, &model->training);
    s->optimizer = (OptimizerConfig){ s->opt.momentum, s->opt.weight_decay, s->opt.nesterov };
    return session_recipe(s);
}

const char *session_recipe_text(Session *s)
{
    if (!session_needs_init(s))
        return "float";
    Str text = str_new(&s->arena);
    str_add(&text, s->opt.bits);
    if (s->opt.edge_bits != EDGE_BITS)
        str_printf(&text, " --edge-bits=%lld", (long long)s->opt.edge_bits);
    for (int32_t i = 0; i < s->opt.layers.len; i++)
        str_printf(&text, " --layer=%s", s->opt.layers.at[i]);
    str_add(&text, s->opt.batch_in_n ? " --batch-in-n" : "");
    return text.s;
}

bool session_recipe_apply(Session *s, const char *method, const char *text)
{
    enum { MOST = 256 };
    char      *argv[MOST], *words = arena_printf(&s->arena, "--bits=%s", text), *save = NULL;
    int        argc = 0;
    CliOptions o;
    StrList    none = { 0 };
    for (char *w = strtok_r(words, " ", &save); w != NULL && argc < MOST; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    if (!cli_parse(&s->arena, &s->diag, OPTS_RECIPE, argc, argv, &o, &none))
        return false;
    s->opt.method = arena_strdup(&s->arena, method);
    s->opt.bits = o.bits;
    s->opt.edge_bits = o.edge_bits;
    s->opt.layers = o.layers;
    s->opt.batch_in_n = o.batch_in_n;
    return session_open(s, s->model);
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
    return str_eq(o->step, "eval") ? STEP_EVAL : str_eq(o->step, "init") ? STEP_INIT : STEP_TRAIN;
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
    for (int32_t i = 0; i < pass_n_methods; i++)
        if (str_eq(pass_methods[i].name, s->recipe.method))
            return pass_methods[i].quantizes;
    return false;
}
