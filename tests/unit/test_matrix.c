/* test_matrix.c: the op matrix (tests/ops/matrix.def): every op, in every form that matters,
 *
 *   1. forward by the interpreter against doubles (matrix_refs.h), op alone and through all passes;
 *   2. element-wise ops on NaN, infinities, zeros of both signs and denormals, too;
 *   3. forward by machine code and by the CUDA text on a simulated GPU: bit for bit what the interpreter gives
 *      (library ops: within 1e-5), but for calls that the CPU's library does not make;
 *   4. the gradient, where there is one, against differences or the closed form of its surrogate.
 *
 * An op without a row, or without a reference, fails. */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"
#include "tests/unit/matrix_refs.h"

#include <math.h>

typedef struct Row {
    OpCode      op;
    const char *operands, *attrs, *result;
    bool        gradient, cpu;
    int         line;
} Row;

static const Row rows[] = {
#define ROW(op, operands, attrs, result) { OP_##op, operands, attrs, result, true, true, __LINE__ },
#define ROW_FORWARD(op, operands, attrs, result) { OP_##op, operands, attrs, result, false, true, __LINE__ },
#define ROW_NO_CPU(op, operands, attrs, result) { OP_##op, operands, attrs, result, false, false, __LINE__ },
#include "tests/ops/matrix.def"
#undef ROW
#undef ROW_FORWARD
#undef ROW_NO_CPU
};

enum { MATRIX_STREAM = 0x6d617478 };

/* ---- Graphs ------------------------------------------------------------------------------------------------------ */

static const char *row_text(Arena *a, const Row *r)
{
    return arena_printf(a, "matrix.def:%d: %s %s {%s}", r->line, ir_ops[r->op].text, r->operands, r->attrs);
}

/* "f32[3]; u32[]" as leaves x0, x1, ...; how many. */
static int32_t add_leaves(Arena *a, Str *s, const Row *r, bool params)
{
    int32_t n = 0;
    char   *save = NULL, *words = arena_strdup(a, r->operands);
    for (char *t = strtok_r(words, ";", &save); t; t = strtok_r(NULL, ";", &save)) {
        while (*t == ' ')
            t++;
        bool stat = (r->op == OP_BATCHNORM && (n == 1 || n == 2)) ||
                    ((r->op == OP_BN_MEAN || r->op == OP_BN_VAR) && n == 1); /* a shift that changes nothing */
        bool zero = (r->op == OP_QDQ && n == 2) ||
                    (r->op == OP_DISTILL && n == 1); /* given: how an offset is trained is in test_check.c */
        bool        param = params && t[0] == 'f' && !stat && !zero;
        const char *leaf = r->op == OP_STATE || (r->op == OP_ASSIGN && n == 0) ? "state"
                           : param || r->op == OP_PARAM                        ? "param"
                                                                               : "input";
        str_printf(s, "  %%%d = %s \"x%d\" : %s\n", n, leaf, n, t);
        n++;
    }
    return n;
}

/* Leaves and the op; `value`: what the output "out" is to read. */
static Graph *row_graph(Fixture *f, const Row *r, bool params, int32_t *value)
{
    Str  s = str_new(&f->a);
    bool plain = ir_ops[r->op].traits & (T_LEAF | T_EFFECT);
    str_add(&s, "graph @row {\n");
    int32_t n = add_leaves(&f->a, &s, r, params);
    *value = plain ? n - 1 : n;
    if (!plain) {
        str_printf(&s, "  %%%d = %s", n, ir_ops[r->op].text);
        for (int32_t i = 0; i < n; i++)
            str_printf(&s, "%s %%%d", i > 0 ? "," : "", i);
        str_printf(&s, "%s%s%s : %s\n", r->attrs[0] ? " {" : "", r->attrs, r->attrs[0] ? "}" : "", r->result);
    }
    if (r->op == OP_ASSIGN)
        str_add(&s, "  assign %0, %1\n");
    if (!params)
        str_printf(&s, "  output %%%d \"out\"\n", *value);
    str_add(&s, "}\n");
    Graph *g = ir_parse(&f->a, &f->d, row_text(&f->a, r), s.s);
    if (!g)
        fail_msg("%s\n%s", s.s, fixture_said(f));
    return g;
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

static double special(uint32_t draw)
{
    static const double values[] = { NAN, INFINITY, -INFINITY, 0, -0.0, 0x1p-140, -0x1p-149, 1 };
    return values[draw % DT_COUNT(values)];
}

static double number(char kind, uint32_t operand, int64_t i, bool specials, int64_t classes)
{
    uint32_t draw = rng_u32(3, MATRIX_STREAM, operand, (uint64_t)i);
    double   u = floor((double)draw * 0x1p-32 * 2048) / 1024 - 1; /* [-1, 1), multiples of 2^-10 */
    switch (kind) {
    case 'p':
        return 1 + u / 2;
    case 's':
        return (double)(0.1f + 0.05f * (float)(i % 3));
    case 'l':
        return (double)(draw % (uint32_t)classes);
    case 'u':
        return (double)(draw % 100000);
    case 't':
        return (double)(draw % 4);
    case 'b':
        return (double)(draw % 256) - 128;
    case 'z':
        return (double)(draw % 4);
    case 'w':
        return draw % 3 == 0 ? special(draw / 3) : 2 * u;
    default: /* activations look at more than -2 to 2 */
        return specials && draw % 3 == 0 ? special(draw / 3) : kind == 'a' ? 8 * u : 2 * u;
    }
}

static double *operand(Arena *a, const Row *r, const Graph *g, int32_t i, bool specials)
{
    Type    t = ir_value(g, ir_find(g, arena_printf(a, "x%d", i)))->type;
    Shape   first = ir_value(g, ir_find(g, "x0"))->type.shape;
    char    kind = ref_table[r->op].data[i];
    int64_t n = shape_elems(t.shape), classes = first.rank == 2 ? first.dim[1] : 1;
    double  above = kind == 'b' && t.dtype == DTYPE_U8 ? 128 : 0, *x = ARENA_ARRAY(a, double, n);
    for (int64_t k = 0; k < n; k++)
        x[k] = above + number(kind, (uint32_t)i, k, specials, classes);
    return x;
}

/* ---- One row
 * --------------------------------------------------------------------------------------------------------- */

typedef struct RowRun {
    const Row *r;
    Graph     *g; /* as parsed */
    Ref        ref;
    int32_t    n;
    bool       specials;
} RowRun;

static RowRun row_begin(Fixture *f, const Row *r, bool specials)
{
    int32_t value;
    RowRun  run = { .r = r, .specials = specials };
    run.g = row_graph(f, r, false, &value);
    while (run.n < REF_MAX_INPUTS && ir_find(run.g, arena_printf(&f->a, "x%d", run.n)) != VALUE_NONE) {
        run.ref.in[run.n] = operand(&f->a, r, run.g, run.n, specials);
        run.ref.s[run.n] = ir_value(run.g, ir_find(run.g, arena_printf(&f->a, "x%d", run.n)))->type.shape;
        run.n++;
    }
    /* an effect or a leaf is its own op: take a value with as many inputs as the row has operands */
    Value *own = ARENA_NEW(&f->a, Value);
    *own = *ir_value(run.g, value);
    own->n_in = run.n;
    run.ref.g = run.g;
    run.ref.v = own;
    run.ref.out_s = own->type.shape;
    run.ref.out = ARENA_ARRAY(&f->a, double, shape_elems(run.ref.out_s));
    if (ref_table[r->op].point)
        ref_points(&run.ref, ref_table[r->op].point);
    else
        ref_table[r->op].whole(&run.ref);
    return run;
}

/* A row with layouts enters the pipeline behind the layout pass. */
static const double *row_forward(Fixture *f, const RowRun *run, CheckBackend *b, const char *disable)
{
    CheckSetup setup = { .step = STEP_EVAL, .disable = disable };
    if (run->r->op == OP_RELAYOUT)
        setup = (CheckSetup){ .step = STEP_EVAL, .passes = "schedule,plan-memory,lower" };
    CheckNet net;
    if (!check_net_open(&net, b, ir_graph_clone(&f->a, run->g), &setup))
        fail_msg("%s: %s", row_text(&f->a, run->r), fixture_said(f));
    for (int32_t i = 0; i < run->n; i++)
        check_net_write(&net, arena_printf(&f->a, "x%d", i), run->ref.in[i]);
    check_net_run(&net);
    const double *out = check_net_read(&f->a, &net, run->r->op == OP_ASSIGN ? "x0" : "out");
    check_net_close(&net);
    return out;
}

#define ALONE "canonicalize,simplify,fuse,batch"

static void compare_doubles(Fixture *f, const RowRun *run, const double *found, const char *how)
{
    for (int64_t i = 0; i < shape_elems(run->ref.out_s); i++) {
        double expected = (double)(float)run->ref.out[i];
        bool   same = expected == found[i] || (isnan(expected) && isnan(found[i]));
        double tol = ref_table[run->r->op].tol * fmax(1, fabs(expected));
        if (!same && !(isfinite(expected) && fabs(found[i] - run->ref.out[i]) <= tol))
            fail_msg("%s, %s: element %lld is %.9g, expected %.9g", row_text(&f->a, run->r), how, (long long)i,
                     found[i], run->ref.out[i]);
    }
}

static void compare_backends(Fixture *f, const RowRun *run, const double *interp, const double *cpu, const char *by)
{
    bool   library = ir_ops[run->r->op].traits & T_LIBRARY;
    double tol = library ? 1e-5 : 0;
    for (int64_t i = 0; i < shape_elems(run->ref.out_s); i++) {
        bool same = interp[i] == cpu[i] ? signbit(interp[i]) == signbit(cpu[i]) : isnan(interp[i]) && isnan(cpu[i]);
        if (!same && !(fabs(interp[i] - cpu[i]) <= tol * fmax(1, fabs(interp[i]))))
            fail_msg("%s: element %lld is %.9g by %s, %.9g by the interpreter", row_text(&f->a, run->r), (long long)i,
                     cpu[i], by, interp[i]);
    }
}

static void open_backend(Fixture *f, CheckBackend *b, bool cpu)
{
    if (!check_backend_open(b, &f->a, &f->d, cpu, 2, 0))
        fail_msg("%s", fixture_said(f));
}

static void run_rows(Fixture *f, bool specials)
{
    CheckBackend interp, cpu, sim;
    open_backend(f, &interp, false);
    open_backend(f, &cpu, true);
    if (!check_backend_open_sim(&sim, &f->a, &f->d))
        fail_msg("%s", fixture_said(f));
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        if (specials && !(ir_ops[rows[i].op].traits & T_ELTWISE))
            continue;
        RowRun        run = row_begin(f, &rows[i], specials);
        const double *alone = row_forward(f, &run, &interp, ALONE);
        const double *fused = row_forward(f, &run, &interp, NULL);
        compare_doubles(f, &run, alone, "alone");
        compare_doubles(f, &run, fused, "fused");
        if (rows[i].cpu)
            compare_backends(f, &run, fused, row_forward(f, &run, &cpu, NULL), "machine code");
        compare_backends(f, &run, fused, row_forward(f, &run, &sim, NULL), "the CUDA text");
    }
    check_backend_close(&sim);
    check_backend_close(&cpu);
    check_backend_close(&interp);
}

static void test_forward(void **state)
{
    run_rows(*state, false);
}
static void test_special_numbers(void **state)
{
    run_rows(*state, true);
}

/* ---- Coverage and gradients
 * ------------------------------------------------------------------------------------------ */

static void test_no_holes(void **state)
{
    (void)state;
    for (int32_t op = 0; op < OP_COUNT; op++) {
        int32_t n = 0, gradients = 0;
        for (int32_t i = 0; i < DT_COUNT(rows); i++) {
            n += rows[i].op == (OpCode)op;
            gradients += rows[i].op == (OpCode)op && rows[i].gradient;
        }
        if (n == 0 || (!ref_table[op].point && !ref_table[op].whole))
            fail_msg("%s has no row in tests/ops/matrix.def, or no reference in matrix_refs.h", ir_ops[op].text);
        if (ir_ops[op].grad && gradients == 0)
            fail_msg("%s has a gradient, but no row of tests/ops/matrix.def checks it", ir_ops[op].text);
    }
}

static void check_row_gradient(Fixture *f, CheckBackend *b, const char *what, const Graph *g)
{
    GradResult result;
    if (!check_gradients(b, g, &result))
        fail_msg("%s: %s", what, fixture_said(f));
    if (!result.ok)
        fail_msg("%s: gradient %s", what, result.where);
    assert_true(result.compared > 0);
}

static void test_gradients(void **state)
{
    Fixture     *f = *state;
    CheckBackend b;
    open_backend(f, &b, false);
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        int32_t value;
        if (!ir_ops[rows[i].op].grad || !rows[i].gradient)
            continue;
        Graph  *g = row_graph(f, &rows[i], true, &value);
        Builder builder = { .g = g, .d = &f->d, .by = "test", .like = VALUE_NONE };
        check_case_close(&builder, value);
        check_row_gradient(f, &b, row_text(&f->a, &rows[i]), g);
    }
    check_backend_close(&b);
}

/* Mean and variance of the batch depend on x: their gradient is part of batchnorm's. */
static void test_batchnorm_of_the_batch(void **state)
{
    static const char *const shapes[][2] = { { "f32[3x4x3x3]", "f32[4]" },
                                             { "f32[8x5]", "f32[5]" },
                                             { "f32[2x1x5x5]", "f32[1]" } };
    Fixture                 *f = *state;
    CheckBackend             b;
    open_backend(f, &b, false);
    for (int32_t i = 0; i < DT_COUNT(shapes); i++) {
        const char *x = shapes[i][0], *c = shapes[i][1];
        const char *text =
            arena_printf(&f->a,
                         "graph @net {\n  %%0 = param \"x\" : %s\n  %%1 = state \"m\" : %s\n  %%2 = param \"g\" : %s\n"
                         "  %%3 = param \"b\" : %s\n  %%4 = bn_mean %%0, %%1 : %s\n  %%5 = bn_var %%0, %%1 : %s\n"
                         "  %%6 = batchnorm %%0, %%4, %%5, %%2, %%3 : %s\n}\n",
                         x, c, c, c, c, c, x);
        Graph *g = check_case_of(&f->a, &f->d, fixture_graph(f, text), 6);
        check_row_gradient(f, &b, text, g);
    }
    check_backend_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_no_holes),
        fixture_test(test_forward),
        fixture_test(test_special_numbers),
        fixture_test(test_gradients),
        fixture_test(test_batchnorm_of_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
