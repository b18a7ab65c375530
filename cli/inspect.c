/* inspect.c: `detent compile`, `detent dump` and `detent info`: looking at a network without running it.
 *
 * Tested by tests/unit/test_cli.c and test_cli_errors.c. */
#include "cli/cli.h"

#include <string.h>

static bool inspect_quiet_dump(const PassOptions *o)
{
    return o->print_before.len > 0 || o->print_after.len > 0 || o->print_after_all || o->print_after_change ||
           o->print_diff || o->print_pipeline || o->print_plan || o->explain_fusion != NULL || o->pass_stats ||
           o->pass_timing || o->print_dir != NULL;
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

/* Multiplications and additions of a layer for one image. */
static int64_t info_macs(const Graph *g, const Value *v, int64_t batch)
{
    if (v->op != OP_CONV2D && v->op != OP_LINEAR)
        return 0;
    const Shape w = ir_value(g, v->in[1])->type.shape;
    int64_t     macs = shape_elems(v->type.shape) / batch;
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
    fprintf(s->out, "%-20s %-10s %-16s %12s %14s\n", "layer", "op", "output", "params", "MACs");
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        int64_t      n = info_params(g, v), m = info_macs(g, v, s->opt.batch);
        if (n == 0 || (ir_ops[v->op].traits & T_EFFECT) != 0)
            continue;
        fprintf(s->out, "%-20s %-10s %-16s %12s %14s\n", info_layer(a, g, v), ir_ops[v->op].text,
                shape_text(a, v->type.shape), info_number(a, n), m > 0 ? info_number(a, m) : "-");
        params += n;
        macs += m;
    }
    fprintf(s->out, "%-48s %12s %14s\n", "in all; MACs are of one image", info_number(a, params), info_number(a, macs));
}

static void info_quantizers(Session *s, const PassCtx *c)
{
    fprintf(s->out, "\n%-20s %-7s %5s %7s %7s  %s\n", "quantizer", "role", "bits", "lo", "hi", "decided by");
    for (int32_t i = 0; i < c->quantizers.len; i++) {
        const QuantizerInfo *q = &c->quantizers.at[i];
        const char          *by = q->row == -1   ? (s->opt.bits_place != NULL ? s->opt.bits_place : "--bits")
                                  : q->row == -2 ? "--edge-bits"
                                                 : arena_printf(&s->arena, "%s %s", s->recipe.rows.at[q->row].what,
                                                                s->recipe.rows.at[q->row].pattern);
        fprintf(s->out, "%-20s %-7s %5d %7lld %7lld  %s\n", q->layer, q->role, q->bits, (long long)q->lo,
                (long long)q->hi, by);
    }
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
