/* manager.c: runs a pipeline of passes over one graph. Around each pass it prints, hashes, times, verifies and counts,
 * so that passes do nothing but rewrite. Per pass:
 *
 *   text of the graph (for diffs and for the reproducer) - run - errors? - "changed" true? - rules of the phase - text
 *   reads back? - dumps - record - scratch memory is reset
 *
 * A phase is reached by required passes alone: a pass that may be left out cannot be what makes a rule hold.
 *
 * Tested by tests/unit/test_manager.c. */
#include "passes/pass_impl.h"

#include <string.h>

/* ---- What passes call ------------------------------------------------------------------------------------------- */

void pass_count(PassCtx *c, const char *stat, int64_t n)
{
    for (int32_t i = 0; i < c->stats.len; i++)
        if (str_eq(c->stats.at[i].name, stat)) {
            c->stats.at[i].count += n;
            return;
        }
    vec_push(c->keep, &c->stats, (PassStat){ .name = arena_strdup(c->keep, stat), .count = n });
}

void pass_explain(PassCtx *c, const Graph *g, ValueId v, const char *fmt, ...)
{
    if (!c->explain)
        return;
    const char *scope = ir_value(g, v)->scope;
    const char *label = ir_label(c->scratch, g, v);
    if (c->explain_scope && !str_glob(c->explain_scope, scope ? scope : "") && !str_glob(c->explain_scope, label))
        return;
    va_list ap;
    va_start(ap, fmt);
    str_printf(c->explain, "%%%d %s: %s\n", v, label, arena_vprintf(c->scratch, fmt, ap));
    va_end(ap);
}

/* ---- Phases ----------------------------------------------------------------------------------------------------- */

/* The furthest phase whose rules the graph keeps: for text that enters the pipeline in the middle. Rules about kernels
 * say nothing of a graph that has none. */
static bool phase_probe(PassRun *r)
{
    for (int p = r->g->groups.len ? PHASE_LOWERED : PHASE_LAYOUT; p > PHASE_FRONTEND; p--) {
        Diag quiet = diag_new(NULL);
        bool ok = ir_verify(r->g, (Phase)p, &quiet);
        diag_free(&quiet);
        r->phase = (Phase)p;
        if (ok)
            return true;
    }
    r->phase = PHASE_FRONTEND;
    return ir_verify(r->g, PHASE_FRONTEND, r->c->d);
}

/* What must hold before a pass: for a required one what the required ones before it leave, for another its own phase.
 */
static Phase phase_needed(const PassInfo *p, StepKind step)
{
    if (!(p->flags & PASS_REQUIRED))
        return p->phase;
    Phase needed = PHASE_FRONTEND;
    for (const PassInfo *q = pass_table; q < p; q++)
        if ((q->flags & PASS_REQUIRED) && (q->steps & (1u << step)) && q->phase > needed)
            needed = q->phase;
    return needed;
}

/* The first row of the default pipeline that may still run, seen from what the graph carries. */
static PassId first_open(const Graph *g)
{
    if (g->bytes[MEM_WORK] || g->bytes[MEM_IO])
        return PASS_LOWER;
    if (g->groups.len)
        return PASS_BATCH;
    return g->target ? PASS_FUSE : PASS_CANONICALIZE;
}

/* With --passes the order is the user's, and so are its mistakes. */
static bool check_order(PassRun *r)
{
    const PassInfo *p = pass_run_pass(r);
    Phase           needed = phase_needed(p, r->c->step);
    if (r->phase < needed) {
        diag_error(r->c->d, LOC_NONE, "%s: expects a graph of phase %s, this one is of phase %s", p->name,
                   phase_name(needed), phase_name(r->phase));
        for (const PassInfo *q = pass_table; q < pass_table + PASS_COUNT; q++)
            if ((q->flags & PASS_REQUIRED) && (q->steps & (1u << r->c->step)) && q->phase > r->phase &&
                q->phase <= needed) {
                diag_help(r->c->d, "run %s first", q->name);
                break;
            }
        return false;
    }
    if (!(p->flags & PASS_TEST) && p < &pass_table[first_open(r->g)]) {
        diag_error(r->c->d, LOC_NONE, "%s: comes too late: the graph has been through %s", p->name,
                   pass_table[first_open(r->g) - 1].name);
        return false;
    }
    return true;
}

/* ---- Checks after a pass: a failure is a bug of the pass
 * -------------------------------------------------------------- */

static void check_rules(PassRun *r, Phase phase)
{
    Diag said = diag_new(NULL);
    if (!ir_verify(r->g, phase, &said))
        dt_bug(__FILE__, __LINE__, "ir_verify", "pass %s leaves a graph that breaks the rules of phase %s:\n%s",
               pass_run_name(&r->text, r->pipe.rows.at[r->at]), phase_name(phase), said.text.s);
    diag_free(&said);
}

static void check_changed(PassRun *r, Hash128 before, bool changed)
{
    Hash128 after = ir_hash(r->g);
    bool    differs = after.lo != before.lo || after.hi != before.hi;
    DT_ASSERT(differs == changed, "pass %s says that it %s the graph, but the graph %s",
              pass_run_name(&r->text, r->pipe.rows.at[r->at]), changed ? "changed" : "did not change",
              differs ? "differs" : "is the same");
}

static void check_roundtrip(PassRun *r)
{
    Diag        said = diag_new(NULL);
    const char *name = pass_run_name(&r->text, r->pipe.rows.at[r->at]);
    const char *first = dump_text(&r->text, r->g, NULL);
    Graph      *read = ir_parse(&r->text, &said, name, first);
    DT_ASSERT(read, "after pass %s the graph's text does not parse:\n%s", name, said.text.s);
    const char *second = dump_text(&r->text, read, NULL);
    Str         diff = str_new(&r->text);
    text_diff(&diff, "printed", first, "parsed and printed", second);
    DT_ASSERT(strcmp(first, second) == 0, "after pass %s the graph's text does not read back:\n%s", name, diff.s);
    diag_free(&said);
}

/* ---- One pass --------------------------------------------------------------------------------------------------- */

static void take_before(PassRun *r)
{
    r->before = dump_text(&r->text, r->g, NULL);
    r->before_scope = r->opt->print_scope ? dump_text(&r->text, r->g, r->opt->print_scope) : r->before;
}

/* Counters of this pass get its name in front and go to the others. */
static void take_stats(PassRun *r)
{
    PassCtx *c = r->c;
    for (int32_t i = 0; i < c->stats.len; i++) {
        const char *pass = pass_run_name(&r->text, r->pipe.rows.at[r->at]);
        const char *name = arena_printf(c->keep, "%s.%s", pass, c->stats.at[i].name);
        vec_push(c->keep, &r->stats, (PassStat){ .name = name, .count = c->stats.at[i].count });
    }
    c->stats.len = 0;
}

static void take_explained(PassRun *r)
{
    if (r->explain.len) {
        fprintf(r->out, "// %s explains:\n%s", pass_run_pass(r)->name, r->explain.s);
        r->explain = str_new(&r->arena);
    }
    if (r->opt->print_plan && r->pipe.rows.at[r->at].id == PASS_PLAN) {
        Str plan = str_new(&r->text);
        passes_print_plan(&plan, r->g);
        passes_print_again(&plan, &r->c->again);
        fputs(plan.s, r->out);
    }
}

static bool run_row(PassRun *r)
{
    const PassInfo *p = pass_run_pass(r);
    PassCtx        *c = r->c;
    if (r->opt->passes.len && !check_order(r))
        return false;
    take_before(r);
    dump_before(r);
    if (r->pipe.limit >= 0 && r->pipe.rows.at[r->at].optional)
        fprintf(r->out, "// bisect: pass %d of %d: %s\n", r->pipe.rows.at[r->at].optional, r->pipe.n_optional, p->name);
    Hash128 hash = r->opt->verify_changed ? ir_hash(r->g) : (Hash128){ 0, 0 };
    int32_t values = r->g->order.len, errors = c->d->errors;

    Str    *explain = c->explain;
    if (r->opt->explain_forward && !r->opt->explain_fusion && p->run != pass_integer_forward)
        c->explain = NULL;
    dt_set_bug_hook(reproduce_on_bug, r);
    double start = time_now_s();
    bool   changed = p->run(c, r->g);
    double seconds = time_now_s() - start;
    c->explain = explain;
    bool  ok = c->d->errors == errors;
    Phase phase = (p->flags & PASS_REQUIRED) && p->phase > r->phase ? p->phase : r->phase;
    if (ok) {
        if (r->opt->verify_changed)
            check_changed(r, hash, changed);
        if (str_eq(r->opt->verify, "all") || (!str_eq(r->opt->verify, "off") && (changed || phase > r->phase)))
            check_rules(r, phase);
        if (r->opt->verify_roundtrip)
            check_roundtrip(r);
    }
    dt_set_bug_hook(NULL, NULL);

    r->phase = phase;
    take_stats(r);
    vec_push(&r->arena, &r->records, (PassRecord){ r->pipe.rows.at[r->at], seconds, values, r->g->order.len, changed });
    ok = ok && dump_after(r, changed);
    take_explained(r);
    arena_reset(c->scratch);
    arena_reset(&r->text);
    return ok;
}

/* ---- Tables ----------------------------------------------------------------------------------------------------- */

static void print_timing(const PassRun *r)
{
    double total = 0;
    fprintf(r->out, "%-18s %9s %7s %7s  %s\n", "pass", "ms", "before", "after", "changed");
    for (int32_t i = 0; i < r->records.len; i++) {
        const PassRecord *p = &r->records.at[i];
        fprintf(r->out, "%-18s %9.3f %7d %7d  %s\n", pass_table[p->row.id].name, 1e3 * p->seconds, p->values_before,
                p->values_after, p->changed ? "yes" : "no");
        total += p->seconds;
    }
    fprintf(r->out, "%-18s %9.3f\n", "total", 1e3 * total);
}

static void print_stats(PassRun *r)
{
    for (int32_t i = 0; i < r->stats.len; i++)
        fprintf(r->out, "%-36s %10lld\n", r->stats.at[i].name, (long long)r->stats.at[i].count);
    fprintf(r->out, "%-36s %10s\n", "scratch memory", str_bytes(&r->arena, (int64_t)r->c->scratch->high_water));
}

/* ---- The pipeline ----------------------------------------------------------------------------------------------- */

static bool run_start(PassRun *r)
{
    if (r->opt->print_pipeline) {
        Str text = str_new(&r->arena);
        pipeline_print(&text, &r->pipe);
        fprintf(r->out, "--passes=%s\n", text.s);
    }
    const char *scope = pass_options_explain(r->opt);
    if (scope && !r->c->explain) { /* else the caller collects and prints */
        r->explain = str_new(&r->arena);
        r->c->explain = &r->explain;
        r->c->explain_scope = *scope ? scope : NULL;
    }
    if (r->opt->passes.len ? !phase_probe(r) : !ir_verify(r->g, PHASE_FRONTEND, r->c->d))
        return false;
    take_before(r);
    return dump_start(r);
}

static void run_end(PassRun *r)
{
    PassCtx *c = r->c;
    if (r->opt->pass_timing)
        print_timing(r);
    if (r->opt->pass_stats)
        print_stats(r);
    for (int32_t i = 0; i < r->stats.len; i++)
        vec_push(c->keep, &c->stats, r->stats.at[i]);
    if (c->explain == &r->explain)
        c->explain = NULL;
    arena_free(&r->text);
    arena_free(&r->arena);
}

bool passes_run(PassCtx *c, Graph *g, const PassOptions *opt, FILE *out, bool *stopped)
{
    PassRun r = {
        .c = c, .g = g, .opt = opt, .out = out, .arena = arena_new("pass manager"), .text = arena_new("pass text")
    };
    bool ok = pipeline_build(&r.arena, c->d, opt, c->step, &r.pipe);
    if (stopped)
        *stopped = !r.pipe.lowers;
    c->stats.len = 0;
    ok = ok && run_start(&r);
    for (r.at = 0; ok && r.at < r.pipe.rows.len; r.at++)
        ok = run_row(&r);
    run_end(&r);
    return ok;
}
