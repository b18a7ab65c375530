/* test_body.c: the scalar rule of every op (ir/body*.c; quantizers also in test_quantizers.c), run by the interpreter
 * and compared with plain loops in double, with known answers, and for gradients with what they are the adjoint of. */
#include "tests/unit/body_fixture.h"

/* ---- Element-wise ------------------------------------------------------------------------------------------------ */

static void arithmetic(void **state)
{
    OPEN;
    ValueId x = numbers(&n, (float[]){ 1, -2, 0.5f, NAN }, 4), y = numbers(&n, (float[]){ 3, 4, -8, 2 }, 4);
    ValueId z = numbers(&n, (float[]){ 1, 1, 2, 2 }, 4);
    check(&n, ir_emit(&n.b, OP_ADD, IR_IN(x, y)), (float[]){ 4, 2, -7.5f, NAN }, 0);
    check(&n, ir_emit(&n.b, OP_SUB, IR_IN(x, y)), (float[]){ -2, -6, 8.5f, NAN }, 0);
    check(&n, ir_emit(&n.b, OP_MUL, IR_IN(x, y)), (float[]){ 3, -8, -4, NAN }, 0);
    check(&n, ir_emit(&n.b, OP_AFFINE, IR_IN(x, y, z)), (float[]){ 4, -7, -2, NAN }, 0);
    check(&n, ir_emit(&n.b, OP_AFFINE2, IR_IN(x, y, z, z, y)), (float[]){ 7, -3, -8, NAN }, 0);
    check(&n, ir_emit(&n.b, OP_SCALE, IR_IN(x), AF(SCALE, 0.5)), (float[]){ 0.5f, -1, 0.25f, NAN }, 0);
    check(&n, ir_emit(&n.b, OP_RELU, IR_IN(x)), (float[]){ 1, 0, 0.5f, NAN }, 0);
    check(&n, ir_emit(&n.b, OP_RELU_GRAD, IR_IN(x, y)), (float[]){ 3, 0, -8, 0 }, 0);
    check(&n, ir_const(&n.b, 0.1f), (float[]){ 0.1f }, 0);
    net_free(&n);
}

static void broadcasting(void **state)
{
    OPEN;
    ValueId x = uniform(&n, -1, 1, 2, 3, 2, 2), c = uniform(&n, -1, 1, 3, 0, 0, 0), s = scalar(&n, 2);
    ValueId sum = ir_emit(&n.b, OP_ADD, IR_IN(x, c)), product = ir_emit(&n.b, OP_MUL, IR_IN(x, s));
    run(&n, sum);
    run(&n, product);
    for (int i = 0; i < 24; i++) {
        assert_true(f32_of(&n, sum)[i] == f32_of(&n, x)[i] + f32_of(&n, c)[i / 4 % 3]);
        assert_true(f32_of(&n, product)[i] == f32_of(&n, x)[i] * 2);
    }
    ValueId row = uniform(&n, -1, 1, 2, 3, 0, 0);
    ValueId wide = ir_emit(&n.b, OP_BROADCAST, IR_IN(s), AF(SCALE, 0.25), AI(CHANNELS, 3), AI(COUNT, 2));
    ValueId both = ir_emit(&n.b, OP_ADD, IR_IN(wide, row));
    run(&n, wide);
    run(&n, both);
    for (int i = 0; i < 6; i++)
        assert_true(f32_of(&n, both)[i] == 0.5f + f32_of(&n, row)[i]);
    net_free(&n);
}

static void dropout(void **state)
{
    OPEN;
    ValueId x = uniform(&n, 1, 2, 100, 100, 0, 0), seed = leaf(&n, DTYPE_U32, 0, 0, 0, 0);
    ValueId step = leaf(&n, DTYPE_U32, 0, 0, 0, 0);
    int     dropped = 0;
    elem_set(DTYPE_U32, n.mem[seed], 0, 4000000000.0);
    elem_set(DTYPE_U32, n.mem[step], 0, 17);
    ValueId y = ir_emit(&n.b, OP_DROPOUT, IR_IN(x, seed, step), AF(P, 0.3), AI(STREAM, 99));
    run(&n, y);
    for (uint32_t i = 0; i < 10000; i++) {
        bool keep = rng_u32(4000000000u, 99, 17, i) >= (uint32_t)(0.3 * 4294967296.0);
        dropped += !keep;
        assert_true(f32_of(&n, y)[i] == (keep ? f32_of(&n, x)[i] * (float)(1 / 0.7) : 0));
    }
    /* five standard deviations around 3000 */
    assert_true(dropped > 2770 && dropped < 3230);
    net_free(&n);
}

/* ---- Quantizers -------------------------------------------------------------------------------------------------- */

#define LSQ AI(LO, -2), AI(HI, 1)

/* Codes -2..1 at step 0.5: the numbers of the paper's formula, bounds included. */
static void lsq(void **state)
{
    OPEN;
    static const float v[] = { -2.0f, -1.2f, -0.8f, 0.26f, 0.45f, 0.6f, 0.9f, -1.0f, 0.5f, 0.25f, -0.25f };
    static const float q[] = { -1, -1, -1, 0.5f, 0.5f, 0.5f, 0.5f, -1, 0.5f, 0, 0 };
    static const float mask[] = { 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1 };
    static const float ds[] = { -2, -2, -0.4f, 0.48f, 0.1f, 1, 1, -2, 1, -0.5f, 0.5f };
    ValueId            x = numbers(&n, v, 11), step = scalar(&n, 0.5f), g = uniform(&n, -1, 1, 11, 0, 0, 0);
    double             sum = 0;
    float              dx[11];
    for (int i = 0; i < 11; i++) {
        dx[i] = mask[i] * f32_of(&n, g)[i];
        sum += (double)(ds[i] * f32_of(&n, g)[i]);
    }
    check(&n, ir_emit(&n.b, OP_QDQ, IR_IN(x, step), LSQ, AI(BITS, 2)), q, 0);
    check(&n, ir_emit(&n.b, OP_QDQ_GRAD_X, IR_IN(x, step, g), LSQ), dx, 0);
    check(&n, ir_emit(&n.b, OP_LSQ_GRAD_STEP, IR_IN(x, step, g), LSQ, AF(SCALE, 0.25)), (float[]){ (float)(sum / 4) },
          1e-6);
    net_free(&n);
}

static void quantizing_nan(void **state)
{
    OPEN;
    ValueId x = numbers(&n, (float[]){ NAN, INFINITY, -INFINITY }, 3), step = scalar(&n, 0.5f);
    check(&n, ir_emit(&n.b, OP_QDQ, IR_IN(x, step), AI(LO, -8), AI(HI, 7), AI(BITS, 4)), (float[]){ 0, 3.5f, -4 }, 0);
    check(&n, ir_emit(&n.b, OP_QDQ_GRAD_X, IR_IN(x, step, x), AI(LO, -8), AI(HI, 7)), (float[]){ 0, 0, 0 }, 0);
    net_free(&n);
}

static void lsq_init(void **state)
{
    OPEN;
    ValueId mean = scalar(&n, 0.3f), most = scalar(&n, 1.9f), zero = scalar(&n, 0);
    check(&n, ir_emit(&n.b, OP_LSQ_INIT, IR_IN(mean, most), AI(HI, 7), AI(BITS, 4)),
          (float[]){ (float)(0.6 / sqrt(7)) }, 1e-7);
    check(&n, ir_emit(&n.b, OP_LSQ_INIT, IR_IN(mean, most), AI(HI, 127), AI(BITS, 8)), (float[]){ 1.9f / 127 }, 0);
    check(&n, ir_emit(&n.b, OP_LSQ_INIT, IR_IN(zero, zero), AI(HI, 7), AI(BITS, 4)), (float[]){ 1e-8f }, 0);
    net_free(&n);
}

/* ---- Reductions -------------------------------------------------------------------------------------------------- */

static void reductions(void **state)
{
    OPEN;
    ValueId x = uniform(&n, -1, 1, 4, 3, 5, 2), y = uniform(&n, -1, 1, 4, 3, 5, 2);
    double  all = 0, dot[3] = { 0 }, absolute = 0, most = 0, image[12] = { 0 };
    for (int i = 0; i < 120; i++) {
        double a = at(&n, x, i);
        all += a;
        absolute += fabs(a);
        most = fmax(most, fabs(a));
        dot[i / 10 % 3] += a * at(&n, y, i);
        image[i / 10] += a;
    }
    ValueId v = ir_emit(&n.b, OP_REDUCE_SUM, IR_IN(x), AF(SCALE, 2));
    run(&n, v);
    assert_near(at(&n, v, 0), 2 * all, 1e-6);
    v = ir_emit(&n.b, OP_REDUCE_ABS, IR_IN(x), AF(SCALE, 1.0 / 120));
    run(&n, v);
    assert_near(at(&n, v, 0), absolute / 120, 1e-6);
    v = ir_emit(&n.b, OP_REDUCE_MAXABS, IR_IN(x));
    run(&n, v);
    assert_true(at(&n, v, 0) == most);
    v = ir_emit(&n.b, OP_REDUCE_MAX, IR_IN(x), AT(KEEP, "o"));
    ValueId least = ir_emit(&n.b, OP_REDUCE_MIN, IR_IN(x), AT(KEEP, "o"), AF(SCALE, 2));
    run(&n, v);
    run(&n, least);
    for (int o = 0; o < 4; o++) {
        double high = -INFINITY, low = INFINITY;
        for (int i = 30 * o; i < 30 * o + 30; i++) {
            high = fmax(high, at(&n, x, i));
            low = fmin(low, at(&n, x, i));
        }
        assert_true(at(&n, v, o) == high && at(&n, least, o) == 2 * low);
    }
    v = ir_emit(&n.b, OP_REDUCE_DOT, IR_IN(x, y), AT(KEEP, "c"));
    run(&n, v);
    for (int c = 0; c < 3; c++)
        assert_near(at(&n, v, c), dot[c], 1e-6);
    v = ir_emit(&n.b, OP_REDUCE_SUM, IR_IN(x), AT(KEEP, "nc"));
    ValueId mean = ir_emit(&n.b, OP_GLOBAL_AVGPOOL, IR_IN(x));
    run(&n, v);
    run(&n, mean);
    for (int i = 0; i < 12; i++) {
        assert_near(at(&n, v, i), image[i], 1e-6);
        assert_near(at(&n, mean, i), image[i] / 10, 1e-6);
    }
    net_free(&n);
}

/* Forward: zero mean and unit variance. Backward: dx from the primitives against the textbook form in double. */
static void batch_norm(void **state)
{
    OPEN;
    enum { C = 3, HW = 20, N = 4, M = N * HW };
    const double eps = 1e-5;
    ValueId      x = uniform(&n, 4, 6, N, C, 4, 5), dy = uniform(&n, -1, 1, N, C, 4, 5),
            shift = uniform(&n, 4, 6, C, 0, 0, 0);
    ValueId gamma = uniform(&n, 0.5f, 2, C, 0, 0, 0), beta = uniform(&n, -1, 1, C, 0, 0, 0);
    ValueId mean = ir_emit(&n.b, OP_BN_MEAN, IR_IN(x, shift)), var = ir_emit(&n.b, OP_BN_VAR, IR_IN(x, shift));
    ValueId a = ir_emit(&n.b, OP_BN_SCALE, IR_IN(gamma, var)), b = ir_emit(&n.b, OP_BN_SHIFT, IR_IN(beta, mean, a));
    ValueId y = ir_emit(&n.b, OP_AFFINE, IR_IN(x, a, b));
    ValueId dot = ir_emit(&n.b, OP_BN_DGAMMA, IR_IN(dy, x, mean)),
            dbeta = ir_emit(&n.b, OP_REDUCE_SUM, IR_IN(dy), AT(KEEP, "c"));
    ValueId dgamma = ir_emit(&n.b, OP_RSQRT_MUL, IR_IN(dot, var));
    ValueId kx = ir_emit(&n.b, OP_BN_GRAD_X, IR_IN(var, a, dot), AI(COUNT, M));
    ValueId k1 = ir_emit(&n.b, OP_BN_GRAD_1, IR_IN(a, dbeta, kx, mean), AI(COUNT, M));
    ValueId dx = ir_emit(&n.b, OP_AFFINE2, IR_IN(dy, a, x, kx, k1));
    for (ValueId v = mean; v <= dx; v++)
        run(&n, v);
    for (int c = 0; c < C; c++) {
        double m = 0, s = 0, db = 0, dg = 0;
        for (int i = 0; i < M; i++)
            m += at(&n, x, i / HW * C * HW + c * HW + i % HW) / M;
        for (int i = 0; i < M; i++)
            s += pow(at(&n, x, i / HW * C * HW + c * HW + i % HW) - m, 2) / M;
        double r = 1 / sqrt(s + eps);
        for (int i = 0; i < M; i++) {
            int64_t at_i = i / HW * C * HW + c * HW + i % HW;
            db += at(&n, dy, at_i);
            dg += at(&n, dy, at_i) * (at(&n, x, at_i) - m) * r;
            assert_near(at(&n, y, at_i), at(&n, gamma, c) * (at(&n, x, at_i) - m) * r + at(&n, beta, c), 1e-5);
        }
        assert_near(at(&n, mean, c), m, 1e-6);
        assert_near(at(&n, var, c), s, 1e-5);
        assert_near(at(&n, dgamma, c), dg, 1e-5);
        for (int i = 0; i < M; i++) {
            int64_t at_i = i / HW * C * HW + c * HW + i % HW;
            double  hat = (at(&n, x, at_i) - m) * r;
            assert_near(at(&n, dx, at_i), at(&n, gamma, c) * r * (at(&n, dy, at_i) - db / M - hat * dg / M), 1e-5);
        }
    }
    net_free(&n);
}

/* A constant channel: the variance is 0 and not a little less. */
static void variance_is_not_negative(void **state)
{
    OPEN;
    ValueId x = leaf(&n, DTYPE_F32, 100, 1, 1, 1), shift = scalar(&n, 0), v;
    Type    one = { .dtype = DTYPE_F32, .shape = shape_of(1, (int64_t[]){ 1 }) };
    (void)shift;
    shift = ir_leaf(&n.b, OP_INPUT, "shift", one, NULL, 0);
    give_memory(&n, shift);
    for (int i = 0; i < 100; i++)
        f32_of(&n, x)[i] = 1.1f;
    v = ir_emit(&n.b, OP_BN_VAR, IR_IN(x, shift));
    run(&n, v);
    assert_true(at(&n, v, 0) >= 0 && at(&n, v, 0) < 1e-6);
    net_free(&n);
}

/* ---- Optimizer --------------------------------------------------------------------------------------------------- */

static void optimizer(void **state)
{
    OPEN;
    ValueId p = numbers(&n, (float[]){ 1, -2 }, 2), g = numbers(&n, (float[]){ 0.5f, 1 }, 2);
    ValueId v = numbers(&n, (float[]){ 2, 4 }, 2), lr = scalar(&n, 0.25f);
    ValueId now = ir_emit(&n.b, OP_SGD_VELOCITY, IR_IN(v, g, p), AF(MOMENTUM, 0.5), AF(DECAY, 0.125));
    check(&n, now, (float[]){ 1.625f, 2.75f }, 0);
    check(&n, ir_emit(&n.b, OP_SGD_STEP, IR_IN(p, g, now, lr)), (float[]){ 0.59375f, -2.6875f }, 0);
    check(&n, ir_emit(&n.b, OP_SGD_STEP, IR_IN(p, g, now, lr), AF(FLOOR, 0.75)), (float[]){ 0.75f, 0.75f }, 0);
    check(&n, ir_emit(&n.b, OP_SGD_STEP, IR_IN(p, g, now, lr), AF(MOMENTUM, 0.5), AF(DECAY, 0.125), AI(NESTEROV, 1)),
          (float[]){ 0.640625f, -2.53125f }, 0);
    check(&n, ir_emit(&n.b, OP_EMA, IR_IN(p, v), AF(MOMENTUM, 0.25), AF(SCALE, 2)), (float[]){ 1.75f, 0.5f }, 0);
    net_free(&n);
}

/* ---- Rows of classes --------------------------------------------------------------------------------------------- */

static void cross_entropy(void **state)
{
    OPEN;
    enum { N = 5, C = 7 };
    ValueId x = uniform(&n, -30, 30, N, C, 0, 0), label = leaf(&n, DTYPE_I32, N, 1, 0, 0), g = scalar(&n, 0.5f);
    for (int i = 0; i < N; i++)
        ((int32_t *)n.mem[label])[i] = (4 * i) % C;
    ValueId lse = ir_emit(&n.b, OP_LOGSUMEXP, IR_IN(x)), pick = ir_emit(&n.b, OP_PICK, IR_IN(x, label));
    run(&n, lse);
    run(&n, pick);
    ValueId dx = ir_emit(&n.b, OP_XENT_GRAD, IR_IN(x, lse, label, g), AF(SCALE, 1.0 / N));
    run(&n, dx);
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int c = 0; c < C; c++)
            sum += exp(at(&n, x, C * i + c));
        assert_near(at(&n, lse, i), log(sum), 1e-6);
        assert_true(at(&n, pick, i) == at(&n, x, C * i + 4 * i % C));
        for (int c = 0; c < C; c++)
            assert_near(at(&n, dx, C * i + c), (exp(at(&n, x, C * i + c)) / sum - (c == 4 * i % C)) * 0.5 / N, 2e-6);
    }
    net_free(&n);
}

static void correct(void **state)
{
    OPEN;
    static const float   rows[] = { 1, 2, 3, 3, 2, 3, 3, 1, NAN, NAN, 5, 1, 1, 2, 3, INFINITY, 0, 1 };
    static const int32_t labels[] = { 2, 2, 1, 1, 7, 0 };
    ValueId              x = leaf(&n, DTYPE_F32, 6, 3, 0, 0), label = leaf(&n, DTYPE_I32, 6, 1, 0, 0);
    memcpy(n.mem[x], rows, sizeof rows);
    memcpy(n.mem[label], labels, sizeof labels);
    check(&n, ir_emit(&n.b, OP_CORRECT, IR_IN(x, label)), (float[]){ 1, 1, 0, 0, 0, 1 }, 0);
    check(&n, ir_emit(&n.b, OP_PICK, IR_IN(x, label)), (float[]){ 3, 3, 1, 5, 0, INFINITY }, 0);
    net_free(&n);
}

/* ---- Windows ----------------------------------------------------------------------------------------------------- */

typedef struct Pool {
    int kernel, stride, top, left, bottom, right, h, w;
} Pool;

static const Pool pools[] = {
    { 2, 2, 0, 0, 0, 0, 8, 6 }, { 2, 2, 0, 0, 0, 0, 7, 5 }, { 3, 2, 1, 1, 1, 1, 7, 6 },
    { 3, 1, 1, 1, 1, 1, 5, 5 }, { 3, 2, 0, 0, 0, 0, 9, 8 }, { 2, 3, 0, 0, 0, 0, 9, 8 },
    { 5, 2, 2, 1, 0, 2, 9, 7 }, { 3, 3, 1, 0, 2, 1, 8, 8 }, { 4, 1, 0, 3, 3, 0, 6, 4 },
};

/* Taps of window (oh, ow) that lie in the image; their elements. */
static int window(const Pool *p, int oh, int ow, int tap[64], int element[64])
{
    int count = 0;
    for (int k = 0; k < p->kernel * p->kernel; k++) {
        int h = oh * p->stride - p->top + k / p->kernel, w = ow * p->stride - p->left + k % p->kernel;
        if (h < 0 || h >= p->h || w < 0 || w >= p->w)
            continue;
        tap[count] = k;
        element[count++] = h * p->w + w;
    }
    return count;
}

#define POOL AI(KERNEL, p->kernel), AI(STRIDE, p->stride), AP(PAD, p->top, p->left, p->bottom, p->right)

static void check_pool(const Pool *p, void **state)
{
    OPEN;
    enum { PLANES = 6 };
    ValueId x = uniform(&n, -1, 1, 2, 3, p->h, p->w);
    f32_of(&n, x)[0] = f32_of(&n, x)[1] = 2; /* a tie */
    f32_of(&n, x)[p->w * p->h] = NAN;
    ValueId most = ir_emit(&n.b, OP_MAXPOOL, IR_IN(x), POOL), tap = ir_emit(&n.b, OP_MAXPOOL_TAP, IR_IN(x), POOL);
    ValueId mean = ir_emit(&n.b, OP_AVGPOOL, IR_IN(x), POOL);
    run(&n, most);
    run(&n, tap);
    run(&n, mean);
    int64_t oh = type_of(&n, most).shape.dim[2], ow = type_of(&n, most).shape.dim[3];
    ValueId g = uniform(&n, -1, 1, 2, 3, oh, ow);
    ValueId dmax = ir_emit(&n.b, OP_MAXPOOL_GRAD, IR_IN(tap, g), POOL, AI(H, p->h), AI(W, p->w));
    ValueId davg = ir_emit(&n.b, OP_AVGPOOL_GRAD, IR_IN(g), POOL, AI(H, p->h), AI(W, p->w));
    run(&n, dmax);
    run(&n, davg);
    double *want_max = ARENA_ARRAY(&n.arena, double, PLANES * p->h * p->w);
    double *want_avg = ARENA_ARRAY(&n.arena, double, PLANES * p->h * p->w);
    for (int i = 0; i < PLANES * oh * ow; i++) {
        int    taps[64], element[64], plane = i / (int)(oh * ow), first = -1;
        int    count = window(p, i / (int)ow % (int)oh, i % (int)ow, taps, element), at_plane = plane * p->h * p->w;
        double best = -INFINITY, sum = 0;
        for (int k = 0; k < count; k++) {
            double v = at(&n, x, at_plane + element[k]);
            sum += v;
            if (!(v > best))
                continue;
            best = v;
            first = k;
        }
        assert_true(at(&n, most, i) == best);
        assert_true(at(&n, tap, i) == (first < 0 ? 255 : taps[first]));
        assert_near(at(&n, mean, i), sum / count, 1e-6);
        if (first >= 0)
            want_max[at_plane + element[first]] += at(&n, g, i);
        for (int k = 0; k < count; k++)
            want_avg[at_plane + element[k]] += at(&n, g, i) / count;
    }
    for (int i = 0; i < PLANES * p->h * p->w; i++) {
        assert_near(at(&n, dmax, i), want_max[i], 1e-6);
        assert_near(at(&n, davg, i), want_avg[i], 1e-6);
    }
    net_free(&n);
}

static void pooling(void **state)
{
    for (int i = 0; i < DT_COUNT(pools); i++)
        check_pool(&pools[i], state);
}

/* Forward by index; backward because <g, f(x)> = <f'(g), x> for a linear f. */
static void check_shortcut(int channels, int to, int stride, int h, int w, void **state)
{
    OPEN;
    ValueId x = uniform(&n, -1, 1, 2, channels, h, w);
    ValueId y = ir_emit(&n.b, OP_SHORTCUT_A, IR_IN(x), AI(STRIDE, stride), AI(CHANNELS, to));
    run(&n, y);
    int64_t oh = type_of(&n, y).shape.dim[2], ow = type_of(&n, y).shape.dim[3];
    ValueId g = uniform(&n, -1, 1, 2, to, oh, ow);
    ValueId dx =
        ir_emit(&n.b, OP_SHORTCUT_A_GRAD, IR_IN(g), AI(STRIDE, stride), AI(CHANNELS, channels), AI(H, h), AI(W, w));
    run(&n, dx);
    double there = 0, back = 0;
    for (int64_t i = 0; i < elems_of(&n, y); i++) {
        int64_t c = i / (oh * ow) % to - (to - channels) / 2, row = i / ow % oh * stride, col = i % ow * stride;
        int64_t from = ((i / (oh * ow * to) * channels + c) * h + row) * w + col;
        assert_true(at(&n, y, i) == (c < 0 || c >= channels ? 0 : at(&n, x, from)));
        there += at(&n, g, i) * at(&n, y, i);
    }
    for (int64_t i = 0; i < elems_of(&n, x); i++)
        back += at(&n, dx, i) * at(&n, x, i);
    assert_near(back, there, 1e-9);
    net_free(&n);
}

static void shortcuts(void **state)
{
    check_shortcut(4, 8, 2, 6, 8, state);
    check_shortcut(3, 8, 2, 5, 7, state);
    check_shortcut(4, 4, 2, 6, 6, state);
    check_shortcut(4, 7, 1, 3, 4, state);
}

static void relayout(void **state)
{
    OPEN;
    ValueId x = uniform(&n, -1, 1, 2, 3, 4, 5), y = ir_emit(&n.b, OP_RELAYOUT, IR_IN(x));
    run(&n, y);
    for (int i = 0; i < 120; i++) {
        int c = i / 20 % 3, pixel = i / 60 * 20 + i % 20;
        assert_true(f32_of(&n, y)[3 * pixel + c] == f32_of(&n, x)[i]);
    }
    ValueId back = ir_emit(&n.b, OP_RELAYOUT, IR_IN(y));
    check(&n, back, f32_of(&n, x), 0);
    net_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic), cmocka_unit_test(broadcasting),   cmocka_unit_test(dropout),
        cmocka_unit_test(lsq),        cmocka_unit_test(quantizing_nan), cmocka_unit_test(lsq_init),
        cmocka_unit_test(reductions), cmocka_unit_test(batch_norm),     cmocka_unit_test(variance_is_not_negative),
        cmocka_unit_test(optimizer),  cmocka_unit_test(cross_entropy),  cmocka_unit_test(correct),
        cmocka_unit_test(pooling),    cmocka_unit_test(shortcuts),      cmocka_unit_test(relayout),
    };
    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
