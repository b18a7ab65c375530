/* check.c: `detent check NET`: is what was generated for this network right? Three kinds of evidence, each gathered
 * over everything that differs:
 *
 *   gradients  each differentiable op with its attributes, on small shapes: the step's gradient against differences
 *   kernels    each kernel of the programs of every step: machine code against the interpreter, bit for bit, on vectors
 *              of 4, 8 and 16 floats, the work in one, two and three parts, with ordinary and with special numbers
 *   calls      each library call: against plain loops, within a stated bound
 *
 * Tested by tests/unit/test_check.c. */
#include "cli/check.h"

#include <math.h>

/* A line of the table: items of one kind. */
typedef struct CheckRow {
    const char *kind, *what;
    int32_t     items;
    int64_t     compared;
    double      worst, bound; /* bound 0: equality */
    bool        failed;
} CheckRow;

typedef struct CheckTable {
    Session    *s;
    const char *net; /* as on the command line */
    VEC(CheckRow) rows;
    int32_t     failures;
    const char *first, *see; /* the first failure, and how to look at it */
} CheckTable;

static CheckRow *table_row(CheckTable *t, const char *kind, const char *what, double bound)
{
    for (int32_t i = 0; i < t->rows.len; i++)
        if (str_eq(t->rows.at[i].kind, kind) && str_eq(t->rows.at[i].what, what))
            return &t->rows.at[i];
    vec_push(&t->s->arena, &t->rows, (CheckRow){ .kind = kind, .what = what, .bound = bound });
    return &t->rows.at[t->rows.len - 1];
}

static void table_fail(CheckTable *t, CheckRow *row, const char *first, const char *see)
{
    row->failed = true;
    log_info("FAILED: %s", first);
    if (t->failures++ == 0) {
        t->first = first;
        t->see = see;
    }
}

static void table_print(const CheckTable *t, bool ran)
{
    FILE *out = t->s->out;
    fprintf(out, "%-10s %-28s %6s %9s  %s\n", "what", "of", "items", "compared", "result");
    for (int32_t i = 0; i < t->rows.len; i++) {
        const CheckRow *r = &t->rows.at[i];
        fprintf(out, "%-10s %-28s %6d %9lld  ", r->kind, r->what, r->items, (long long)r->compared);
        if (r->failed)
            fprintf(out, "FAILED\n");
        else if (r->bound == 0)
            fprintf(out, "equal\n");
        else
            fprintf(out, "worst error %.1e, allowed %.0e\n", r->worst, r->bound);
    }
    if (t->failures == 0) {
        fprintf(out, "%s\n", ran ? "all is well" : "not everything could be run: see the error above");
        return;
    }
    fprintf(out, "%d failed; the first: %s\n", t->failures, t->first);
    fprintf(out, "to see it: %s\n", t->see);
}

/* `detent dump NET --method ... ` with the options that matter, for a person to go on with. */
static const char *check_command(const CheckTable *t, const char *command, const char *more)
{
    Session *s = t->s;
    Str      how = str_new(&s->arena);
    if (session_needs_init(s))
        str_printf(&how, " --method %s --bits %s", s->recipe.method, s->opt.bits);
    for (int32_t i = 0; i < s->opt.settings.len; i++)
        str_printf(&how, " --set '%s'", s->opt.settings.at[i]);
    return arena_printf(&s->arena, "detent %s %s%s --batch %lld %s", command, t->net, how.s, (long long)s->opt.batch,
                        more);
}

/* ---- Gradients --------------------------------------------------------------------------------------------------- */

/* The train graph as autodiff gets it. */
static Graph *check_forward_graph(Session *s)
{
    PassOptions given = s->opt.pass;
    bool        stopped;
    s->opt.pass.stop_after = "insert-quantize";
    Graph *g = session_graph(s, STEP_TRAIN, NULL, &stopped);
    s->opt.pass = given;
    return g;
}

static const char *check_text(Arena *a, const Graph *g)
{
    Str s = str_new(a);
    ir_print(&s, g);
    return s.s;
}

static bool check_gradient_case(CheckTable *t, CheckBackend *b, const Graph *from, ValueId id, const Graph *g)
{
    Arena      *a = &t->s->arena;
    GradResult  r;
    const char *op = ir_ops[ir_value(from, id)->op].text, *label = ir_label(a, from, id);
    if (!check_gradients(b, g, &r))
        return false;
    CheckRow *row = table_row(t, "gradient", op, r.bound);
    row->items++;
    row->compared += r.compared;
    row->worst = fmax(row->worst, r.worst);
    log_debug("gradient of %s (%s): %d compared, worst %.1e; %s", op, label, r.compared, r.worst,
              check_grad_why(ir_value(from, id)->op));
    if (!r.ok)
        table_fail(t, row, arena_printf(a, "gradient of %s (%s): %s, in\n%s", op, label, r.where, check_text(a, g)),
                   check_command(t, "dump", "--print-ir-after autodiff --print-ir-diff"));
    return true;
}

/* Equal cases print alike. False: reported. */
static bool check_all_gradients(CheckTable *t)
{
    Session     *s = t->s;
    const Graph *g = check_forward_graph(s);
    CheckBackend interp;
    StrMap       seen = strmap_new(&s->arena);
    if (g == NULL || !check_backend_open(&interp, &s->arena, &s->diag, false, 1, 0))
        return false;
    bool ok = true;
    for (int32_t i = 0; ok && i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (ir_ops[ir_value(g, id)->op].grad == NULL)
            continue;
        const Graph *c = check_case_of(&s->arena, &s->diag, g, id);
        ok = c != NULL &&
             (!strmap_put(&seen, check_text(&s->arena, c), id) || check_gradient_case(t, &interp, g, id, c));
    }
    check_backend_close(&interp);
    return ok;
}

/* ---- Programs ---------------------------------------------------------------------------------------------------- */

static const struct {
    StepKind    step;
    const char *name;
    bool        quantizers; /* without them there is no such step */
} check_steps[] = { { STEP_TRAIN, "train", false },    { STEP_EVAL, "eval", false },
                    { STEP_INIT, "init", true },       { STEP_OBSERVE, "observe", true },
                    { STEP_INSPECT, "inspect", true }, { STEP_REESTIMATE, "reestimate", false } };

/* A kernel that no step before had. */
typedef struct CheckKernel {
    const Graph *g;
    const Group *group;
    int32_t      step; /* row of check_steps */
} CheckKernel;
typedef VEC(CheckKernel) CheckKernels;

static void check_collect_kernels(Session *s, const Graph *g, int32_t step, StrMap *seen, CheckKernels *out)
{
    for (int32_t k = 0; k < g->groups.len; k++) {
        char hex[33];
        if (g->groups.at[k].kernel == NULL)
            continue;
        hash_hex(kernel_hash(g->groups.at[k].kernel), hex);
        if (strmap_put(seen, hex, k))
            vec_push(&s->arena, out, (CheckKernel){ g, &g->groups.at[k], step });
    }
}

/* Labels are classes of the logits; taps are places in a window; random streams are anything. */
static KernelData check_data(const Graph *g, ValueId v)
{
    KernelData any = { 0, 255 };
    if (v == VALUE_NONE)
        return any;
    if (ir_is(g, v, OP_MAXPOOL_TAP))
        return (KernelData){ 0, ir_int(ir_value(g, v), A_KERNEL) * ir_int(ir_value(g, v), A_KERNEL) - 1 };
    if (ir_value(g, v)->type.dtype != DTYPE_I32)
        return any;
    any.hi = 1 << 20;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *u = ir_value(g, g->order.at[i]);
        bool         reads = false;
        for (int32_t j = 0; j < u->n_in; j++)
            reads |= u->in[j] == v;
        Shape s = u->n_in > 0 ? ir_value(g, u->in[0])->type.shape : (Shape){ 0 };
        if (reads && s.rank == 2)
            any.hi = dt_min64(any.hi, s.dim[1] - 1);
    }
    return any;
}

static KernelData *check_kernel_data(Arena *a, const CheckKernel *c)
{
    KernelData *data = ARENA_ARRAY(a, KernelData, c->group->n_bound + 1);
    for (int32_t i = 0; i < c->group->n_bound; i++)
        data[i] = check_data(c->g, c->group->bound[i]);
    return data;
}

/* The same kernels for vectors of each width. */
enum { CHECK_WIDTHS = 3, CHECK_PARTS = 3 };
static const int check_widths[CHECK_WIDTHS] = { 4, 8, 16 };

typedef struct CheckImages {
    KernelJit   *jit;
    KernelImage *at; /* one a kernel */
} CheckImages;

static bool check_compile(Session *s, const CheckKernels *all, int width, CheckImages *out)
{
    Kernel **kernels = ARENA_ARRAY(&s->arena, Kernel *, all->len + 1);
    for (int32_t i = 0; i < all->len; i++)
        kernels[i] = all->at[i].group->kernel;
    out->at = ARENA_ARRAY(&s->arena, KernelImage, all->len + 1);
    out->jit = jit_llvm_new(&s->arena, &s->diag, (JitOptions){ .vector_width = width });
    return out->jit != NULL && jit_compile(out->jit, &s->diag, "check", kernels, all->len, out->at);
}

/* A kernel's result goes into the table; `how` says with what code, `again` how to make that code. False: it failed. */
static bool check_kernel_row(CheckTable *t, const CheckKernel *c, const KernelResult *r, const char *how,
                             const char *again)
{
    Session    *s = t->s;
    const char *step = check_steps[c->step].name;
    CheckRow   *row = table_row(t, "kernel", arena_printf(&s->arena, "%s step", step), 0);
    row->compared += r->runs;
    if (!r->ok)
        table_fail(
            t, row,
            arena_printf(&s->arena, "kernel %s of the %s step (%s), %s: %s", c->group->kernel->name, step,
                         c->group->name, how, r->where),
            check_command(t, "compile", arena_printf(&s->arena, "--step %s %s --dump-kernels DIR", step, again)));
    return r->ok;
}

static void check_count_kernel(CheckTable *t, const CheckKernel *c)
{
    table_row(t, "kernel", arena_printf(&t->s->arena, "%s step", check_steps[c->step].name), 0)->items++;
}

static void check_one_kernel(CheckTable *t, const CheckKernel *c, const KernelImage *const *images)
{
    Session   *s = t->s;
    KernelCase k = {
        .kernel = c->group->kernel, .images = images, .n_images = CHECK_WIDTHS, .most_parts = CHECK_PARTS
    };
    k.data = check_kernel_data(&s->arena, c);
    check_count_kernel(t, c);
    for (int special = 0; special < 2; special++) {
        k.special = special;
        k.seed = (uint64_t)special;
        KernelResult r = check_kernel(&s->arena, &k);
        const char  *how = arena_printf(&s->arena, "vectors of %d, in %d parts, %s numbers", check_widths[r.image],
                                        r.parts, special ? "special" : "ordinary");
        if (!check_kernel_row(t, c, &r, how, arena_printf(&s->arena, "--vector-width %d", check_widths[r.image])))
            return;
    }
}

/* By the GPU that the session has opened, simulated or real. */
static bool check_gpu_kernels(CheckTable *t, const CheckKernels *all)
{
    Session *s = t->s;
    for (int32_t i = 0; i < all->len; i++) {
        const CheckKernel *c = &all->at[i];
        KernelCase         k = { .kernel = c->group->kernel, .data = check_kernel_data(&s->arena, c) };
        bool               well = true;
        check_count_kernel(t, c);
        for (int special = 0; well && special < 2; special++) {
            KernelResult r;
            k.special = special;
            k.seed = (uint64_t)special;
            if (!check_kernel_gpu(&s->arena, &s->diag, &k, s->jit, s->gpu, s->lib, &r))
                return false;
            well = check_kernel_row(t, c, &r, special ? "special numbers" : "ordinary numbers",
                                    arena_printf(&s->arena, "--backend %s", s->opt.backend));
        }
    }
    return true;
}

static bool check_all_kernels(CheckTable *t, const CheckKernels *all)
{
    if (t->s->gpu != NULL)
        return check_gpu_kernels(t, all);
    CheckImages by_width[CHECK_WIDTHS] = { 0 };
    bool        ok = true;
    for (int32_t w = 0; ok && w < CHECK_WIDTHS; w++)
        ok = check_compile(t->s, all, check_widths[w], &by_width[w]);
    for (int32_t i = 0; ok && i < all->len; i++) {
        const KernelImage *images[CHECK_WIDTHS];
        for (int32_t w = 0; w < CHECK_WIDTHS; w++)
            images[w] = &by_width[w].at[i];
        check_one_kernel(t, &all->at[i], images);
    }
    for (int32_t w = 0; w < CHECK_WIDTHS; w++)
        jit_free(by_width[w].jit);
    return ok;
}

/* ---- Library calls ----------------------------------------------------------------------------------------------- */

static bool check_launch(CheckTable *t, CallLib *lib, const Launch *l, const char *step, StrMap *seen)
{
    Session    *s = t->s;
    const char *text = check_call_text(&s->arena, &l->call);
    CallResult  r;
    if (!strmap_put(seen, text, 0))
        return true;
    if (!check_call(&s->arena, &s->diag, s->gpu, lib, &l->call, 1, &r))
        return false;
    CheckRow *row = table_row(t, "call", check_call_name(l->call.kind), 1);
    row->items++;
    row->compared += r.compared;
    row->worst = fmax(row->worst, r.worst);
    log_debug("call %s: worst error is %.2g of the bound", text, r.worst);
    if (!r.ok)
        table_fail(
            t, row,
            arena_printf(&s->arena, "call %s of the %s step (%s) by %s: %s", text, step, l->name, lib->name, r.where),
            check_command(t, "dump", arena_printf(&s->arena, "--step %s", step)));
    return true;
}

static bool check_calls_of(CheckTable *t, CallLib *lib, KernelJit *jit, const Graph *g, const char *step, StrMap *seen)
{
    const Program *p = codegen_program(&t->s->arena, &t->s->diag, g, jit, lib);
    bool           ok = p != NULL;
    for (int32_t i = 0; ok && i < p->n_launches; i++)
        if (p->launches[i].kind == LAUNCH_CALL)
            ok = check_launch(t, lib, &p->launches[i], step, seen);
    return ok;
}

/* ---- All
 * -------------------------------------------------------------------------------------------------------------- */

static bool check_programs(CheckTable *t)
{
    Session     *s = t->s;
    CheckKernels kernels = { 0 };
    StrMap       seen_kernels = strmap_new(&s->arena), seen_calls = strmap_new(&s->arena);
    KernelJit   *interp = jit_interp_new(&s->arena);
    bool         ok = session_backend(s, true);
    for (int32_t i = 0; ok && i < DT_COUNT(check_steps); i++) {
        if (check_steps[i].quantizers && !session_needs_init(s))
            continue;
        bool         stopped = false;
        const Graph *g = session_graph(s, check_steps[i].step, NULL, &stopped);
        ok = g != NULL && check_calls_of(t, s->lib, interp, g, check_steps[i].name, &seen_calls);
        if (ok)
            check_collect_kernels(s, g, i, &seen_kernels, &kernels);
    }
    ok = ok && check_all_kernels(t, &kernels);
    jit_free(interp);
    return ok;
}

int command_check(Session *s, const StrList *rest)
{
    CheckTable t = { .s = s, .net = rest->len > 0 ? rest->at[0] : s->model->name };
    double     start = time_now_s();
    if (s->opt.pass.passes.len > 0 || s->opt.pass.stop_after != NULL) {
        diag_error(&s->diag, LOC_NONE, "check: --passes and --stop-after leave no program to check");
        return EXIT_USAGE;
    }
    bool ran = check_all_gradients(&t) && check_programs(&t);
    table_print(&t, ran);
    if (!ran)
        return EXIT_MISTAKE;
    log_info("%s: checked in %.1f s, batch %lld", s->model->name, time_now_s() - start, (long long)s->opt.batch);
    return t.failures == 0 ? EXIT_OK : EXIT_MISTAKE;
}
