/* inspect.c: `detent compile`, `detent dump`, `detent info` and `detent recipes`: looking without running anything.
 *
 * Tested by tests/unit/test_cli.c and test_cli_errors.c. */
#include "cli/cli.h"

#include <string.h>

static bool inspect_quiet_dump(const PassOptions *o)
{
    return o->print_before.len > 0 || o->print_after.len > 0 || o->print_after_all || o->print_after_change ||
           o->print_diff || o->print_pipeline || o->print_plan || o->explain_fusion != NULL ||
           o->explain_forward != NULL || o->pass_stats || o->pass_timing || o->print_dir != NULL;
}

int command_dump(Session *s, const StrList *rest)
{
    (void)rest;
    if (s->opt.pass.dump_kernels != NULL) {
        diag_error(&s->diag, LOC_NONE, "--dump-kernels: dump makes no code to write");
        diag_help(&s->diag, "use `%s compile`", s->program);
        return EXIT_USAGE;
    }
    bool   stopped = false;
    Graph *g = session_graph(s, session_step(&s->opt), NULL, &stopped);
    if (g == NULL)
        return EXIT_MISTAKE;
    if (inspect_quiet_dump(&s->opt.pass))
        return EXIT_OK; /* the manager printed what was asked for */
    Str text = str_new(&s->arena);
    if (s->opt.pass.print_scope != NULL)
        ir_print_scope(&text, g, s->opt.pass.print_scope);
    else
        ir_print(&text, g);
    fputs(text.s, s->out);
    return EXIT_OK;
}

/* With --dump-kernels, beside the code: the launch list and the memory plan. */
static bool inspect_write(Session *s, const Graph *g, const Program *p)
{
    const char *dir = s->opt.pass.dump_kernels;
    if (dir == NULL)
        return true;
    Str launches = str_new(&s->arena), plan = str_new(&s->arena);
    program_print(&launches, p);
    passes_print_plan(&plan, g);
    return dir_make(&s->diag, dir) &&
           file_write_atomic(&s->diag, arena_printf(&s->arena, "%s/%s.launches.txt", dir, g->name), launches.s,
                             launches.len) &&
           file_write_atomic(&s->diag, arena_printf(&s->arena, "%s/%s.plan.txt", dir, g->name), plan.s, plan.len);
}

int command_compile(Session *s, const StrList *rest)
{
    (void)rest;
    double   start = time_now_s();
    Graph   *g = NULL;
    Program *p = session_program(s, session_step(&s->opt), false, &g);
    if (p == NULL || !inspect_write(s, g, p))
        return EXIT_MISTAKE;
    double   seconds = time_now_s() - start;
    JitStats jit = jit_stats(s->jit);
    int32_t  calls = 0;
    for (int32_t i = 0; i < p->n_launches; i++)
        calls += p->launches[i].kind == LAUNCH_CALL;
    fprintf(s->out, "%s: %d launches%s: %d kernels (%d distinct, %d from the cache), %d library calls\n", g->name,
            p->n_launches, cli_target(s->opt.backend) != cli_target("cpu") ? " a step, in one graph" : "", p->n_images,
            jit.distinct, jit.cached, calls);
    fprintf(s->out, "compiled in %.3f s, of which code %.3f s; %s; %s\n", seconds, jit.seconds,
            jit_describe(&s->arena, s->jit), s->lib->name);
    fprintf(s->out, "memory: params %s, states %s, work %s, scratch %s; saved for backward %s\n",
            str_bytes(&s->arena, p->bytes[ARENA_PARAM]), str_bytes(&s->arena, p->bytes[ARENA_STATE]),
            str_bytes(&s->arena, p->bytes[ARENA_WORK]), str_bytes(&s->arena, p->bytes[ARENA_SCRATCH]),
            str_bytes(&s->arena, p->saved_bytes));
    return EXIT_OK;
}

/* ---- info
 * ------------------------------------------------------------------------------------------------------------ */

/* 269722 -> "269,722" */
static const char *info_number(Arena *a, int64_t n)
{
    const char *digits = arena_printf(a, "%lld", (long long)n);
    size_t      len = strlen(digits);
    Str         s = str_new(a);
    for (size_t i = 0; i < len; i++)
        str_printf(&s, "%s%c", i > 0 && (len - i) % 3 == 0 ? "," : "", digits[i]);
    return s.s;
}

bool cli_is_layer(const Graph *g, ValueId id)
{
    return ir_is(g, id, OP_CONV2D) || ir_is(g, id, OP_LINEAR) || ir_is(g, id, OP_CONV_TRANSPOSE2D);
}

/* Each output of a convolution or a matrix product is a sum over the weights of one output; each input of a transposed
 * convolution is multiplied by the weights of one input. The latter is the first dimension of its weight. */
int64_t cli_macs(const Graph *g, const Value *v, int64_t batch)
{
    const Shape w = ir_value(g, v->in[1])->type.shape;
    const Shape s = v->op == OP_CONV_TRANSPOSE2D ? ir_value(g, v->in[0])->type.shape : v->type.shape;
    int64_t     macs = shape_elems(s) / batch;
    for (int32_t i = 1; i < w.rank; i++)
        macs *= w.dim[i];
    return macs;
}

/* Elements of the params that a layer reads. */
static int64_t info_params(const Graph *g, const Value *v)
{
    int64_t n = 0;
    for (int32_t i = 0; i < v->n_in; i++)
        if (ir_is(g, v->in[i], OP_PARAM))
            n += shape_elems(ir_value(g, v->in[i])->type.shape);
    return n;
}

/* "s1.b0.conv1": the name of its params without the last word. */
static const char *info_layer(Arena *a, const Graph *g, const Value *v)
{
    for (int32_t i = 0; i < v->n_in; i++) {
        const char *name = ir_is(g, v->in[i], OP_PARAM) ? ir_value(g, v->in[i])->name : NULL,
                   *dot = name != NULL ? strrchr(name, '.') : NULL;
        if (dot != NULL)
            return arena_strndup(a, name, (size_t)(dot - name));
    }
    return "";
}

static void info_layers(Session *s, const Graph *g)
{
    Arena  *a = &s->arena;
    int64_t macs = 0, params = 0;
    fprintf(s->out, "%-20s %-16s %-16s %12s %14s\n", "layer", "op", "output", "params", "MACs");
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        int64_t      n = info_params(g, v), m = 0;
        if (cli_is_layer(g, g->order.at[i]))
            m = cli_macs(g, v, s->opt.batch);
        if (n == 0 || (ir_ops[v->op].traits & T_EFFECT) != 0)
            continue;
        fprintf(s->out, "%-20s %-16s %-16s %12s %14s\n", info_layer(a, g, v), ir_ops[v->op].text,
                shape_text(a, v->type.shape), info_number(a, n), m > 0 ? info_number(a, m) : "-");
        params += n;
        macs += m;
    }
    fprintf(s->out, "%-54s %12s %14s\n", "in all; MACs are of one image", info_number(a, params), info_number(a, macs));
}

/* "my.recipe:12", or the option of the command line. */
static const char *info_place(Arena *a, Loc at, const char *what)
{
    return at.file != NULL ? arena_printf(a, "%s:%d", at.file, at.line) : what;
}

static const char *info_bits_by(Session *s, int32_t row)
{
    if (row == -1)
        return info_place(&s->arena, cli_place(&s->opt, "bits", 0), "--bits");
    if (row == -2)
        return info_place(&s->arena, cli_place(&s->opt, "edge-bits", 0), "--edge-bits");
    const RecipeRow *r = &s->recipe.rows.at[row];
    return arena_printf(&s->arena, "%s %s", info_place(&s->arena, r->at, r->what), r->pattern);
}

/* "channel" when each output has its own, else how many. */
static const char *info_steps(Arena *a, const QuantizerInfo *q, const QuantSpec *spec)
{
    if (q->steps == 1)
        return "tensor";
    return str_eq(spec_word(spec, SET_GRAIN), "channel") ? "channel" : arena_printf(a, "%lld", (long long)q->steps);
}

/* Parts of a list behind `head`, broken at the width of a page. column: 0 before the first. */
static void info_part(Session *s, const char *head, int *column, const char *part)
{
    enum { PAGE = 120 };
    int indent = (int)strlen(head), len = (int)strlen(part);
    if (*column == 0)
        fprintf(s->out, "%s%s", head, part);
    else if (*column + 2 + len <= PAGE - 1)
        fprintf(s->out, ", %s", part);
    else
        fprintf(s->out, ",\n%*s%s", indent, "", part);
    *column = (*column == 0 || *column + 2 + len > PAGE - 1 ? indent : *column + 2) + len;
}

/* What rows with a pattern say of this quantizer, below its line. */
static void info_own_settings(Session *s, const QuantSpec *spec)
{
    int column = 0;
    for (int32_t i = 0; i < SETTING_COUNT; i++) {
        const RecipeSetting *x = spec->by[i] >= 0 ? &s->recipe.settings.at[spec->by[i]] : NULL;
        if (x != NULL && x->pattern != NULL)
            info_part(s, "                     ", &column,
                      arena_printf(&s->arena, "%s=%s (%s %s)", pass_settings[i].key, x->value.text,
                                   info_place(&s->arena, x->at, x->what), x->pattern));
    }
    if (column > 0)
        fputs("\n", s->out);
}

/* What is said of all layers, and what methods bring along. */
static void info_common_settings(Session *s, const StrList *methods)
{
    int column = 0;
    for (int32_t i = 0; i < s->recipe.settings.len; i++) {
        const RecipeSetting *x = &s->recipe.settings.at[i];
        Str                  text = str_new(&s->arena);
        if (x->pattern != NULL)
            continue;
        recipe_print_setting(&text, x);
        str_printf(&text, " (%s)", info_place(&s->arena, x->at, x->what));
        info_part(s, "of the network: ", &column, text.s);
    }
    if (column > 0)
        fputs("\n", s->out);
    for (int32_t i = 0; i < pass_n_methods; i++)
        for (int32_t k = 0; k < methods->len; k++)
            if (str_eq(methods->at[k], pass_methods[i].name) && pass_methods[i].defaults[0] != 0)
                fprintf(s->out, "by method %s: %s\n", pass_methods[i].name, pass_methods[i].defaults);
}

/* The layer, where it says which quantizer is meant; else the quantizer: "s1.b0.add.x". */
static const char *info_quantizer_name(Arena *a, const QuantizerInfo *q)
{
    bool of_layer = str_eq(q->name, arena_printf(a, "%s.weight", q->layer)) ||
                    str_eq(q->name, arena_printf(a, "%s.input", q->layer));
    return of_layer ? q->layer : q->name;
}

static void info_quantizer(Session *s, const QuantizerInfo *q, StrList *methods)
{
    QuantSpec spec;
    Role      role = str_eq(q->role, role_name(ROLE_WEIGHT)) ? ROLE_WEIGHT : ROLE_ACT;
    bool      ok = recipe_resolve(&s->arena, &s->diag, &s->recipe, q->layer, false, role, &spec), known = false;
    DT_ASSERT(ok, "the recipe of %s was resolved before", q->name);
    fprintf(s->out, "%-20s %-6s %-11s %4d  %-13s %-8s %-10s  %s\n", info_quantizer_name(&s->arena, q), q->role,
            q->method, q->bits,
            arena_printf(&s->arena, "%lld..%lld%s", (long long)q->lo, (long long)q->hi, q->affine ? " z" : ""),
            info_steps(&s->arena, q, &spec), q->calibrate, info_bits_by(s, q->row));
    info_own_settings(s, &spec);
    for (int32_t i = 0; i < methods->len; i++)
        known |= str_eq(methods->at[i], q->method);
    if (!known)
        vec_push(&s->arena, methods, q->method);
}

static void info_quantizers(Session *s, const PassCtx *c)
{
    StrList methods = { 0 };
    bool    affine = false;
    fprintf(s->out, "\n%-20s %-6s %-11s %4s  %-13s %-8s %-10s  %s\n", "quantizer", "role", "method", "bits", "codes",
            "steps", "calibrate", "bits by");
    for (int32_t i = 0; i < c->quantizers.len; i++) {
        info_quantizer(s, &c->quantizers.at[i], &methods);
        affine |= c->quantizers.at[i].affine;
    }
    if (affine)
        fprintf(s->out, "z: with a zero point\n");
    info_common_settings(s, &methods);
}

/* Everything that can be wrong is looked at before the first line is printed. */
int command_info(Session *s, const StrList *rest)
{
    (void)rest;
    PassCtx c = { 0 };
    bool    stopped, quantizes = session_needs_init(s);
    Graph  *g = frontend_build(&s->arena, &s->diag, s->model, s->opt.batch, STEP_EVAL);
    s->opt.pass.stop_after = "insert-quantize";
    if (g == NULL || (quantizes && session_graph(s, STEP_EVAL, &c, &stopped) == NULL))
        return EXIT_MISTAKE;
    fprintf(s->out, "%s: %s\nimage %dx%dx%d, batch %lld\n\n", s->model->name, s->model->doc, s->model->image[0],
            s->model->image[1], s->model->image[2], (long long)s->opt.batch);
    info_layers(s, g);
    if (quantizes)
        info_quantizers(s, &c);
    return EXIT_OK;
}

/* ---- recipes ----------------------------------------------------------------------------------------------------- */

int command_recipes(Session *s, const StrList *rest)
{
    if (rest->len > 1) {
        diag_error(&s->diag, LOC_NONE, "%s recipes: expected one name, found '%s' too", s->program, rest->at[1]);
        return EXIT_USAGE;
    }
    if (rest->len == 1) {
        const BuiltinRecipe *r =
            recipe_find_builtin(&s->arena, &s->diag, arena_printf(&s->arena, "%s recipes", s->program), rest->at[0]);
        if (r != NULL)
            fputs(r->text, s->out);
        return r != NULL ? EXIT_OK : EXIT_MISTAKE;
    }
    for (int32_t i = 0; i < recipe_n_builtins; i++)
        fprintf(s->out, "%-20s %s\n", recipe_builtins[i].name, recipe_title(&s->arena, &recipe_builtins[i]));
    return EXIT_OK;
}
