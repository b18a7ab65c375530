/* test_intforward.c: forward products of integer codes. The codes are those of qdq; the sums are exact, as plain loops
 * of 64 bits written a second way have them; the pass takes the products that it may take and says why not the others;
 * in whole networks every product is, to the bit, what its codes give, and within roundings what the float values give.
 */
#include "tests/unit/net_fixture.h"
#include "tests/unit/pass_fixture.h"

#include <math.h>

/* ---- Codes ------------------------------------------------------------------------------------------------------- */

/* Inputs x and step, outputs y = qdq and c = quantize. */
static const char *codes_text(Arena *a, int64_t n, int64_t lo, int64_t hi, int64_t bits)
{
    return arena_printf(a,
                        "graph @t.eval {\n  %%0 = input \"x\" : f32[1x%lld]\n  %%1 = input \"step\" : f32[]\n"
                        "  %%2 = qdq %%0, %%1 {lo=%lld, hi=%lld, bits=%lld} : f32[1x%lld]\n"
                        "  %%3 = quantize %%0, %%1 {lo=%lld, hi=%lld} : %s[1x%lld]\n"
                        "  output %%2 \"y\"\n  output %%3 \"c\"\n}\n",
                        (long long)n, (long long)lo, (long long)hi, (long long)bits, (long long)n, (long long)lo,
                        (long long)hi, hi > 127 ? "u8" : "s8", (long long)n);
}

/* Every tie and the floats beside it, what lies outside, and what is no number. */
static int64_t edge_values(float *x, float step, int64_t lo, int64_t hi)
{
    static const float odd[] = { NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 0x1p-149f, -0x1p-149f, 3e38f, -3e38f };
    int64_t            n = 0;
    for (int64_t half = 2 * lo - 3; half <= 2 * hi + 3; half++) {
        float at = (float)half / 2 * step;
        x[n++] = at;
        x[n++] = nextafterf(at, INFINITY);
        x[n++] = nextafterf(at, -INFINITY);
    }
    for (int32_t i = 0; i < DT_COUNT(odd); i++)
        x[n++] = odd[i];
    return n;
}

static void check_codes(KernelJit *jit, float step, int64_t lo, int64_t hi, int64_t bits)
{
    enum { MOST = 3 * (2 * 256 + 8) + 16 };
    Fixture *f = NULL;
    float    x[MOST], y[MOST];
    uint8_t  c[MOST];
    int64_t  n = edge_values(x, step, lo, hi);
    assert_int_equal(fixture_setup((void **)&f), 0);
    Graph *g = fixture_graph(f, codes_text(&f->a, n, lo, hi, bits));
    if (!fixture_run(f, g, "--verify=all --verify-roundtrip"))
        fail_msg("%s", fixture_said(f));
    Program *p = codegen_program(&f->a, &f->d, g, jit, calllib_reference(&f->a));
    Exec    *e = exec_new(&f->a, &f->d, calllib_reference(&f->a), (ExecOptions){ .threads = 1 });
    int32_t  index = exec_add(e, p);
    tensor_write(e, index, program_tensor(p, "x"), x);
    tensor_write(e, index, program_tensor(p, "step"), &step);
    exec_run(e, index);
    tensor_read(e, index, program_tensor(p, "y"), y);
    tensor_read(e, index, program_tensor(p, "c"), c);
    for (int64_t i = 0; i < n; i++) {
        int32_t code = hi > 127 ? c[i] : (int8_t)c[i];
        if (code < lo || code > hi || (float)code * step != y[i] || (isnan(x[i]) && code != 0))
            fail_msg("%lld..%lld: %.9g has code %d, but qdq gives %.9g with step %g", (long long)lo, (long long)hi,
                     (double)x[i], code, (double)y[i], (double)step);
    }
    exec_free(e);
    fixture_teardown((void **)&f);
}

static void check_all_codes(KernelJit *jit)
{
    static const float steps[] = { 1, 0.1f, 0x1.8p-9f, 3.7f, 1e-8f };
    for (int64_t bits = 2; bits <= 8; bits++)
        for (int32_t s = 0; s < DT_COUNT(steps); s++) {
            int64_t half = (int64_t)1 << (bits - 1);
            check_codes(jit, steps[s], -half, half - 1, bits);
            check_codes(jit, steps[s], 0, 2 * half - 1, bits);
        }
}

static void test_codes_are_those_of_qdq(void **state)
{
    (void)state;
    Arena      a = arena_new("jit");
    KernelJit *jit = jit_interp_new(&a);
    check_all_codes(jit);
    jit_free(jit);
    arena_free(&a);
}

static void test_codes_by_machine_code(void **state)
{
    (void)state;
#ifdef DT_HAVE_LLVM
    Arena      a = arena_new("jit");
    Diag       d = diag_new(stderr);
    KernelJit *jit = jit_llvm_new(&a, &d, (JitOptions){ 0 });
    assert_non_null(jit);
    check_codes(jit, 0.1f, -8, 7, 4);
    check_codes(jit, 0.1f, -128, 127, 8);
    check_codes(jit, 3.7f, 0, 255, 8);
    jit_free(jit);
    diag_free(&d);
    arena_free(&a);
#else
    skip();
#endif
}

/* ---- Sums -------------------------------------------------------------------------------------------------------- */

/* clang-format off */
static const CallDesc sum_shapes[] = {
    /* c = 3: an odd number of channels; the second has as many terms as fit: 128 128 131071 is just below 2^31 */
    { .n = 2, .c = 3, .h = 7, .w = 6, .k = 5, .r = 3, .s = 3, .stride = 1, .groups = 1, .pad = { 1, 1, 1, 1 } },
    { .n = 1, .c = 131071, .h = 1, .w = 1, .k = 2, .r = 1, .s = 1, .stride = 1, .groups = 1 },
    { .n = 2, .c = 17, .h = 9, .w = 9, .k = 10, .r = 3, .s = 3, .stride = 2, .groups = 1, .pad = { 0, 1, 2, 1 } },
    { .n = 1, .c = 6, .h = 8, .w = 8, .k = 9, .r = 5, .s = 5, .stride = 3, .groups = 3, .pad = { 2, 2, 2, 2 } },
    { .n = 2, .c = 8, .h = 6, .w = 6, .k = 8, .r = 3, .s = 3, .stride = 1, .groups = 8, .pad = { 1, 1, 1, 1 } },
    { .n = 3, .c = 33, .h = 1, .w = 1, .k = 7, .r = 1, .s = 1, .stride = 1, .groups = 1 },
};
/* clang-format on */

enum { FILL_RANDOM, FILL_LEAST, FILL_OPPOSITE, FILLS };

static int32_t fill_code(int32_t how, int32_t bits, bool is_unsigned, uint32_t stream, int64_t i)
{
    int32_t least = is_unsigned ? 0 : -(1 << (bits - 1)), most = least + (1 << bits) - 1;
    if (how == FILL_RANDOM)
        return least + (int32_t)(rng_u32(5, stream, (uint32_t)bits, (uint64_t)i) % (1u << bits));
    bool low = how == FILL_LEAST ? !is_unsigned : stream == 1 && !is_unsigned;
    return low ? least : most;
}

static int64_t weight_at(const CallDesc *d, int64_t k, int64_t c, int64_t r, int64_t s)
{
    int64_t cg = d->c / d->groups;
    return d->krsc ? ((k * d->r + r) * d->s + s) * cg + c : ((k * cg + c) * d->r + r) * d->s + s;
}

/* The other way round: each pixel of the image goes to the windows that cover it. */
static void scatter_sums(const CallDesc *d, const int32_t *x, const int32_t *w, int64_t *y)
{
    int64_t cg = d->c / d->groups, kg = d->k / d->groups;
    for (int64_t i = 0; i < d->n * d->h * d->w * d->c; i++)
        for (int64_t t = 0; t < d->r * d->s; t++) {
            int64_t c = i % d->c, pw = i / d->c % d->w, ph = i / d->c / d->w % d->h, n = i / d->c / d->w / d->h;
            int64_t r = t / d->s, s = t % d->s, top = ph + d->pad[0] - r, left = pw + d->pad[1] - s;
            int64_t oh = top / d->stride, ow = left / d->stride;
            bool    covered =
                top >= 0 && left >= 0 && oh * d->stride == top && ow * d->stride == left && oh < d->oh && ow < d->ow;
            for (int64_t k = c / cg * kg; covered && k < (c / cg + 1) * kg; k++)
                y[((n * d->oh + oh) * d->ow + ow) * d->k + k] += (int64_t)x[i] * w[weight_at(d, k, c % cg, r, s)];
        }
}

static void check_sums(CallDesc d, int32_t x_bits, bool x_unsigned, int32_t w_bits, int32_t how)
{
    Arena a = arena_new("sums");
    d.kind = CALL_CONV_FWD_INT;
    d.oh = (d.h + d.pad[0] + d.pad[2] - d.r) / d.stride + 1;
    d.ow = (d.w + d.pad[1] + d.pad[3] - d.s) / d.stride + 1;
    d.x_type = x_unsigned ? DTYPE_U8 : DTYPE_S8;
    d.w_type = DTYPE_S8;
    int64_t  n_x = d.n * d.h * d.w * d.c, n_w = d.k * (d.c / d.groups) * d.r * d.s, n_y = d.n * d.oh * d.ow * d.k;
    int32_t *x = ARENA_ARRAY(&a, int32_t, n_x), *w = ARENA_ARRAY(&a, int32_t, n_w);
    uint8_t *xb = ARENA_ARRAY(&a, uint8_t, n_x), *wb = ARENA_ARRAY(&a, uint8_t, n_w);
    int64_t *want = ARENA_ARRAY(&a, int64_t, n_y);
    float   *y = ARENA_ARRAY(&a, float, n_y), *scale = ARENA_ARRAY(&a, float, d.k);
    for (int64_t i = 0; i < n_x; i++)
        xb[i] = (uint8_t)(x[i] = fill_code(how, x_bits, x_unsigned, 0, i));
    for (int64_t i = 0; i < n_w; i++)
        wb[i] = (uint8_t)(w[i] = fill_code(how, w_bits, false, 1, i));
    for (int64_t k = 0; k < d.k; k++)
        scale[k] = 0.013f * (float)(k + 1);
    reference_call(&d, (void *const[]){ xb, wb, scale, y }, NULL);
    scatter_sums(&d, x, w, want);
    for (int64_t i = 0; i < n_y; i++)
        if (y[i] != (float)want[i] * scale[d.scale_per_k ? i % d.k : 0])
            fail_msg("%d%s x %d bits, fill %d: element %lld is %.9g, the sum is %lld", x_bits, x_unsigned ? "u" : "s",
                     w_bits, how, (long long)i, (double)y[i], (long long)want[i]);
    arena_free(&a);
}

static void test_sums_are_exact(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(sum_shapes); i++)
        for (int32_t bits = 2; bits <= 8; bits++)
            for (int32_t how = 0; how < FILLS; how++) {
                CallDesc d = sum_shapes[i];
                bool     long_sum = d.c > 1000; /* of two unsigned bytes it would not fit */
                d.krsc = bits % 2;
                d.scale_per_k = bits % 3 == 0;
                check_sums(d, bits, false, bits, how);
                check_sums(d, bits, !long_sum, 10 - bits, how);
                d.krsc = !d.krsc;
                check_sums(d, 8, false, bits, how);
                check_sums(d, bits, bits < 8 || !long_sum, 8, how);
            }
}

/* ---- Which products ---------------------------------------------------------------------------------------------- */

/* A convolution of qdq operands; `x`, `w`: attributes of the quantizers, `conv`: of the convolution. */
typedef struct RuleCase {
    const char *x, *w, *x_step, *w_type, *conv;
    const char *why;  /* NULL: it becomes one of integers */
    bool        able; /* the target knows u8 and groups */
} RuleCase;

#define ACT_(hi) "lo=0, hi=" #hi ", bits=8, role=\"act\""
#define SIGNED_(lo, hi) "lo=" #lo ", hi=" #hi ", bits=8"
/* clang-format off */
static const RuleCase rule_cases[] = {
    { ACT_(15), SIGNED_(-8, 7), "f32[]", "f32[6x4x3x3]", "", NULL, false },
    { ACT_(127), SIGNED_(-128, 127), "f32[]", "f32[6x4x3x3]", "stride=2, pad=[1,0,1,2]", NULL, false },
    { SIGNED_(-128, 127), SIGNED_(-2, 1), "f32[]", "f32[6x4x3x3]", "", NULL, false },
    { ACT_(255), SIGNED_(-8, 7), "f32[]", "f32[6x4x3x3]", "", "its input has codes above 127, and the target multiplies signed bytes alone", false },
    { ACT_(255), SIGNED_(-8, 7), "f32[]", "f32[6x4x3x3]", "", NULL, true },
    { ACT_(15), SIGNED_(-8, 7), "f32[]", "f32[6x2x3x3]", "groups=2", "it has groups, and the target has no integer products of groups", false },
    { ACT_(15), SIGNED_(-8, 7), "f32[]", "f32[6x2x3x3]", "groups=2", NULL, true },
    { ACT_(15), ACT_(255), "f32[]", "f32[6x4x3x3]", "", "its weight has codes above 127, and weights are signed bytes", true },
    { ACT_(256), SIGNED_(-8, 7), "f32[]", "f32[6x4x3x3]", "", "its input has codes that are no bytes", true },
    { SIGNED_(-1, 128), SIGNED_(-8, 7), "f32[]", "f32[6x4x3x3]", "", "its input has codes that are no bytes", true },
    { ACT_(15), SIGNED_(-129, 7), "f32[]", "f32[6x4x3x3]", "", "its weight has codes that are no bytes", true },
    { ACT_(15), SIGNED_(-8, 7), "f32[4]", "f32[6x4x3x3]", "", "its input has more than one step size", true },
    { "", SIGNED_(-8, 7), "f32[]", "f32[6x4x3x3]", "", "its input is not quantized", true },
    { ACT_(15), "", "f32[]", "f32[6x4x3x3]", "", "its weight is not quantized", true },
};
/* clang-format on */

/* "" as attributes of a quantizer: a relu instead. */
static void rule_quantizer(Str *s, int id, int x, int step, const char *attrs, const char *type)
{
    if (attrs[0])
        str_printf(s, "  %%%d = qdq %%%d, %%%d {%s} : %s\n", id, x, step, attrs, type);
    else
        str_printf(s, "  %%%d = relu %%%d : %s\n", id, x, type);
}

/* The graph behind the pass; what it explains is in f->ctx.explain. */
static Graph *rule_graph(Fixture *f, const RuleCase *c, const char *tail)
{
    Str s = str_new(&f->a);
    str_printf(&s, "graph @t.eval {\n  %%0 = input \"x\" : f32[2x4x8x8]\n  %%1 = param \"w\" : %s\n", c->w_type);
    str_printf(&s, "  %%2 = param \"sx\" : %s\n  %%3 = param \"sw\" : f32[]\n", c->x_step);
    rule_quantizer(&s, 4, 0, 2, c->x, "f32[2x4x8x8]");
    rule_quantizer(&s, 5, 1, 3, c->w, c->w_type);
    str_printf(&s, "  %%6 = conv2d %%4, %%5 {%s}", c->conv[0] ? c->conv : "stride=1");
    str_printf(&s, " : f32[2x6x%s]\n  output %%6 \"y\"\n%s}\n", strstr(c->conv, "stride=2") ? "4x4" : "6x6", tail);
    Graph *g = fixture_graph(f, s.s);
    f->ctx.explain = ARENA_NEW(&f->a, Str);
    *f->ctx.explain = str_new(&f->a);
    f->ctx.int8_forward = true;
    f->target.int8_unsigned = f->target.int8_groups = c->able;
    if (!fixture_run(f, g, "--passes=integer-forward --verify=all --verify-changed --verify-roundtrip"))
        fail_msg("%s", fixture_said(f));
    return g;
}

static void test_which_products(void **state)
{
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(rule_cases); i++) {
        const RuleCase *c = &rule_cases[i];
        Graph          *g = rule_graph(f, c, "");
        assert_int_equal(fixture_count(g, OP_CONV2D_INT), c->why == NULL);
        assert_int_equal(fixture_count(g, OP_QUANTIZE), c->why ? 0 : 2);
        assert_int_equal(fixture_count(g, OP_CONV2D), c->why != NULL);
        assert_has(f->ctx.explain->s, c->why ? c->why : "conv2d: is made of integer codes");
        assert_int_equal(fixture_count(g, OP_QDQ), c->why ? (c->x[0] != 0) + (c->w[0] != 0) : 0);
    }
}

/* Operands of other forms: how they are made of x, %0 (%8), and of the weight, %1 (%9). With an offset there are two
 * products. */
static const struct {
    const char *x, *w, *why;
    int32_t     products;
} form_cases[] = {
    { "  %8 = qdq %0, %2 {" ACT_(15) "} : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %4 {lo=-8, hi=7, axis=0, bits=4} : f32[6x4x3x3]\n", NULL, 1 },
    { "  %8 = qdq %0, %10 {axis=0, " ACT_(15) "} : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %3 {lo=-8, hi=7, axis=0, bits=4} : f32[6x4x3x3]\n", "its input has more than one step size", 0 },
    { "  %8 = qdq %0, %2 {" ACT_(15) "} : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %10 {lo=-8, hi=7, axis=2, bits=4} : f32[6x4x3x3]\n", "its weight has more than one step size",
      0 },
    { "  %11 = zero_point %5, %2 {lo=0, hi=15} : f32[]\n  %8 = qdq %0, %2, %11 {" ACT_(15) "} : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %3 {lo=-8, hi=7, bits=4} : f32[6x4x3x3]\n", NULL, 1 },
    { "  %11 = range_zero %5, %2 {lo=0, hi=255} : f32[]\n  %8 = qdq %0, %2, %11 {" ACT_(255) "} : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %3 {lo=-8, hi=7, bits=4} : f32[6x4x3x3]\n", NULL, 2 },
    { "  %8 = qdq %0, %2, %5 {" ACT_(15) "} : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %3 {lo=-8, hi=7, bits=4} : f32[6x4x3x3]\n",
      "its input has a zero point that need not be one of its codes", 0 },
    { "  %8 = qdq %0, %2 {" ACT_(15) "} : f32[2x4x8x8]\n",
      "  %11 = zero_point %5, %3 {lo=-8, hi=7} : f32[]\n"
      "  %9 = qdq %1, %3, %11 {lo=-8, hi=7, bits=4} : f32[6x4x3x3]\n",
      "its weight has a zero point or an offset", 0 },
    { "  %11 = sub %0, %5 : f32[2x4x8x8]\n  %12 = qdq %11, %2 {" ACT_(15) "} : f32[2x4x8x8]\n"
                                                                          "  %8 = add %12, %5 : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %3 {lo=-8, hi=7, bits=4} : f32[6x4x3x3]\n", NULL, 2 },
    { "  %11 = qdq %0, %2 {" ACT_(15) "} : f32[2x4x8x8]\n  %8 = add %11, %0 : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %3 {lo=-8, hi=7, bits=4} : f32[6x4x3x3]\n", "its input is not quantized", 0 },
    { "  %8 = qdq %0, %2 {round=false, " ACT_(15) "} : f32[2x4x8x8]\n",
      "  %9 = qdq %1, %3 {lo=-8, hi=7, bits=4} : f32[6x4x3x3]\n", "its input is clipped and not rounded", 0 },
    { "  %8 = qdq %0, %2 {" ACT_(15) "} : f32[2x4x8x8]\n",
      "  %11 = qdq %1, %3 {lo=-8, hi=7, bits=4} : f32[6x4x3x3]\n"
      "  %9 = quant_noise %1, %11, %6, %7 {p=0.5} : f32[6x4x3x3]\n",
      "its weight is quantized in part", 0 },
};

static void test_other_forms(void **state)
{
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(form_cases); i++) {
        const char *why = form_cases[i].why;
        f->ctx.explain = ARENA_NEW(&f->a, Str);
        *f->ctx.explain = str_new(&f->a);
        f->ctx.int8_forward = f->target.int8_unsigned = true;
        Graph *g = fixture_graph(
            f, arena_printf(&f->a,
                            "graph @t.eval {\n  %%0 = input \"x\" : f32[2x4x8x8]\n"
                            "  %%1 = param \"w\" : f32[6x4x3x3]\n  %%2 = param \"sx\" : f32[]\n"
                            "  %%3 = param \"sw\" : f32[]\n  %%4 = param \"each\" : f32[6]\n"
                            "  %%5 = param \"offset\" : f32[]\n  %%6 = input \"seed\" : u32[]\n"
                            "  %%7 = input \"step\" : u32[]\n  %%10 = param \"s%d\" : f32[%d]\n%s%s"
                            "  %%13 = conv2d %%8, %%9 : f32[2x6x6x6]\n  output %%13 \"y\"\n}\n",
                            i, strstr(form_cases[i].w, "axis=2") ? 3 : 2, form_cases[i].x, form_cases[i].w));
        if (!fixture_run(f, g, "--passes=integer-forward --verify=all --verify-changed --verify-roundtrip"))
            fail_msg("%s", fixture_said(f));
        assert_int_equal(fixture_count(g, OP_CONV2D_INT), form_cases[i].products);
        assert_int_equal(fixture_count(g, OP_QDQ) == 0, why == NULL); /* nobody else reads them */
        assert_has(f->ctx.explain->s, why ? why : "conv2d: is made of integer codes");
    }
}

/* 128 128 131071 is below 2^31, with one more term it is not. */
static void test_sums_that_might_not_fit(void **state)
{
    Fixture *f = *state;
    for (int32_t i = 0; i < 2; i++) {
        const char *text = arena_printf(&f->a,
                                        "graph @t.eval {\n  %%0 = input \"x\" : f32[1x%d]\n  %%1 = param \"w\" : "
                                        "f32[3x%d]\n  %%2 = param \"s\" : f32[]\n"
                                        "  %%3 = qdq %%0, %%2 {lo=-128, hi=127, bits=8} : f32[1x%d]\n"
                                        "  %%4 = qdq %%1, %%2 {lo=-128, hi=127, bits=8} : f32[3x%d]\n"
                                        "  %%5 = linear %%3, %%4 : f32[1x3]\n  output %%5 \"y\"\n}\n",
                                        131071 + i, 131071 + i, 131071 + i, 131071 + i);
        Graph      *g = fixture_graph(f, text);
        f->ctx.int8_forward = true;
        assert_true(fixture_run(f, g, "--passes=integer-forward --verify=all"));
        assert_int_equal(fixture_count(g, OP_LINEAR_INT), 1 - i);
    }
}

/* A quantizer that somebody else reads, too, keeps its float values; codes are made once for all products. */
static void test_shared_quantizers(void **state)
{
    Fixture *f = *state;
    Graph   *g = rule_graph(f, &rule_cases[0],
                            "  %7 = conv2d %4, %5 {stride=2} : f32[2x6x3x3]\n  output %7 \"z\"\n"
                              "  %8 = relu %4 : f32[2x4x8x8]\n  output %8 \"v\"\n");
    assert_int_equal(fixture_count(g, OP_CONV2D_INT), 2);
    assert_int_equal(fixture_count(g, OP_QUANTIZE), 2);
    assert_int_equal(fixture_count(g, OP_QDQ), 1);
}

/* --explain-forward says nothing of other passes. */
static void test_explain_forward(void **state)
{
    Fixture *f = *state;
    Graph   *g = rule_graph(f, &rule_cases[0], "");
    f->ctx.explain = NULL;
    assert_true(fixture_run(f, g, "--passes=layout,fuse,batch,schedule --explain-forward"));
    assert_has_not(f->text, "explains");
    g = rule_graph(f, &rule_cases[1], "");
    f->ctx.explain = NULL;
    assert_true(fixture_run(f, g, "--passes=layout,fuse,batch,schedule --explain-fusion"));
    assert_has(f->text, "fuse explains");
}

static void test_only_where_asked_for(void **state)
{
    Fixture *f = *state;
    Graph   *g = fixture_graph(f, "graph @t.eval {\n  %0 = input \"x\" : f32[1x4]\n  %1 = param \"w\" : f32[3x4]\n"
                                    "  %2 = param \"s\" : f32[]\n  %3 = qdq %0, %2 {lo=-8, hi=7, bits=4} : f32[1x4]\n"
                                    "  %4 = qdq %1, %2 {lo=-8, hi=7, bits=4} : f32[3x4]\n"
                                    "  %5 = linear %3, %4 : f32[1x3]\n  output %5 \"y\"\n}\n");
    assert_true(fixture_run(f, g, "--passes=integer-forward --verify=all --verify-changed"));
    assert_int_equal(fixture_count(g, OP_LINEAR), 1);
    assert_int_equal(fixture_count(g, OP_QUANTIZE), 0);
}

/* ---- Networks ---------------------------------------------------------------------------------------------------- */

static NetSetup net_setup(const char *model, StepKind step, Layout weights, bool int8, int64_t batch)
{
    return (NetSetup){ .model = model,
                       .bits = "w4a4",
                       .step = step,
                       .target = net_target(weights),
                       .int8_forward = int8,
                       .batch = batch };
}

/* What a product of codes is made of, as outputs of the program. */
typedef struct Product {
    ValueId     id;
    const char *x, *w, *x_step, *w_step, *x_codes, *w_codes, *scale, *y;
} Product;
typedef VEC(Product) Products;

static const char *expose(Net *n, ValueId v, int32_t k, const char *what)
{
    Builder     b = { .g = n->g, .d = &n->d, .by = "test", .like = VALUE_NONE };
    const char *name = arena_printf(&n->a, "product%d.%s", k, what);
    ir_output(&b, v, name);
    return name;
}

static Products expose_products(Net *n)
{
    Products all = { 0 };
    for (int32_t i = 0, end = n->g->order.len; i < end; i++) {
        ValueId id = n->g->order.at[i];
        if (!ir_is(n->g, id, OP_CONV2D_INT) && !ir_is(n->g, id, OP_LINEAR_INT))
            continue;
        Value y = *ir_value(n->g, id), x = *ir_value(n->g, y.in[0]), w = *ir_value(n->g, y.in[1]);
        assert_true(x.op == OP_QUANTIZE && w.op == OP_QUANTIZE);
        int32_t k = all.len;
        Product p = { id,
                      expose(n, x.in[0], k, "x"),
                      expose(n, w.in[0], k, "w"),
                      expose(n, x.in[1], k, "x_step"),
                      expose(n, w.in[1], k, "w_step"),
                      expose(n, y.in[0], k, "x_codes"),
                      expose(n, y.in[1], k, "w_codes"),
                      expose(n, y.in[2], k, "scale"),
                      expose(n, id, k, "y") };
        vec_push(&n->a, &all, p);
    }
    return all;
}

/* Codes of an operand, a second time, against those that the step made. */
static const int8_t *checked_codes(Net *n, ValueId quantize, const char *x_name, const char *step_name,
                                   const char *codes_name)
{
    const Value  *q = ir_value(n->g, quantize);
    const float  *x = net_read(n, x_name), *steps = net_read(n, step_name);
    const int8_t *codes = net_read(n, codes_name);
    const int64_t elems = shape_elems(q->type.shape), each = elems / net_tensor(n, step_name)->elems;
    float         lo = (float)ir_int(q, A_LO), hi = (float)ir_int(q, A_HI);
    for (int64_t i = 0; i < elems; i++) {
        float step = steps[i / each], inverse = 1 / step;
        if (rintf(fminf(fmaxf(x[i] * inverse, lo), hi)) != (float)codes[i])
            fail_msg("%s[%lld]: %.9g in steps of %.9g is %d", codes_name, (long long)i, (double)x[i], (double)step,
                     codes[i]);
    }
    return codes;
}

/* The convolution that a value is, in logical order. */
static CallDesc product_desc(const Graph *g, const Value *v)
{
    Shape    x = ir_value(g, v->in[0])->type.shape, w = ir_value(g, v->in[1])->type.shape, y = v->type.shape;
    CallDesc d = { .n = x.dim[0], .c = x.dim[1], .k = w.dim[0], .h = 1, .w = 1, .r = 1, .s = 1, .oh = 1, .ow = 1 };
    d.stride = d.groups = 1;
    if (x.rank == 2)
        return d;
    d.h = x.dim[2], d.w = x.dim[3], d.r = w.dim[2], d.s = w.dim[3], d.oh = y.dim[2], d.ow = y.dim[3];
    d.stride = ir_int(v, A_STRIDE);
    memcpy(d.pad, ir_pads(v, A_PAD), sizeof d.pad);
    return d;
}

/* y is the rounded product of the exact sum and the scale; and as the float values would have it, but for roundings:
 * one of each operand's element, of the scale, of the sum and of the result, each 2^-24 of a term at most. */
static void check_product(Net *n, const Product *p)
{
    const Value  *v = ir_value(n->g, p->id);
    CallDesc      d = product_desc(n->g, v);
    const int8_t *x = checked_codes(n, v->in[0], p->x, p->x_step, p->x_codes);
    const int8_t *w = checked_codes(n, v->in[1], p->w, p->w_step, p->w_codes);
    const float  *y = net_read(n, p->y), *scales = net_read(n, p->scale), *steps = net_read(n, p->w_step);
    const float   sx = *(const float *)net_read(n, p->x_step);
    const bool    each = net_tensor(n, p->w_step)->elems > 1; /* output has its own */
    for (int64_t i = 0; i < d.n * d.k * d.oh * d.ow; i++) {
        int64_t ow = i % d.ow, oh = i / d.ow % d.oh, k = i / d.ow / d.oh % d.k, b = i / d.ow / d.oh / d.k, sum = 0;
        double  real = 0, size = 0;
        float   sw = steps[each ? k : 0], scale = scales[each ? k : 0];
        assert_true(scale == sx * sw);
        for (int64_t t = 0; t < d.c * d.r * d.s; t++) {
            int64_t s = t % d.s, r = t / d.s % d.r, c = t / d.s / d.r;
            int64_t h = oh * d.stride + r - d.pad[0], q = ow * d.stride + s - d.pad[1];
            if (h < 0 || h >= d.h || q < 0 || q >= d.w)
                continue;
            int32_t cx = x[((b * d.c + c) * d.h + h) * d.w + q], cw = w[k * d.c * d.r * d.s + t];
            double  term = (double)((float)cx * sx) * (double)((float)cw * sw);
            sum += cx * cw;
            real += term;
            size += fabs(term);
        }
        if (y[i] != (float)sum * scale || !(fabs((double)y[i] - real) <= 6 * 0x1p-24 * size))
            fail_msg("%s[%lld] is %.9g, the sum of codes %lld, that of floats %.9g", p->y, (long long)i, (double)y[i],
                     (long long)sum, real);
    }
}

static void check_network(const char *model, StepKind step, const char *settings, int32_t products)
{
    NetSetup s = net_setup(model, step, LAYOUT_NHWC, true, 1);
    s.settings = settings;
    Net *n = net_graph(&s);
    net_passes(n, "canonicalize,insert-quantize,autodiff,optimizer,decompose,simplify,integer-forward");
    Products all = expose_products(n);
    net_passes(n, "layout,fuse,batch,schedule,plan-memory,lower");
    net_compile(n);
    net_load(n);
    net_run(n);
    assert_int_equal(all.len, products);
    for (int32_t i = 0; i < all.len; i++)
        check_product(n, &all.at[i]);
    net_free(n);
}

/* All but the last layer of each, whose input has codes up to 255. */
static void test_every_product(void **state)
{
    (void)state;
    check_network("resnet20", STEP_EVAL, NULL, 19);
    check_network("resnet20", STEP_TRAIN, NULL, 19);
    check_network("resnet20", STEP_EVAL, "grain=channel", 19);
    check_network("mnist", STEP_EVAL, NULL, 3);
    check_network("mnist", STEP_TRAIN, NULL, 3);
    check_network("mnist", STEP_TRAIN, "grain=channel", 3);
    check_network("mnist", STEP_EVAL, "*:grain=2", 3); /* pairs of channels */
    check_network("mnist", STEP_TRAIN, "noise=0.5", 0);
}

static Net *net_after(NetSetup s)
{
    Net *n = net_new(&s);
    net_load(n);
    net_run(n);
    return n;
}

/* Largest difference of a tensor of two runs, relative to its largest element. */
static double distance(Net *a, Net *b, const char *name)
{
    const ProgTensor *t = net_tensor(a, name);
    const float      *x = net_read(a, name), *y = net_read(b, name);
    double            most = 1e-30, apart = 0;
    for (int64_t i = 0; i < t->elems; i++) {
        most = fmax(most, fabs((double)x[i]));
        apart = fmax(apart, fabs((double)x[i] - (double)y[i]));
    }
    return apart / most;
}

/* No code of these runs lies so near a tie that a rounding tips it, so what is left are roundings; gradients of step
 * sizes are sums of terms of both signs and lose some digits by it. */
static void compare_with_float(const char *model, StepKind step)
{
    Net *plain = net_after(net_setup(model, step, LAYOUT_ROWS, false, 1));
    Net *codes = net_after(net_setup(model, step, LAYOUT_ROWS, true, 1));
    assert_int_equal(plain->program->n_tensors, codes->program->n_tensors);
    for (int32_t i = 0; i < plain->program->n_tensors; i++) {
        const ProgTensor *t = &plain->program->tensors[i];
        double            apart = distance(plain, codes, t->name);
        bool              of_step = strstr(t->name, ".step") != NULL;
        if (t->dtype == DTYPE_F32 && !(apart <= (of_step ? 1e-4 : 1e-5)))
            fail_msg("%s, %s: %g apart", plain->program->name, t->name, apart);
    }
    net_free(plain);
    net_free(codes);
}

static void test_near_the_float_step(void **state)
{
    (void)state;
    compare_with_float("resnet20", STEP_EVAL);
    compare_with_float("resnet20", STEP_TRAIN);
    compare_with_float("mnist", STEP_EVAL);
    compare_with_float("mnist", STEP_TRAIN);
}

static void assert_same_tensors(Net *a, Net *b)
{
    for (int32_t i = 0; i < a->program->n_tensors; i++) {
        const ProgTensor *t = &a->program->tensors[i];
        if (memcmp(net_read(a, t->name), net_read(b, t->name), (size_t)t->bytes) != 0)
            fail_msg("%s, %s differs", a->program->name, t->name);
    }
}

/* Codes lie as their weights do, and the sums do not care. */
static void test_either_layout(void **state)
{
    (void)state;
    Net *rows = net_after(net_setup("resnet20", STEP_EVAL, LAYOUT_ROWS, true, 1));
    Net *krsc = net_after(net_setup("resnet20", STEP_EVAL, LAYOUT_NHWC, true, 1));
    assert_same_tensors(rows, krsc);
    net_free(rows);
    net_free(krsc);
}

/* Kernels that store bytes beside floats, of one weight or of many, as machine code. */
static void test_by_machine_code(void **state)
{
    (void)state;
#ifdef DT_HAVE_LLVM
    NetSetup s = net_setup("resnet20", STEP_TRAIN, LAYOUT_NHWC, true, 1);
    Net     *interp = net_after(s), *code = net_graph(&s);
    net_passes(code, NULL);
    code->jit = jit_llvm_new(&code->a, &code->d, (JitOptions){ 0 });
    assert_non_null(code->jit);
    net_compile(code);
    net_load(code);
    net_run(code);
    assert_same_tensors(interp, code);
    net_free(interp);
    net_free(code);
#else
    skip();
#endif
}

static Net *net_of(StepKind step)
{
    NetSetup s = net_setup("resnet20", step, LAYOUT_NHWC, true, 128);
    return net_new(&s);
}

static int32_t count_calls(const Net *n, CallKind kind)
{
    int32_t count = 0;
    for (int32_t i = 0; i < n->program->n_launches; i++)
        count += n->program->launches[i].kind == LAUNCH_CALL && n->program->launches[i].call.kind == kind;
    return count;
}

/* An evaluation holds codes of one byte instead of floats; a train step has the gradients that it had, of the float
 * values; the init step knows nothing of it. */
static void test_what_a_step_is_made_of(void **state)
{
    (void)state;
    Net *eval = net_of(STEP_EVAL);
    Net *train = net_of(STEP_TRAIN);
    Net *init = net_of(STEP_INIT);
    assert_int_equal(fixture_count(eval->g, OP_QDQ), 2); /* of the last layer */
    assert_int_equal(count_calls(eval, CALL_CONV_FWD), 0);
    assert_int_equal(count_calls(eval, CALL_CONV_FWD_INT), 19);
    assert_int_equal(count_calls(eval, CALL_LINEAR_FWD), 1);
    assert_true(train->program->n_launches <= 150);
    assert_int_equal(count_calls(train, CALL_CONV_FWD_INT), 19);
    assert_int_equal(count_calls(train, CALL_CONV_BWD_X), 18);
    assert_int_equal(count_calls(train, CALL_CONV_BWD_W), 19);
    for (int32_t i = 0; i < train->g->order.len; i++) {
        const Value *v = ir_value(train->g, train->g->order.at[i]);
        if (v->op == OP_CONV2D_GRAD_W || v->op == OP_CONV2D_GRAD_X)
            assert_int_equal(ir_value(train->g, v->in[1])->op, OP_QDQ);
    }
    assert_int_equal(count_calls(init, CALL_CONV_FWD_INT), 0);
    net_free(eval);
    net_free(train);
    net_free(init);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_are_those_of_qdq),
        cmocka_unit_test(test_codes_by_machine_code),
        cmocka_unit_test(test_sums_are_exact),
        fixture_test(test_which_products),
        fixture_test(test_other_forms),
        fixture_test(test_sums_that_might_not_fit),
        fixture_test(test_shared_quantizers),
        fixture_test(test_explain_forward),
        fixture_test(test_only_where_asked_for),
        cmocka_unit_test(test_every_product),
        cmocka_unit_test(test_near_the_float_step),
        cmocka_unit_test(test_either_layout),
        cmocka_unit_test(test_by_machine_code),
        cmocka_unit_test(test_what_a_step_is_made_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
