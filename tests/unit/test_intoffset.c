/* test_intoffset.c: integer products whose input has a zero point or an offset, borders included, and transposed
 * convolutions: within roundings what sums of the float values in double give, and the same bits by the interpreter and
 * plain loops as by machine code and the kernels of each instruction set. */
#include "runtime/integer/integer.h"
#include "tests/unit/pass_fixture.h"

#include <math.h>

#include "codegen/codegen.h"
#include "runtime/runtime.h"

/* ---- Cases ------------------------------------------------------------------------------------------------------- */

typedef enum Form { PLAIN, ZERO, OFFSET } Form;

typedef struct Case {
    const char *op, *x, *w, *y, *attrs;
    int64_t     lo, hi; /* of x; the weight has -8 to 7 */
    Form        form;
    int32_t     products, each; /* how many convolutions of codes there are; > 0: weights have so many steps */
} Case;

/* clang-format off */
static const Case cases[] = {
    { "conv2d", "2x4x7x6", "6x4x3x3", "2x6x7x6", "pad=[1,1,1,1]", 0, 15, ZERO, 1, 0 },
    { "conv2d", "2x4x7x6", "6x4x3x3", "2x6x7x6", "pad=[1,1,1,1]", -8, 7, ZERO, 1, 6 },
    { "conv2d", "2x3x7x6", "5x3x3x3", "2x5x4x3", "stride=2, pad=[0,1,2,1]", 0, 255, ZERO, 2, 5 },
    { "conv2d", "1x4x5x5", "6x4x5x5", "1x6x5x5", "pad=[2,2,2,2]", -128, 127, ZERO, 2, 0 },
    { "conv2d", "2x4x7x6", "6x4x3x3", "2x6x5x4", "stride=1", 0, 255, ZERO, 2, 0 },
    { "conv2d", "2x4x7x6", "6x4x1x1", "2x6x7x6", "stride=1", 0, 15, OFFSET, 2, 0 },
    { "conv2d", "2x4x7x6", "6x4x3x3", "2x6x4x3", "stride=2, pad=[1,1,1,1]", 0, 15, OFFSET, 2, 6 },
    { "conv2d", "2x4x7x6", "6x2x3x3", "2x6x7x6", "groups=2, pad=[1,1,1,1]", 0, 255, OFFSET, 2, 0 },
    { "conv2d", "1x2x2x2", "3x2x3x3", "1x3x4x4", "pad=[2,2,2,2]", -2, 1, OFFSET, 2, 0 },
    { "linear", "3x17", "5x17", "3x5", "", 0, 15, ZERO, 1, 0 },
    { "linear", "3x17", "5x17", "3x5", "", 0, 255, ZERO, 2, 5 },
    { "linear", "3x17", "5x17", "3x5", "", 0, 15, OFFSET, 2, 0 },
    { "conv_transpose2d", "2x4x3x5", "4x6x2x2", "2x6x6x10", "stride=2", 0, 15, PLAIN, 1, 0 },
    { "conv_transpose2d", "2x4x3x5", "4x6x2x2", "2x6x6x10", "stride=2", 0, 15, ZERO, 1, 6 },
    { "conv_transpose2d", "1x17x2x3", "17x16x2x2", "1x16x4x6", "stride=2", -8, 7, PLAIN, 1, 16 },
    { "conv_transpose2d", "2x5x2x1", "5x3x3x3", "2x3x6x3", "stride=3", -128, 127, PLAIN, 1, 0 },
};
/* clang-format on */
static const float STEP = 0.11f, SHIFT = -0.37f;

/* y, and what it is made of. */
static const char *case_text(Arena *a, const Case *c)
{
    Str s = str_new(a);
    str_printf(&s, "graph @t.eval {\n  %%0 = input \"x\" : f32[%s]\n  %%1 = param \"w\" : f32[%s]\n", c->x, c->w);
    str_printf(&s, "  %%2 = param \"sx\" : f32[]\n  %%3 = param \"offset\" : f32[]\n  %%4 = param \"sw\" : f32[");
    str_printf(&s, c->each > 0 ? "%d]\n" : "]\n", c->each);
    const char *grid = arena_printf(a, "{lo=%lld, hi=%lld, bits=8, role=\"act\"} : f32[%s]\n", (long long)c->lo,
                                    (long long)c->hi, c->x);
    if (c->form == ZERO)
        str_printf(&s, "  %%5 = zero_point %%3, %%2 {lo=%lld, hi=%lld} : f32[]\n  %%8 = qdq %%0, %%2, %%5 %s",
                   (long long)c->lo, (long long)c->hi, grid);
    else if (c->form == OFFSET)
        str_printf(&s, "  %%6 = sub %%0, %%3 : f32[%s]\n  %%7 = qdq %%6, %%2 %s  %%8 = add %%7, %%3 : f32[%s]\n", c->x,
                   grid, c->x);
    else
        str_printf(&s, "  %%8 = qdq %%0, %%2 %s", grid);
    str_printf(&s, "  %%9 = qdq %%1, %%4 {lo=-8, hi=7, bits=4, axis=%d} : f32[%s]\n",
               strcmp(c->op, "conv_transpose2d") == 0, c->w);
    str_printf(&s, "  %%10 = %s %%8, %%9 %s%s%s : f32[%s]\n", c->op, c->attrs[0] ? "{" : "", c->attrs,
               c->attrs[0] ? "}" : "", c->y);
    str_printf(&s, "  output %%8 \"xq\"\n  output %%9 \"wq\"\n  output %%10 \"y\"\n}\n");
    return s.s;
}

/* ---- Running ----------------------------------------------------------------------------------------------------- */

typedef struct Result {
    float  *xq, *wq, *y;
    int64_t n_x, n_w, n_y;
} Result;

static void fill(Exec *e, int32_t index, const ProgTensor *t, Arena *a)
{
    float *x = ARENA_ARRAY(a, float, t->elems);
    for (int64_t i = 0; i < t->elems; i++) {
        float u = 2 * rng_uniform(3, hash_u32(t->name), 0, (uint64_t)i) - 1;
        x[i] = str_eq(t->name, "sx")       ? STEP
               : str_eq(t->name, "sw")     ? 0.05f + 0.02f * u
               : str_eq(t->name, "offset") ? SHIFT
               : str_eq(t->name, "w")      ? 0.5f * u
                                           : 1.5f * u;
    }
    tensor_write(e, index, t, x);
}

static float *read_back(Exec *e, int32_t index, const Program *p, const char *name, Arena *a, int64_t *n)
{
    const ProgTensor *t = program_tensor(p, name);
    float            *x = ARENA_ARRAY(a, float, t->elems);
    assert_true(tensor_read(e, index, t, x));
    *n = t->elems;
    return x;
}

static Result run_case(Fixture *f, const Case *c, KernelJit *jit, CallLib *lib)
{
    Graph *g = fixture_graph(f, case_text(&f->a, c));
    f->ctx.int8_forward = f->target.int8_unsigned = f->target.int8_groups = true;
    if (!fixture_run(f, g, "--verify=all --verify-changed --verify-roundtrip"))
        fail_msg("%s", fixture_said(f));
    assert_int_equal(fixture_count(g, OP_CONV2D_INT) + fixture_count(g, OP_LINEAR_INT), c->products);
    Program *p = codegen_program(&f->a, &f->d, g, jit, lib);
    if (!p)
        fail_msg("%s", fixture_said(f));
    Exec   *e = exec_new(&f->a, &f->d, lib, (ExecOptions){ .threads = 2 });
    int32_t index = exec_add(e, p);
    Result  r;
    for (int32_t i = 0; i < p->n_tensors; i++)
        if (p->tensors[i].kind != TENSOR_OUTPUT)
            fill(e, index, &p->tensors[i], &f->a);
    assert_true(exec_run(e, index));
    r.xq = read_back(e, index, p, "xq", &f->a, &r.n_x);
    r.wq = read_back(e, index, p, "wq", &f->a, &r.n_w);
    r.y = read_back(e, index, p, "y", &f->a, &r.n_y);
    exec_free(e);
    return r;
}

/* ---- What it should be ------------------------------------------------------------------------------------------- */

typedef struct Sum {
    double value, size;
} Sum;

static Sum add_term(Sum s, float x, float w)
{
    s.value += (double)x * (double)w;
    s.size += (fabs((double)x) + 2 * fabs((double)SHIFT)) * fabs((double)w);
    return s;
}

/* Element i of y, as the op says it, of the quantized values. */
static Sum expected(const Graph *g, ValueId id, const Result *r, int64_t i)
{
    const Value *v = ir_value(g, id);
    Shape        x = ir_value(g, v->in[0])->type.shape, w = ir_value(g, v->in[1])->type.shape, y = v->type.shape;
    Sum          s = { 0, 0 };
    if (v->op == OP_LINEAR) {
        for (int64_t c = 0; c < x.dim[1]; c++)
            s = add_term(s, r->xq[i / y.dim[1] * x.dim[1] + c], r->wq[i % y.dim[1] * x.dim[1] + c]);
        return s;
    }
    int64_t ow = i % y.dim[3], oh = i / y.dim[3] % y.dim[2], k = i / y.dim[3] / y.dim[2] % y.dim[1];
    int64_t n = i / y.dim[3] / y.dim[2] / y.dim[1], stride = ir_int(v, A_STRIDE), window = w.dim[2];
    bool    transposed = v->op == OP_CONV_TRANSPOSE2D;
    int64_t cg = transposed ? x.dim[1] : w.dim[1], kg = transposed ? y.dim[1] : w.dim[0] / ir_int(v, A_GROUPS);
    for (int64_t t = 0; t < cg * window * window; t++) {
        int64_t at_s = t % window, at_r = t / window % window, c = t / window / window;
        int64_t h = oh * stride + at_r - ir_pads(v, A_PAD)[0], q = ow * stride + at_s - ir_pads(v, A_PAD)[1];
        if (transposed) { /* the pixel whose window has this one at the tap, if there is one */
            h = oh - at_r, q = ow - at_s;
            if (h % stride || q % stride)
                continue;
            h /= stride, q /= stride;
        }
        if (h < 0 || h >= x.dim[2] || q < 0 || q >= x.dim[3])
            continue;
        int64_t from = ((n * x.dim[1] + k / kg * cg + c) * x.dim[2] + h) * x.dim[3] + q;
        int64_t weight = ((transposed ? c * y.dim[1] + k : k * cg + c) * window + at_r) * window + at_s;
        s = add_term(s, r->xq[from], r->wq[weight]);
    }
    return s;
}

/* A rounding of each operand, of the scale, the two sums, the two products and what they are added to. */
static void check_values(Fixture *f, const Case *c, const Result *r)
{
    Graph  *g = fixture_graph(f, case_text(&f->a, c));
    ValueId id = VALUE_NONE;
    for (int32_t i = 0; i < g->order.len; i++)
        if (str_eq(ir_ops[ir_value(g, g->order.at[i])->op].text, c->op))
            id = g->order.at[i];
    for (int64_t i = 0; i < r->n_y; i++) {
        Sum s = expected(g, id, r, i);
        if (!(fabs((double)r->y[i] - s.value) <= 10 * 0x1p-24 * s.size))
            fail_msg("case %d, %s %s: y[%lld] is %.9g, expected %.9g", (int)(c - cases), c->op, c->attrs, (long long)i,
                     (double)r->y[i], s.value);
    }
}

static void assert_same(const Case *c, const Result *a, const Result *b, const char *how)
{
    if (a->n_y != b->n_y || memcmp(a->y, b->y, sizeof(float) * (size_t)a->n_y) != 0)
        fail_msg("case %d, %s %s: other bits by %s", (int)(c - cases), c->op, c->attrs, how);
}

static void test_values(void **state)
{
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        Fixture   *f = *state;
        KernelJit *interp = jit_interp_new(&f->a);
        Result     r = run_case(f, &cases[i], interp, calllib_reference(&f->a));
        check_values(f, &cases[i], &r);
        jit_free(interp);
#ifdef DT_HAVE_LLVM
        KernelJit *code = jit_llvm_new(&f->a, &f->d, (JitOptions){ 0 });
        assert_non_null(code);
        for (Isa isa = ISA_PORTABLE; isa < ISA_COUNT; isa++)
            if (isa_is_here(isa)) {
                CallLib *lib = calllib_integer(&f->a, calllib_reference(&f->a), 2, isa);
                Result   x = run_case(f, &cases[i], code, lib);
                assert_same(&cases[i], &r, &x, isa_name(isa));
            }
        jit_free(code);
#endif
    }
}

/* ---- Which transposed convolutions ------------------------------------------------------------------------------- */

static void test_transposed_rules(void **state)
{
    static const struct {
        const char *w, *y, *attrs, *why;
        int64_t     hi;
        Form        form;
    } rules[] = {
        { "4x6x3x3", "2x6x7x11", "stride=2", "its windows overlap, or its result is cut", 15, PLAIN },
        { "4x6x2x2", "2x6x5x10", "stride=2, pad=[1,0,0,0]", "its windows overlap, or its result is cut", 15, PLAIN },
        { "4x6x2x2", "2x6x6x10", "stride=2", "it is transposed, and its input has an offset", 255, ZERO },
        { "4x6x2x2", "2x6x6x10", "stride=2", "it is transposed, and its input has an offset", 15, OFFSET },
    };
    for (int32_t i = 0; i < DT_COUNT(rules); i++) {
        Fixture   *f = *state;
        const Case c = { "conv_transpose2d", "2x4x3x5",     rules[i].w, rules[i].y, rules[i].attrs, 0,
                         rules[i].hi,        rules[i].form, 0,          0 };
        Graph     *g = fixture_graph(f, case_text(&f->a, &c));
        Str        lines = str_new(&f->a);
        f->ctx.explain = &lines;
        f->ctx.int8_forward = f->target.int8_unsigned = true;
        assert_true(fixture_run(f, g, "--passes=integer-forward --verify=all"));
        f->ctx.explain = NULL;
        assert_has(lines.s, rules[i].why);
        assert_int_equal(fixture_count(g, OP_CONV_TRANSPOSE2D), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { fixture_test(test_values), fixture_test(test_transposed_rules) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
