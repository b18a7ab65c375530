/* test_kernel.c: ten kinds of kernels, written by hand in tests/kernels: each prints as it was written, and the
 * interpreter gives what plain loops give. Then the rules that all kernels share: order of reductions, arithmetic,
 * memory. Text, verifier and transformations are in test_kernel_ir.c. */
#include "tests/unit/kernel_fixture.h"

/* ---- The kernels of tests/kernels -------------------------------------------------------------------------------- */

static void bn_apply(void **state)
{
    (void)state;
    KernelTest t = kt_file("bn_apply");
    float     *x = kt_fill(&t, "x", -3, 3), *a = kt_fill(&t, "a", 0.5f, 2), *b = kt_fill(&t, "b", -1, 1);
    kt_f32(&t, "inv")[0] = 4.25f;
    x[5] = NAN;
    kt_run(&t);
    for (int i = 0; i < 768; i++) {
        float v = fmaf(x[i], a[i % 16], b[i % 16]);
        v = v > 0 ? v * 4.25f : 0;
        assert_int_equal(elem_get(DTYPE_U4, kt_u8(&t, "q"), i), rintf(v < 15 ? v : 15));
    }
    kt_free(&t);
}

static void bn_stats(void **state)
{
    (void)state;
    enum { P = 1250, C = 16 };
    KernelTest t = kt_file("bn_stats");
    float     *x = kt_fill(&t, "x", -1, 3), *gamma = kt_fill(&t, "gamma", 0.5f, 2), *beta = kt_fill(&t, "beta", -1, 1);
    kt_fill(&t, "running", 0, 1);
    float *running = kt_copy(&t, "running");
    kt_run(&t);
    for (int c = 0; c < C; c++) {
        float  column[P], squares[P];
        double sum = 0;
        for (int p = 0; p < P; p++) {
            column[p] = x[C * p + c];
            squares[p] = column[p] * column[p];
            sum += (double)column[p];
        }
        float mean = ordered_f32(KACC_SUM, column, P, 3, 4) * 0.0008f;
        float square = ordered_f32(KACC_SUM, squares, P, 3, 4) * 0.0008f;
        float a = gamma[c] / sqrtf(fmaf(-mean, mean, square) + 1e-5f);
        float b = fmaf(-mean, a, beta[c]), kept = fmaf(mean - running[c], 0.1f, running[c]);
        assert_near((double)mean, sum / P, 1e-6);
        assert_same_f32(&kt_f32(&t, "a")[c], &a, 1);
        assert_same_f32(&kt_f32(&t, "b")[c], &b, 1);
        assert_same_f32(&kt_f32(&t, "running")[c], &kept, 1);
    }
    kt_free(&t);
}

/* The seven known answers: -2.0 .. 0.9 at step 0.5 with codes -2..1. */
static void lsq_backward(void **state)
{
    (void)state;
    static const float at[7] = { -2.0f, -1.2f, -0.8f, 0.26f, 0.45f, 0.6f, 0.9f };
    static const float mask[7] = { 0, 0, 1, 1, 1, 0, 0 };
    static const float ds[7] = { -2, -2, -0.4f, 0.48f, 0.1f, 1, 1 };
    KernelTest         t = kt_file("lsq_backward");
    float             *x = kt_f32(&t, "x"), *g = kt_fill(&t, "g", -1, 1), terms[5000];
    kt_f32(&t, "step")[0] = 0.5f;
    for (int i = 0; i < 5000; i++) {
        x[i] = at[i % 7];
        float u = x[i] * 2;
        terms[i] = g[i] * (u <= -2 ? -2 : u >= 1 ? 1 : rintf(u) - u);
        assert_near((double)terms[i], (double)(g[i] * ds[i % 7]), 1e-6);
    }
    kt_run(&t);
    for (int i = 0; i < 5000; i++)
        assert_true(kt_f32(&t, "dx")[i] == g[i] * mask[i % 7]);
    float want = ordered_f32(KACC_SUM, terms, 5000, 3, 64) * 0.01f;
    assert_same_f32(kt_f32(&t, "dstep"), &want, 1);
    kt_free(&t);
}

static void softmax_xent(void **state)
{
    (void)state;
    KernelTest t = kt_file("softmax_xent");
    float     *x = kt_fill(&t, "x", -20, 20);
    for (int n = 0; n < 6; n++)
        kt_i32(&t, "label")[n] = (3 * n + 1) % 10;
    kt_run(&t);
    for (int n = 0; n < 6; n++) {
        double sum = 0;
        int    label = (3 * n + 1) % 10;
        for (int k = 0; k < 10; k++)
            sum += exp((double)x[10 * n + k]);
        assert_near((double)kt_f32(&t, "loss")[n], log(sum) - (double)x[10 * n + label], 1e-6);
        for (int k = 0; k < 10; k++)
            assert_near((double)kt_f32(&t, "dx")[10 * n + k], (exp((double)x[10 * n + k]) / sum - (k == label)) / 6,
                        1e-6);
    }
    kt_free(&t);
}

/* Forward by windows; backward by scattering each output's gradient to its tap, which a gather must equal. */
static void maxpool(void **state)
{
    (void)state;
    KernelTest fwd = kt_file("maxpool"), bwd = kt_file("maxpool_grad");
    float     *x = kt_fill(&fwd, "x", -1, 1), *dy = kt_fill(&bwd, "dy", -1, 1);
    float      want[280] = { 0 };
    x[0] = x[4] = 0.75f; /* a tie: the first tap wins */
    kt_run(&fwd);
    for (int i = 0; i < 96; i++) {
        int   c = i % 4, ow = i / 4 % 3, oh = i / 12 % 4, n = i / 48, best = -1, from = 0;
        float most = -INFINITY;
        for (int tap = 0; tap < 9; tap++) {
            int h = 2 * oh - 1 + tap / 3, w = 2 * ow - 1 + tap % 3, at = 140 * n + 20 * h + 4 * w + c;
            if (h < 0 || h >= 7 || w < 0 || w >= 5 || !(x[at] > most))
                continue;
            most = x[at];
            best = tap;
            from = at;
        }
        assert_true(kt_f32(&fwd, "y")[i] == most);
        assert_int_equal(kt_u8(&fwd, "tap")[i], best);
        want[from] += dy[i];
    }
    memcpy(kt_u8(&bwd, "tap"), kt_u8(&fwd, "tap"), 96);
    kt_run(&bwd);
    for (int i = 0; i < 280; i++)
        assert_near((double)kt_f32(&bwd, "dx")[i], (double)want[i], 1e-6);
    kt_free(&fwd);
    kt_free(&bwd);
}

/* Element (n, h, w, c) of a 2 x 6 x 7 x 8 image, 0 outside. */
static double depthwise_at(const float *x, int n, int h, int w, int c)
{
    return h < 0 || h >= 6 || w < 0 || w >= 7 ? 0 : (double)x[336 * n + 56 * h + 8 * w + c];
}

static void depthwise(void **state)
{
    (void)state;
    KernelTest t = kt_file("depthwise");
    float     *x = kt_fill(&t, "x", -1, 1), *a = kt_fill(&t, "a", 0.5f, 2), *b = kt_fill(&t, "b", -1, 1);
    float     *f = kt_fill(&t, "f", -1, 1), *act = kt_copy(&t, "x");
    kt_run(&t);
    for (int i = 0; i < 672; i++)
        act[i] = fmaxf(fmaf(x[i], a[i % 8], b[i % 8]), 0);
    for (int i = 0; i < 672; i++) {
        double y = 0;
        for (int k = 0; k < 25; k++)
            y += depthwise_at(act, i / 336, i / 56 % 6 + k / 5 - 2, i / 8 % 7 + k % 5 - 2, i % 8) *
                 (double)f[8 * k + i % 8];
        assert_near((double)kt_f32(&t, "y")[i], y, 1e-5);
    }
    kt_free(&t);
}

static void depthwise_grads(void **state)
{
    (void)state;
    KernelTest gw = kt_file("depthwise_grad_w"), gx = kt_file("depthwise_grad_x");
    float     *x = kt_fill(&gw, "x", -1, 1), *dy = kt_fill(&gw, "dy", -1, 1), *f = kt_fill(&gx, "f", -1, 1);
    kt_fill(&gx, "dy", -1, 1);
    kt_run(&gw);
    kt_run(&gx);
    for (int k = 0; k < 200; k++) {
        float terms[84];
        for (int p = 0; p < 84; p++)
            terms[p] = (float)depthwise_at(x, p / 42, p / 7 % 6 + k / 40 - 2, p % 7 + k / 8 % 5 - 2, k % 8) *
                       dy[8 * p + k % 8];
        float want = ordered_f32(KACC_SUM, terms, 84, 5, 8);
        assert_same_f32(&kt_f32(&gw, "df")[k], &want, 1);
    }
    for (int i = 0; i < 672; i++) {
        double dx = 0;
        for (int k = 0; k < 25; k++)
            dx += depthwise_at(dy, i / 336, i / 56 % 6 - k / 5 + 2, i / 8 % 7 - k % 5 + 2, i % 8) *
                  (double)f[8 * k + i % 8];
        assert_near((double)kt_f32(&gx, "dx")[i], dx, 1e-5);
    }
    kt_free(&gw);
    kt_free(&gx);
}

static void prepare_weights(void **state)
{
    (void)state;
    static const int   len[3] = { 100, 37, 64 }, base[3] = { 0, 104, 144 };
    static const float lo[3] = { -8, -2, -128 }, hi[3] = { 7, 1, 127 };
    KernelTest         t = kt_file("prepare_weights");
    float   *w = kt_fill(&t, "w", -2, 2), *step = kt_fill(&t, "step", 0.05f, 0.3f), *used = kt_f32(&t, "used");
    uint32_t seed[2] = { 123, 456 };
    int      kept = 0;
    memcpy(kt_i32(&t, "seed"), seed, sizeof seed);
    kt_i32(&t, "now")[0] = 9;
    kt_run(&t);
    for (int row = 0; row < 3; row++) {
        for (int i = 0; i < len[row]; i++) {
            float inv = 1 / step[row], q = rintf(fminf(fmaxf(w[base[row] + i] * inv, lo[row]), hi[row]));
            bool  quantized = rng_u32(123 | (uint64_t)456 << 32, 40 + (uint32_t)row, 9, (uint64_t)i) < 1u << 31;
            float want = quantized ? q * step[row] : w[base[row] + i];
            kept += !quantized;
            assert_int_equal(elem_get(DTYPE_S8, kt_u8(&t, "codes"), base[row] + i), q);
            assert_same_f32(&used[base[row] + i], &want, 1);
        }
    }
    assert_true(kept > 60 && kept < 140);
    assert_true(used[100] == 0 && used[103] == 0); /* between segments nothing is written */
    kt_free(&t);
}

static void optimizer(void **state)
{
    (void)state;
    static const int   len[3] = { 40000, 37, 640 }, base[3] = { 0, 40000, 40048 };
    static const float lo[3] = { -8, -2, -128 }, hi[3] = { 7, 1, 127 }, decay[3] = { 1e-4f, 0, 1e-4f };
    KernelTest         t = kt_file("optimizer");
    kt_fill(&t, "p", -2, 2);
    kt_fill(&t, "v", -1, 1);
    float *p = kt_copy(&t, "p"), *v = kt_copy(&t, "v"), *g = kt_fill(&t, "g", -1, 1);
    float *step = kt_fill(&t, "step", 0.05f, 0.3f), *terms = ARENA_ARRAY(&t.arena, float, 40000);
    kt_f32(&t, "lr")[0] = 0.125f;
    kt_run(&t);
    for (int row = 0; row < 3; row++) {
        for (int i = 0; i < len[row]; i++) {
            int   at = base[row] + i;
            float u = p[at] * (1 / step[row]), grad = u > lo[row] && u < hi[row] ? g[at] : 0;
            v[at] = fmaf(0.9f, v[at], fmaf(decay[row], p[at], grad));
            terms[i] = fmaxf(rintf(u) - u, lo[row]) * g[at];
            p[at] = fmaf(-0.125f, v[at], p[at]);
        }
        float want = ordered_f32(KACC_SUM, terms, len[row], (len[row] + 4095) / 4096, 64);
        assert_same_f32(&kt_f32(&t, "dstep")[row], &want, 1);
    }
    assert_same_f32(kt_f32(&t, "p"), p, 40688);
    assert_same_f32(kt_f32(&t, "v"), v, 40688);
    kt_free(&t);
}

/* y[2i + u, 2j + v, k] = sum x[i, j, c] f[u, v, c, k] */
static void transposed_conv(void **state)
{
    (void)state;
    KernelTest t = kt_file("transposed_conv");
    float     *x = kt_fill(&t, "x", -1, 1), *f = kt_fill(&t, "f", -1, 1);
    kt_run(&t);
    for (int i = 0; i < 480; i++) {
        int   h = i / 60, w = i / 6 % 10, k = i % 6;
        float y = 0;
        for (int c = 0; c < 3; c++)
            y += x[(h / 2 * 5 + w / 2) * 3 + c] * f[((h % 2 * 2 + w % 2) * 3 + c) * 6 + k];
        assert_same_f32(&kt_f32(&t, "y")[i], &y, 1);
    }
    kt_free(&t);
}

static void concat(void **state)
{
    (void)state;
    KernelTest t = kt_file("concat");
    float     *x0 = kt_fill(&t, "x0", -1, 1), *x2 = kt_fill(&t, "x2", -1, 1), *y = kt_f32(&t, "y");
    for (int i = 0; i < 80; i++)
        kt_u8(&t, "x1")[i] = (uint8_t)(200 - i);
    kt_run(&t);
    for (int i = 0; i < 80; i++) {
        int at = i / 8 * 24 + i % 8;
        assert_true(y[at] == x0[i] && y[at + 8] == (float)(200 - i) && y[at + 16] == x2[i]);
    }
    kt_free(&t);
}

static void drop_connect(void **state)
{
    (void)state;
    KernelTest t = kt_file("drop_connect");
    float     *x = kt_fill(&t, "x", -1, 1), *skip = kt_fill(&t, "skip", -1, 1);
    kt_i32(&t, "seed")[0] = 5;
    kt_i32(&t, "now")[0] = 1000;
    kt_run(&t);
    for (int i = 0; i < 480; i++) {
        bool  keep = rng_u32(5, 77, 1000, (uint64_t)(i / 30)) >= 1u << 30;
        float y = (keep ? x[i] * 1.3333334f : 0) + skip[i];
        assert_same_f32(&kt_f32(&t, "y")[i], &y, 1);
    }
    kt_free(&t);
}

/* A plane is reproduced by linear interpolation, away from the edges: y = x at (o + 1/2) / 2 - 1/2. */
static void bilinear(void **state)
{
    (void)state;
    KernelTest t = kt_file("bilinear");
    float     *x = kt_f32(&t, "x");
    for (int i = 0; i < 24; i++)
        x[i] = (float)(10 * (i / 8) + 3 * (i / 2 % 4) + 100 * (i % 2));
    kt_run(&t);
    for (int i = 0; i < 96; i++) {
        double h = fmin(fmax((i / 16 + 0.5) / 2 - 0.5, 0), 2), w = fmin(fmax((i / 2 % 8 + 0.5) / 2 - 0.5, 0), 3);
        assert_true((double)kt_f32(&t, "y")[i] == 10 * h + 3 * w + 100 * (i % 2));
    }
    kt_free(&t);
}

static void conv4(void **state)
{
    (void)state;
    KernelTest t = kt_file("conv4");
    float     *scale = kt_fill(&t, "scale", 0.01f, 0.1f);
    for (int i = 0; i < 200; i++)
        elem_set(DTYPE_U4, kt_u8(&t, "x"), i, (i * 7) % 16);
    for (int i = 0; i < 1152; i++)
        elem_set(DTYPE_S4, kt_u8(&t, "f"), i, (i * 5) % 16 - 8);
    kt_run(&t);
    for (int i = 0; i < 400; i++) {
        int sum = 0, h = i / 80, w = i / 16 % 5, k = i % 16;
        for (int tap = 0; tap < 72; tap++) {
            int ih = h + tap / 24 - 1, iw = w + tap / 8 % 3 - 1, c = tap % 8;
            if (ih >= 0 && ih < 5 && iw >= 0 && iw < 5)
                sum += ((ih * 5 + iw) * 8 + c) * 7 % 16 * ((tap * 16 + k) * 5 % 16 - 8);
        }
        float y = (float)sum * scale[k];
        assert_same_f32(&kt_f32(&t, "y")[i], &y, 1);
    }
    kt_free(&t);
}

/* ---- Reductions -------------------------------------------------------------------------------------------------- */

static void check_order(KAcc how, int rows, int cols, int chunks, int lanes)
{
    static const char *const names[] = { "sum", "min", "max" };
    char                     text[512];
    snprintf(text, sizeof text,
             "kernel @r { axis a = %d red axis c = 3 par vec axis b = %d red buf x : f32[%d] in buf y : f32[3] out\n"
             "reduce chunks %d lanes %d\n"
             "body { %%0 = load x[%d*a + 3*b + c] %%1 = acc.%s %%0 } final { store y[c], %%1 } }",
             rows, cols, 3 * rows * cols, chunks, lanes, 3 * cols, names[how]);
    KernelTest t = kt_text(text);
    float     *x = kt_fill(&t, "x", -1, 1);
    int        n = rows * cols;
    if (n > 4)
        x[9] = NAN;
    kt_run(&t);
    for (int c = 0; c < 3; c++) {
        float *column = ARENA_ARRAY(&t.arena, float, n + 1);
        for (int r = 0; r < n; r++)
            column[r] = x[3 * r + c];
        float want = ordered_f32(how, column, n, chunks, lanes);
        assert_same_f32(&kt_f32(&t, "y")[c], &want, 1);
    }
    kt_free(&t);
}

static void reduction_order(void **state)
{
    (void)state;
    static const int sizes[][2] = { { 0, 4 }, { 1, 1 }, { 5, 1 }, { 7, 9 }, { 8, 8 }, { 5, 13 }, { 20, 50 } };
    static const int chunks[] = { 1, 3, 7, 64 }, lanes[] = { 1, 2, 8, 64 };
    for (int s = 0; s < DT_COUNT(sizes); s++)
        for (int c = 0; c < DT_COUNT(chunks); c++)
            for (int l = 0; l < DT_COUNT(lanes); l++)
                for (KAcc how = KACC_SUM; how <= KACC_MAX; how++)
                    check_order(how, sizes[s][0], sizes[s][1], chunks[c], lanes[l]);
}

/* The order is visible: the same numbers, other lanes, another sum. */
static void reduction_order_matters(void **state)
{
    (void)state;
    float v[1000];
    for (int i = 0; i < 1000; i++)
        v[i] = rng_uniform(1, 2, 3, (uint64_t)i);
    assert_true(ordered_f32(KACC_SUM, v, 1000, 1, 1) != ordered_f32(KACC_SUM, v, 1000, 4, 64));
}

static void reduction_of_integers(void **state)
{
    (void)state;
    KernelTest t =
        kt_text("kernel @r { axis i = 5 red vec buf x : i32[5] in buf y : i32[3] out reduce chunks 2 lanes 4\n"
                "body { %0 = load x[i] %1 = acc.sum %0 %2 = acc.min %0 %3 = acc.max %0 }\n"
                "final { store y[0], %1 store y[1], %2 store y[2], %3 } }");
    memcpy(kt_i32(&t, "x"), (int32_t[]){ INT32_MAX, 5, -7, 3, 2 }, 20);
    kt_run(&t);
    assert_int_equal(kt_i32(&t, "y")[0], INT32_MIN + 2); /* wraps */
    assert_int_equal(kt_i32(&t, "y")[1], -7);
    assert_int_equal(kt_i32(&t, "y")[2], INT32_MAX);
    kt_free(&t);
}

static void reduction_choice(void **state)
{
    (void)state;
    static const struct {
        int64_t r, c, chunks;
        int32_t lanes, accumulators;
    } cases[] = {
        { 131072, 16, 512, 4, 0 }, { 64, 64, 1, 1, 1 },     { 128, 64, 2, 1, 2 },
        { 128, 48, 2, 2, 1 },      { 409, 10, 1, 8, 1 },    { 4097, 1, 2, 8, 1 },
        { 0, 16, 1, 4, 1 },        { 800, 2304, 25, 1, 2 },                             /* runs of 32 */
        { 1000, 16, 4, 4, 8 },     { 1000, 16, 4, 1, 9 },   { 11552, 288, 116, 1, 25 }, /* runs of 100 */
    };
    KernelTest t = kt_new();
    for (int i = 0; i < DT_COUNT(cases); i++) {
        Kernel *k = kernel_new(&t.arena, "k", "");
        kernel_add_axis(k, "p", cases[i].r, AXIS_RED);
        k->vec = kernel_add_axis(k, "c", cases[i].c, AXIS_PAR);
        KBuilder b = kb_new(k);
        for (int32_t n = 0; n < cases[i].accumulators; n++)
            kb_acc(&b, KACC_SUM, kb_f32(&b, 1));
        kernel_choose_reduction(k);
        assert_int_equal(k->chunks, cases[i].chunks);
        assert_int_equal(k->lanes, cases[i].lanes);
    }
    Kernel *k = kernel_new(&t.arena, "k", "");
    k->vec = kernel_add_axis(k, "i", 100000, AXIS_RED);
    kernel_choose_reduction(k);
    assert_int_equal(k->chunks, 25);
    assert_int_equal(k->lanes, 64);
    kt_free(&t);
}

/* ---- Arithmetic -------------------------------------------------------------------------------------------------- */

/* Runs `op` of two (or one) buffers of one type. */
static KernelTest run_op(const char *op, const char *type, const char *result, int args, const void *x, const void *y,
                         int n)
{
    char text[512];
    snprintf(text, sizeof text,
             "kernel @k { axis i = %d par vec buf x : %s[%d] in buf y : %s[%d] in buf z : %s[%d] out\n"
             "body { %%0 = load x[i] %%1 = load y[i] %%2 = %s %%0%s store z[i], %%2 } }",
             n, type, n, type, n, result, n, op, args == 2 ? ", %1" : "");
    KernelTest t = kt_text(text);
    memcpy(t.bufs[0], x, 4 * (size_t)n);
    memcpy(t.bufs[1], y ? y : x, 4 * (size_t)n);
    kt_run(&t);
    return t;
}

static void check_i32(const char *op, int args, const int32_t *x, const int32_t *y, const int32_t *want, int n)
{
    KernelTest t = run_op(op, "i32", "i32", args, x, y, n);
    for (int i = 0; i < n; i++)
        if (kt_i32(&t, "z")[i] != want[i])
            fail_msg("%s %d, %d: got %d, expected %d", op, x[i], y ? y[i] : 0, kt_i32(&t, "z")[i], want[i]);
    kt_free(&t);
}

static void integer_arithmetic(void **state)
{
    (void)state;
    static const int32_t x[] = { 7, -7, 7, -7, 6, 5, INT32_MIN, INT32_MAX }, y[] = { 2, 2, -2, -2, 3, 0, -1, 1 };
    static const int32_t sum[] = { 9, -5, 5, -9, 9, 5, INT32_MAX, INT32_MIN };
    static const int32_t quotient[] = { 3, -4, -4, 3, 2, 0, INT32_MIN, INT32_MAX };
    static const int32_t rest[] = { 1, 1, -1, -1, 0, 5, 0, 0 };
    check_i32("add", 2, x, y, sum, 8);
    check_i32("div", 2, x, y, quotient, 8);
    check_i32("rem", 2, x, y, rest, 8);
    check_i32("shr", 2, (int32_t[]){ -8, 8, INT32_MIN }, (int32_t[]){ 1, 1, 31 }, (int32_t[]){ -4, 4, -1 }, 3);
    check_i32("shl", 2, (int32_t[]){ 1, 3, -1 }, (int32_t[]){ 31, 33, 4 }, (int32_t[]){ INT32_MIN, 6, -16 }, 3);
    check_i32("neg", 1, (int32_t[]){ INT32_MIN, 4 }, NULL, (int32_t[]){ INT32_MIN, -4 }, 2);
    check_i32("not", 1, (int32_t[]){ 0, 5 }, NULL, (int32_t[]){ -1, -6 }, 2);
}

static void conversions(void **state)
{
    (void)state;
    static const float   f[] = { 1.9f, -1.9f, 3e9f, -3e9f, NAN, INFINITY, 0x1p31f, -0x1p31f };
    static const int32_t i[] = { 1, -1, INT32_MAX, INT32_MIN, 0, INT32_MAX, INT32_MAX, INT32_MIN };
    static const float   u_of[] = { 1.9f, -1.9f, 3e9f, 5e9f, NAN };
    static const int32_t u[] = { 1, 0, (int32_t)3000000000u, -1, 0 };
    KernelTest           t = run_op("cvt.i32", "f32", "i32", 1, f, NULL, 8);
    assert_memory_equal(kt_i32(&t, "z"), i, sizeof i);
    kt_free(&t);
    t = run_op("cvt.u32", "f32", "u32", 1, u_of, NULL, 5);
    assert_memory_equal(kt_i32(&t, "z"), u, sizeof u);
    kt_free(&t);
    t = run_op("cvt.f32", "i32", "f32", 1, (int32_t[]){ 16777217, -16777219 }, NULL, 2);
    assert_true(kt_f32(&t, "z")[0] == 16777216.0f && kt_f32(&t, "z")[1] == -16777220.0f);
    kt_free(&t);
}

static void float_rules(void **state)
{
    (void)state;
    static const float x[] = { NAN, 1, NAN, -0.0f, 0.0f, 3 }, y[] = { 1, NAN, NAN, 0.0f, -0.0f, 2 };
    KernelTest         t = run_op("max", "f32", "f32", 2, x, y, 6);
    assert_same_f32(kt_f32(&t, "z"), (float[]){ 1, 1, NAN, 0.0f, -0.0f, 3 }, 6);
    kt_free(&t);
    t = run_op("min", "f32", "f32", 2, x, y, 6);
    assert_same_f32(kt_f32(&t, "z"), (float[]){ 1, 1, NAN, 0.0f, -0.0f, 2 }, 6);
    kt_free(&t);
    t = run_op("ne", "f32", "b1", 2, x, y, 6);
    assert_int_equal(kt_u8(&t, "z")[0], 0x27);
    kt_free(&t);
    t = run_op("rint", "f32", "f32", 1, (float[]){ 0.5f, 1.5f, -2.5f, 0x1p25f }, NULL, 4);
    assert_same_f32(kt_f32(&t, "z"), (float[]){ 0, 2, -2, 0x1p25f }, 4);
    kt_free(&t);
    t = run_op("mul", "f32", "f32", 2, (float[]){ 0x1p-100f, 0x1p-126f }, (float[]){ 0x1p-40f, 0.5f }, 2);
    assert_same_f32(kt_f32(&t, "z"), (float[]){ 0x1p-140f, 0x1p-127f }, 2); /* denormals are kept */
    kt_free(&t);
}

/* Distance in units of the last place of the wanted float. */
static double ulps(float got, double want)
{
    int exponent;
    if (isnan(want) || isinf((float)want) || isinf(got))
        return isnan(want) ? (isnan(got) ? 0 : 1e9) : (float)want == got ? 0 : 1e9;
    frexp(want, &exponent);
    return fabs((double)got - want) / ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
}

static void check_polynomial(const char *op, double (*libm)(double))
{
    enum { N = 1 << 16, STEP = 8191 };
    static float x[N];
    uint64_t     bits = 0;
    double       worst = 0;
    while (bits < 1ull << 32) {
        for (int i = 0; i < N; i++, bits += STEP) {
            uint32_t u = bits < 1ull << 32 ? (uint32_t)bits : 0;
            memcpy(&x[i], &u, sizeof u);
        }
        KernelTest t = run_op(op, "f32", "f32", 1, x, NULL, N);
        for (int i = 0; i < N; i++)
            worst = fmax(worst, ulps(kt_f32(&t, "z")[i], libm((double)x[i])));
        kt_free(&t);
    }
    if (!(worst < 1.1))
        fail_msg("%s is off by %.3f ulp", op, worst);
}

static void exp_and_log(void **state)
{
    (void)state;
    check_polynomial("exp", exp);
    check_polynomial("log", log);
    static const float x[] = { 0.0f, -0.0f, INFINITY, -INFINITY, NAN, 88.72283f, 88.72284f, -103.97f, -104.1f, 1.0f };
    KernelTest         t = run_op("exp", "f32", "f32", 1, x, NULL, 10);
    assert_same_f32(kt_f32(&t, "z"), (float[]){ 1, 1, INFINITY, 0, NAN }, 5);
    assert_true(isfinite(kt_f32(&t, "z")[5]) && isinf(kt_f32(&t, "z")[6]));
    assert_true(kt_f32(&t, "z")[7] == 0x1p-149f && kt_f32(&t, "z")[8] == 0);
    kt_free(&t);
    static const float v[] = { 0.0f, -0.0f, INFINITY, -INFINITY, NAN, -1.0f, 1.0f, -0x1p-149f };
    t = run_op("log", "f32", "f32", 1, v, NULL, 8);
    assert_same_f32(kt_f32(&t, "z"), (float[]){ -INFINITY, -INFINITY, INFINITY, NAN, NAN, NAN, 0, NAN }, 8);
    kt_free(&t);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static void packing(void **state)
{
    (void)state;
    for (DType t = 0; t < DTYPE_COUNT; t++) {
        uint8_t mem[64 * 4];
        memset(mem, 0xa5, sizeof mem);
        for (int64_t i = 0; i < 64; i++) {
            double before = i < 63 ? elem_get(t, mem, i + 1) : 0;
            double value =
                dtype_is_float(t) ? (double)i : (double)(dtype_min(t) + (3 * i) % (dtype_max(t) - dtype_min(t) + 1));
            elem_set(t, mem, i, value);
            assert_true(elem_get(t, mem, i) == value);
            assert_true(i == 63 || elem_get(t, mem, i + 1) == before || isnan(before));
        }
        if (dtype_is_float(t))
            continue;
        elem_set(t, mem, 3, 1e12);
        assert_true(elem_get(t, mem, 3) == (double)dtype_max(t));
        elem_set(t, mem, 3, -1e12);
        assert_true(elem_get(t, mem, 3) == (double)dtype_min(t));
    }
    uint8_t low_first[2] = { 0 };
    elem_set(DTYPE_U4, low_first, 0, 1);
    elem_set(DTYPE_U4, low_first, 1, 2);
    elem_set(DTYPE_S2, low_first + 1, 3, -1);
    assert_int_equal(low_first[0], 0x21);
    assert_int_equal(low_first[1], 0xc0);
}

static void stores_saturate(void **state)
{
    (void)state;
    static const char *const types[] = { "u8", "s8", "u4", "s4", "u2", "s2" };
    for (int i = 0; i < DT_COUNT(types); i++) {
        DType   t;
        int32_t x[] = { -1000, -2, -1, 0, 1, 2, 300, INT32_MAX };
        assert_true(dtype_parse(types[i], 2, &t));
        KernelTest run = run_op("max", "i32", types[i], 2, x, x, 8);
        for (int j = 0; j < 8; j++) {
            int64_t want = dt_max64(dtype_min(t), dt_min64(dtype_max(t), x[j]));
            assert_true(elem_get(t, run.bufs[2], j) == (double)want);
        }
        kt_free(&run);
    }
}

/* Where a guard is false, nothing is read or written, wherever the address points. */
static void guards(void **state)
{
    (void)state;
    KernelTest t = kt_text("kernel @g { axis i = 9 par vec buf x : f32[4] in buf y : f32[4] inout\n"
                           "body { %0 = index i - 3 %1 = const.i32 0 %2 = ge %0, %1 %3 = const.i32 4 %4 = lt %0, %3\n"
                           "%5 = and %2, %4 %6 = load x[i - 3] if %5 %7 = const.f32 1 %8 = add %6, %7\n"
                           "store y[%0], %8 if %5 } }");
    kt_fill(&t, "x", 2, 3);
    kt_run(&t);
    for (int i = 0; i < 4; i++)
        assert_true(kt_f32(&t, "y")[i] == kt_f32(&t, "x")[i] + 1);
    kt_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bn_apply),
        cmocka_unit_test(bn_stats),
        cmocka_unit_test(lsq_backward),
        cmocka_unit_test(softmax_xent),
        cmocka_unit_test(maxpool),
        cmocka_unit_test(depthwise),
        cmocka_unit_test(depthwise_grads),
        cmocka_unit_test(prepare_weights),
        cmocka_unit_test(optimizer),
        cmocka_unit_test(transposed_conv),
        cmocka_unit_test(concat),
        cmocka_unit_test(drop_connect),
        cmocka_unit_test(bilinear),
        cmocka_unit_test(conv4),
        cmocka_unit_test(reduction_order),
        cmocka_unit_test(reduction_order_matters),
        cmocka_unit_test(reduction_of_integers),
        cmocka_unit_test(reduction_choice),
        cmocka_unit_test(integer_arithmetic),
        cmocka_unit_test(conversions),
        cmocka_unit_test(float_rules),
        cmocka_unit_test(exp_and_log),
        cmocka_unit_test(packing),
        cmocka_unit_test(stores_saturate),
        cmocka_unit_test(guards),
    };
    return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
