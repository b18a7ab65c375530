/* test_depthwise.c: depthwise convolution and its gradients as own kernels.
 *
 *   1. shapes at random - windows of 1 to 7, strides of 1 to 4, padding on four sides up to more than the window, few
 * and many channels: what the pass makes against the calls that it replaces, by the interpreter; machine code and the
 *      CUDA text (on a simulated GPU) give the interpreter's bits;
 *   2. their kernels alone, also with statistics and with arithmetic behind them: at all vector widths, cut into work
 *      units at random, at the edge of memory;
 *   3. which convolutions are taken and which are not; quantizers; integer products.
 *
 * Single forms are in the op matrix, the pass and its kernels in tests/golden. */
#include "cli/check.h"
#include "tests/unit/kernel_fixture.h"
#include "tests/unit/llvm_fixture.h"
#include "tests/unit/pass_fixture.h"

enum { SHAPES = 24, KERNEL_SHAPES = 16 };

/* ---- Shapes -------------------------------------------------------------------------------------------------------
 */

typedef struct Shape_ {
    int32_t n, c, h, w, kernel, stride, pad[4], oh, ow;
} Conv;

/* At least one window fits. */
static Conv random_conv(GenRng *r)
{
    static const int32_t channels[] = { 2, 3, 8, 16, 17, 24, 40, 48, 64, 70, 96, 130 };
    static const int32_t kernels[] = { 1, 2, 3, 3, 3, 4, 5, 5, 5, 7 };
    Conv                 v;
    do {
        v = (Conv){ .n = 1 + (int32_t)gen_below(r, 2),
                    .c = channels[gen_below(r, DT_COUNT(channels))],
                    .h = 1 + (int32_t)gen_below(r, 11),
                    .w = 1 + (int32_t)gen_below(r, 13),
                    .kernel = kernels[gen_below(r, DT_COUNT(kernels))],
                    .stride = gen_one_in(r, 2) ? 1 : 1 + (int32_t)gen_below(r, 4) };
        for (int i = 0; i < 4; i++)
            v.pad[i] = gen_one_in(r, 2) ? (v.kernel - 1) / 2 : (int32_t)gen_below(r, (uint32_t)v.kernel + 2);
        v.oh = v.h + v.pad[0] + v.pad[2] - v.kernel;
        v.ow = v.w + v.pad[1] + v.pad[3] - v.kernel;
    } while (v.oh < 0 || v.ow < 0);
    v.oh = v.oh / v.stride + 1;
    v.ow = v.ow / v.stride + 1;
    return v;
}

/* Parts of graphs' texts. */
typedef struct Words {
    const char *x, *y, *w, *turned, *attrs; /* attrs: stride and pad */
} Words;

static Words words_of(Arena *a, const Conv *v)
{
    return (Words){ arena_printf(a, "f32[%dx%dx%dx%d]", v->n, v->c, v->h, v->w),
                    arena_printf(a, "f32[%dx%dx%dx%d]", v->n, v->c, v->oh, v->ow),
                    arena_printf(a, "f32[%dx1x%dx%d]", v->c, v->kernel, v->kernel),
                    arena_printf(a, "f32[1x%dx%dx%d]", v->c, v->kernel, v->kernel),
                    arena_printf(a, "stride=%d, pad=[%d,%d,%d,%d]", v->stride, v->pad[0], v->pad[1], v->pad[2],
                                 v->pad[3]) };
}

/* ---- Beside the calls ---------------------------------------------------------------------------------------------
 */

enum { OUTPUTS = 3 };
static const char *const outputs[OUTPUTS] = { "y", "dx", "dw" }, *const inputs[] = { "x", "w", "g", "bias" };

static Graph *three_passes(Fixture *f, const Conv *v)
{
    Words t = words_of(&f->a, v);
    return fixture_graph(
        f, arena_printf(&f->a,
                        "graph @g {\n %%0 = input \"x\" : %s\n %%1 = input \"w\" : %s\n %%2 = input \"g\" : %s\n"
                        " %%3 = input \"bias\" : f32[%d]\n %%4 = conv2d %%0, %%1, %%3 {%s, groups=%d} : %s\n"
                        " %%5 = conv2d_grad_x %%2, %%1 {%s, groups=%d, h=%d, w=%d} : %s\n"
                        " %%6 = conv2d_grad_w %%2, %%0 {%s, groups=%d, kernel=%d} : %s\n"
                        " output %%4 \"y\"\n output %%5 \"dx\"\n output %%6 \"dw\"\n}\n",
                        t.x, t.w, t.y, v->c, t.attrs, v->c, t.y, t.attrs, v->c, v->h, v->w, t.x, t.attrs, v->c,
                        v->kernel, t.w));
}

static void run_three(Fixture *f, CheckBackend *b, const Graph *g, const char *disable, double *out[OUTPUTS])
{
    CheckSetup setup = { .step = STEP_EVAL, .disable = disable };
    CheckNet   net;
    if (!check_net_open(&net, b, ir_graph_clone(&f->a, g), &setup))
        fail_msg("%s", fixture_said(f));
    for (uint32_t i = 0; i < DT_COUNT(inputs); i++) {
        int64_t n = check_net_elems(&net, inputs[i]);
        double *x = ARENA_ARRAY(&f->a, double, n);
        for (int64_t k = 0; k < n; k++)
            x[k] = (double)rng_uniform(5, i, 1, (uint64_t)k) * 2 - 1;
        check_net_write(&net, inputs[i], x);
    }
    check_net_run(&net);
    for (int32_t i = 0; i < OUTPUTS; i++)
        out[i] = check_net_read(&f->a, &net, outputs[i]);
    check_net_close(&net);
}

static void compare_three(const Graph *g, double *const want[OUTPUTS], double *const got[OUTPUTS], double tol,
                          const char *how)
{
    for (int32_t i = 0; i < OUTPUTS; i++) {
        const Value *v = ir_value(g, ir_value(g, ir_find(g, outputs[i]))->in[0]);
        for (int64_t k = 0; k < shape_elems(v->type.shape); k++)
            if (!(fabs(want[i][k] - got[i][k]) <= tol * fmax(1, fabs(want[i][k]))))
                fail_msg("%s, %s: element %lld is %.9g, expected %.9g", how, outputs[i], (long long)k, got[i][k],
                         want[i][k]);
    }
}

static void test_shapes(void **state)
{
    Fixture     *f = *state;
    GenRng       r = { 1, 0 };
    CheckBackend interp, cpu, narrow, sim;
    if (!check_backend_open(&interp, &f->a, &f->d, false, 1, 0) ||
        !check_backend_open(&cpu, &f->a, &f->d, true, 2, 0) || !check_backend_open(&narrow, &f->a, &f->d, true, 1, 4) ||
        !check_backend_open_sim(&sim, &f->a, &f->d))
        fail_msg("%s", fixture_said(f));
    for (int32_t i = 0; i < SHAPES; i++) {
        Conv        v = random_conv(&r);
        Graph      *g = three_passes(f, &v);
        const char *what = arena_printf(&f->a, "%s, %dx%d", words_of(&f->a, &v).x, v.kernel, v.kernel);
        double     *calls[OUTPUTS], *own[OUTPUTS], *other[OUTPUTS];
        run_three(f, &interp, g, "depthwise", calls);
        run_three(f, &interp, g, NULL, own);
        compare_three(g, calls, own, 1e-5, what);
        run_three(f, &cpu, g, NULL, other);
        compare_three(g, own, other, 0, arena_printf(&f->a, "%s by machine code", what));
        run_three(f, &narrow, g, "fuse", other);
        compare_three(g, own, other, 0, arena_printf(&f->a, "%s by machine code, vectors of 4", what));
        run_three(f, &sim, g, NULL, other);
        compare_three(g, own, other, 0, arena_printf(&f->a, "%s by the CUDA text", what));
    }
    check_backend_close(&sim);
    check_backend_close(&narrow);
    check_backend_close(&cpu);
    check_backend_close(&interp);
}

/* ---- Kernels alone ------------------------------------------------------------------------------------------------
 */

/* Forward with statistics; with arithmetic behind it that needs no reduction; the gradients, that of x with sums. */
static const char *kernels_text(Arena *a, const Conv *v)
{
    Words t = words_of(a, v);
    return arena_printf(
        a,
        "graph @g {\n %%0 = input \"x\" : %s\n %%1 = input \"w\" : %s\n %%2 = input \"g\" : %s\n"
        " %%3 = input \"s\" : f32[%d]\n %%4 = depthwise %%0, %%1 {%s} : %s\n"
        " %%5 = bn_mean %%4, %%3 : f32[%d]\n %%6 = bn_var %%4, %%3 : f32[%d]\n"
        " %%7 = depthwise %%2, %%1 {stride=1, pad=[%d,%d,%d,%d]} : %s\n %%8 = affine %%7, %%3, %%3 : %s\n"
        " %%9 = relu %%8 : %s\n %%10 = depthwise_grad_x %%2, %%1 {%s, h=%d, w=%d} : %s\n"
        " %%11 = relu_grad %%0, %%10 : %s\n %%12 = reduce_sum %%11 {keep=\"c\"} : f32[%d]\n"
        " %%13 = depthwise_grad_w %%2, %%0 {%s, kernel=%d} : %s\n"
        " output %%4 \"y\"\n output %%5 \"m\"\n output %%6 \"v\"\n output %%9 \"r\"\n"
        " output %%11 \"dx\"\n output %%12 \"db\"\n output %%13 \"dw\"\n}\n",
        t.x, t.turned, t.y, v->c, t.attrs, t.y, v->c, v->c, v->kernel / 2, v->kernel / 2, (v->kernel - 1) / 2,
        (v->kernel - 1) / 2, t.y, t.y, t.y, t.attrs, v->h, v->w, t.x, t.x, v->c, t.attrs, v->kernel, t.w);
}

static void test_kernels(void **state)
{
    Fixture *f = *state;
    GenRng   r = { 2, 0 };
    for (int32_t i = 0; i < KERNEL_SHAPES; i++) {
        Conv   v = random_conv(&r);
        Graph *g = fixture_graph(f, kernels_text(&f->a, &v));
        if (!fixture_run(f, g, "--passes=layout,fuse,schedule,plan-memory,lower"))
            fail_msg("%s", fixture_said(f));
        for (int32_t k = 0; k < g->groups.len; k++)
            check_kernels(&f->a, &g->groups.at[k].kernel, 1, 0);
    }
}

/* Enough rows, columns and channels for tiles of every variant, and for several blocks and chunks. */
static void test_large(void **state)
{
    static const Conv large[] = {
        { 2, 112, 14, 15, 5, 1, { 2, 2, 2, 2 }, 14, 15 },
        { 1, 192, 17, 16, 3, 1, { 1, 1, 1, 1 }, 17, 16 },
        { 2, 72, 15, 18, 3, 2, { 1, 1, 1, 1 }, 8, 9 },
        { 2, 64, 16, 14, 5, 2, { 1, 1, 2, 2 }, 8, 7 },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(large); i++) {
        Graph *g = fixture_graph(f, kernels_text(&f->a, &large[i]));
        if (!fixture_run(f, g, "--passes=layout,fuse,schedule,plan-memory,lower"))
            fail_msg("%s", fixture_said(f));
        for (int32_t k = 0; k < g->groups.len; k++)
            check_kernels(&f->a, &g->groups.at[k].kernel, 1, 0);
    }
}

/* dot has one rounding where a product and a sum have two; and it adds up as sums do: by lanes, as a tree, by runs. */
static void test_dot(void **state)
{
    (void)state;
    KernelTest t =
        kt_text("kernel @dot { axis r = 11 red axis c = 2 par vec buf x : f32[22] in buf y : f32[11] in buf s : "
                "f32[2] out reduce chunks 2 lanes 2 body { %0 = load x[2*r + c] %1 = load y[r] %2 = dot %0, %1 "
                "} final { store s[c], %2 } }");
    float *x = t.bufs[0], *y = t.bufs[1], *s = t.bufs[2];
    for (int32_t i = 0; i < 22; i++)
        x[i] = 1 + rng_uniform(1, 2, 3, (uint64_t)i);
    for (int32_t i = 0; i < 11; i++)
        y[i] = 1 + rng_uniform(1, 2, 4, (uint64_t)i);
    kernel_interp(t.k, t.bufs);
    bool differs = false;
    for (int32_t c = 0; c < 2; c++) {
        float run[2] = { 0 }, rounded[2] = { 0 };
        for (int32_t k = 0; k < 2; k++) {
            float lane[2] = { 0 }, twice[2] = { 0 };
            for (int32_t e = 0; e < (k ? 5 : 6); e++) {
                float *to = &lane[e % 2], *to_twice = &twice[e % 2], a = x[2 * (6 * k + e) + c], b = y[6 * k + e];
                *to = fmaf(a, b, *to);
                *to_twice += a * b;
            }
            run[k] = lane[0] + lane[1];
            rounded[k] = twice[0] + twice[1];
        }
        assert_true(s[c] == run[0] + run[1]);
        differs = differs || s[c] != rounded[0] + rounded[1];
    }
    assert_true(differs); /* else the numbers show nothing */
    kt_free(&t);
}

/* ---- Which are taken ----------------------------------------------------------------------------------------------
 */

static int32_t count_ops(const Graph *g, OpCode op)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        n += ir_is(g, g->order.at[i], op);
    return n;
}

/* One channel, groups of two, several outputs a channel, a window of 16 x 16: calls. */
static void test_left_alone(void **state)
{
    static const char *const convs[][3] = {
        { "f32[1x1x8x8]", "f32[1x1x3x3]", "groups=1" },
        { "f32[1x8x8x8]", "f32[8x2x3x3]", "groups=4" },
        { "f32[1x8x8x8]", "f32[16x1x3x3]", "groups=8" },
        { "f32[1x2x18x18]", "f32[2x1x16x16]", "groups=2" },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(convs); i++) {
        int32_t k = i == 2 ? 16 : i == 1 ? 8 : i == 0 ? 1 : 2, o = i == 3 ? 3 : 6;
        Graph  *g =
            fixture_graph(f, arena_printf(&f->a,
                                          "graph @g {\n %%0 = input \"x\" : %s\n %%1 = param \"w\" : %s\n"
                                          " %%2 = conv2d %%0, %%1 {%s} : f32[1x%dx%dx%d]\n output %%2 \"y\"\n}\n",
                                          convs[i][0], convs[i][1], convs[i][2], k, o, o));
        assert_true(fixture_run(f, g, "--passes=depthwise"));
        assert_int_equal(count_ops(g, OP_CONV2D), 1);
    }
}

/* A step for each channel of the weight, and one for the input; where products of codes are asked for, this one is not
 * among them. */
static void test_quantized(void **state)
{
    Fixture *f = *state;
    Graph   *g = fixture_graph(
        f, "graph @g {\n %0 = input \"x\" : f32[2x8x6x6]\n %1 = param \"w\" {init=\"kaiming\", fan=9} : f32[8x1x3x3]\n"
             " %2 = param \"ws\" {init=\"value\", value=0.1, group=\"step\"} : f32[8]\n"
             " %3 = param \"xs\" {init=\"value\", value=0.1, group=\"step\"} : f32[]\n"
             " %4 = qdq %1, %2 {lo=-8, hi=7, bits=4, axis=0} : f32[8x1x3x3]\n"
             " %5 = qdq %0, %3 {lo=0, hi=15, bits=4, role=\"act\"} : f32[2x8x6x6]\n"
             " %6 = conv2d %5, %4 {pad=[1,1,1,1], groups=8} : f32[2x8x6x6]\n"
             " %7 = param \"v\" {init=\"kaiming\", fan=8} : f32[4x8x1x1]\n"
             " %8 = qdq %7, %3 {lo=-8, hi=7, bits=4} : f32[4x8x1x1]\n"
             " %9 = qdq %6, %3 {lo=0, hi=15, bits=4, role=\"act\"} : f32[2x8x6x6]\n"
             " %10 = conv2d %9, %8 : f32[2x4x6x6]\n output %10 \"y\"\n output %6 \"d\"\n}\n");
    CheckBackend interp, cpu;
    if (!check_backend_open(&interp, &f->a, &f->d, false, 1, 0) || !check_backend_open(&cpu, &f->a, &f->d, true, 2, 0))
        fail_msg("%s", fixture_said(f));
    double *d[3];
    for (int32_t i = 0; i < 3; i++) {
        CheckNet   net;
        CheckSetup setup = { .step = STEP_EVAL, .disable = i == 0 ? "depthwise" : NULL };
        assert_true(check_net_open(&net, i == 2 ? &cpu : &interp, ir_graph_clone(&f->a, g), &setup));
        double x[2 * 8 * 36], w[72], v[32], step = 0.1, steps[8];
        for (int32_t k = 0; k < DT_COUNT(x); k++)
            x[k] = (double)rng_uniform(5, 1, 1, (uint64_t)k) * 2;
        for (int32_t k = 0; k < DT_COUNT(w); k++)
            w[k] = (double)rng_uniform(5, 1, 2, (uint64_t)k) * 2 - 1;
        for (int32_t k = 0; k < DT_COUNT(v); k++)
            v[k] = (double)rng_uniform(5, 1, 3, (uint64_t)k) * 2 - 1;
        for (int32_t k = 0; k < 8; k++)
            steps[k] = 0.125 / (1 + k);
        check_net_write(&net, "x", x);
        check_net_write(&net, "w", w);
        check_net_write(&net, "ws", steps);
        check_net_write(&net, "xs", &step);
        check_net_write(&net, "v", v);
        check_net_run(&net);
        d[i] = check_net_read(&f->a, &net, "d");
        check_net_close(&net);
    }
    for (int32_t i = 0; i < 2 * 8 * 36; i++) {
        assert_true(fabs(d[0][i] - d[1][i]) < 1e-5);
        assert_true(d[1][i] == d[2][i]);
    }
    check_backend_close(&cpu);
    check_backend_close(&interp);
    f->ctx.int8_forward = true;
    assert_true(fixture_run(f, g, "--stop-after=integer-forward"));
    assert_int_equal(count_ops(g, OP_DEPTHWISE), 1);
    assert_int_equal(count_ops(g, OP_CONV2D_INT), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_shapes),  fixture_test(test_kernels),    fixture_test(test_large),
        cmocka_unit_test(test_dot), fixture_test(test_left_alone), fixture_test(test_quantized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
