/* inspect.c: `detent compile`, `detent dump` and `detent info`: looking at a network without running it.
 *
 * Tested by tests/unit/test_cli.c and tests/cli. */
#include "cli/cli.h"

#include <string.h>

static StepKind inspect_step(const Session *s)
{
    return str_eq(s->opt.step, "eval") ? STEP_EVAL : str_eq(s->opt.step, "init") ? STEP_INIT : STEP_TRAIN;
}

static bool inspect_quiet_dump(const PassOptions *o)
{
    return o->print_before.len > 0 || o->print_after.len > 0 || o->print_after_all || o->print_after_change || o->print_diff ||
           o->print_pipeline || o->print_plan || o->explain_fusion != NULL || o->pass_stats || o->pass_timing || o->print_dir != NULL;
}

int command_dump(Session *s, const StrList *rest)
{
    (void)rest;
    bool   stopped = false;
    Graph *g = session_graph(s, inspect_step(s), NULL, &stopped);
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

int command_compile(Session *s, const StrList *rest)
{
    (void)rest;
    if (s->opt.pass.bisect_run != NULL)
        return passes_bisect_run(&s->arena, &s->diag, &s->opt.pass, inspect_step(s), s->out) >= 0 ? EXIT_OK : EXIT_MISTAKE;
    double   start = time_now_s();
    Graph   *g = NULL;
    Program *p = session_program(s, inspect_step(s), &g);
    if (p == NULL)
        return EXIT_MISTAKE;
    double   seconds = time_now_s() - start;
    JitStats jit = jit_stats(s->jit);
    int32_t  calls = 0;
    for (int32_t i = 0; i < p->n_launches; i++)
        calls += p->launches[i].kind == LAUNCH_CALL;
    fprintf(s->out, "%s: %d launches: %d kernels (%d distinct, %d from the cache), %d library calls\n", g->name, p->n_launches,
            p->n_images, jit.distinct, jit.cached, calls);
    fprintf(s->out, "compiled in %.3f s, of which code %.3f s; %s; %s\n", seconds, jit.seconds, jit_describe(&s->arena, s->jit), s->lib->name);
    fprintf(s->out, "memory: params %s, states %s, work %s, scratch %s; saved for backward %s\n", str_bytes(&s->arena, p->bytes[ARENA_PARAM]),
            str_bytes(&s->arena, p->bytes[ARENA_STATE]), str_bytes(&s->arena, p->bytes[ARENA_WORK]),
            str_bytes(&s->arena, p->bytes[ARENA_SCRATCH]), str_bytes(&s->arena, p->saved_bytes));
    return EXIT_OK;
}

/* ---- info ------------------------------------------------------------------------------------------------------------ */

/* Multiplications and additions of a layer for one image. */
static int64_t info_macs(const Graph *g, const Value *v, int64_t batch)
{
    const Shape w = ir_value(g, v->in[1])->type.shape;
    int64_t     macs = shape_elems(v->type.shape) / batch;
    for (int32_t i = 1; i < w.rank; i++)
        macs *= w.dim[i];
    return macs;
}

static int64_t info_params(const Graph *g)
{
    int64_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], OP_PARAM))
            n += shape_elems(ir_value(g, g->order.at[i])->type.shape);
    return n;
}

static void info_layers(Session *s, const Graph *g)
{
    int64_t macs = 0;
    fprintf(s->out, "%-24s %-14s %-18s %10s %12s\n", "layer", "op", "output", "weights", "MACs");
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        if (v->op != OP_CONV2D && v->op != OP_LINEAR)
            continue;
        const Value *w = ir_value(g, v->in[1]);
        size_t       len = strlen(w->name != NULL ? w->name : "");
        int64_t      m = info_macs(g, v, s->opt.batch);
        fprintf(s->out, "%-24.*s %-14s %-18s %10lld %12lld\n", (int)(len > 7 ? len - 7 : len), w->name != NULL ? w->name : "",
                ir_ops[v->op].text, shape_text(&s->arena, v->type.shape), (long long)shape_elems(w->type.shape), (long long)m);
        macs += m;
    }
    fprintf(s->out, "params %lld, MACs for one image %lld\n", (long long)info_params(g), (long long)macs);
}

static void info_quantizers(Session *s, const PassCtx *c)
{
    fprintf(s->out, "\n%-24s %-7s %5s %7s %7s  %s\n", "quantizer", "role", "bits", "lo", "hi", "decided by");
    for (int32_t i = 0; i < c->quantizers.len; i++) {
        const QuantizerInfo *q = &c->quantizers.at[i];
        const char          *by = q->row == -1   ? "--bits"
                                  : q->row == -2 ? "--edge-bits"
                                                 : arena_printf(&s->arena, "--layer %s", s->recipe.rows.at[q->row].pattern);
        if (q->bits > 0)
            fprintf(s->out, "%-24s %-7s %5d %7lld %7lld  %s\n", q->layer, q->role, q->bits, (long long)q->lo, (long long)q->hi, by);
        else
            fprintf(s->out, "%-24s %-7s float %7s %7s  %s\n", q->layer, q->role, "", "", by);
    }
}

int command_info(Session *s, const StrList *rest)
{
    (void)rest;
    Graph *g = frontend_build(&s->arena, &s->diag, s->model, s->opt.batch, STEP_EVAL);
    if (g == NULL)
        return EXIT_MISTAKE;
    fprintf(s->out, "%s: %s\nimage %dx%dx%d, batch %lld\n\n", s->model->name, s->model->doc, s->model->image[0], s->model->image[1],
            s->model->image[2], (long long)s->opt.batch);
    info_layers(s, g);
    if (!session_needs_init(s))
        return EXIT_OK;
    PassCtx     c;
    bool        stopped;
    PassOptions saved = s->opt.pass;
    s->opt.pass.stop_after = "insert-quantize";
    g = session_graph(s, STEP_EVAL, &c, &stopped);
    s->opt.pass = saved;
    if (g == NULL)
        return EXIT_MISTAKE;
    info_quantizers(s, &c);
    return EXIT_OK;
}
