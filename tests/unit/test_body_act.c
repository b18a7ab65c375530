/* test_body_act.c: the scalar rules of activations, masks and losses (ir/body_act.c, ir/body_loss.c) against known
 * answers, against doubles over all floats, and at the ends of the number range. */
#include "tests/unit/body_fixture.h"

/* ---- Activations --------------------------------------------------------------------------------------------------
 */

static void piecewise(void **state)
{
    OPEN;
    static const float in[] = { -10, -3, -1.5f, -0.0f, 0, 1, 3, 6, 7, NAN, INFINITY, -INFINITY };
    const int64_t      count = DT_COUNT(in);
    ValueId            x = numbers(&n, in, count);
    ValueId            g = numbers(&n, (float[]){ 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2 }, count);
    check(&n, ir_emit(&n.b, OP_RELU6, IR_IN(x)), (float[]){ 0, 0, 0, -0.0f, 0, 1, 3, 6, 6, NAN, 6, 0 }, 0);
    check(&n, ir_emit(&n.b, OP_RELU6_GRAD, IR_IN(x, g)), (float[]){ 0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0 }, 0);
    check(&n, ir_emit(&n.b, OP_LEAKY_RELU, IR_IN(x), AF(SLOPE, 0.25)),
          (float[]){ -2.5f, -0.75f, -0.375f, 0, 0, 1, 3, 6, 7, NAN, INFINITY, -INFINITY }, 0);
    check(&n, ir_emit(&n.b, OP_LEAKY_RELU_GRAD, IR_IN(x, g), AF(SLOPE, 0.25)),
          (float[]){ 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 2, 2, 2, 2, 0.5f, 2, 0.5f }, 0);
    check(&n, ir_emit(&n.b, OP_HARD_SIGMOID, IR_IN(x)),
          (float[]){ 0, 0, 0.25f, 0.5f, 0.5f, 2 / 3.0f, 1, 1, 1, NAN, 1, 0 }, 1e-7);
    check(&n, ir_emit(&n.b, OP_HARD_SWISH, IR_IN(x)),
          (float[]){ 0, 0, -0.375f, 0, 0, 2 / 3.0f, 3, 6, 7, NAN, INFINITY, NAN }, 1e-7);
    check(&n, ir_emit(&n.b, OP_HARD_SWISH_GRAD, IR_IN(x, g)), (float[]){ 0, 0, 0, 1, 1, 5 / 3.0f, 2, 2, 2, 0, 2, 0 },
          1e-7);
    net_free(&n);
}

/* From 3 on nothing is rounded: hard_swish is x itself. */
static void hard_swish_is_exact_above(void **state)
{
    OPEN;
    ValueId x = uniform(&n, 3, 1000, 1000, 0, 0, 0), y = ir_emit(&n.b, OP_HARD_SWISH, IR_IN(x));
    ValueId gate = ir_emit(&n.b, OP_HARD_SIGMOID, IR_IN(x));
    run(&n, y);
    run(&n, gate);
    for (int64_t i = 0; i < 1000; i++) {
        assert_true(f32_of(&n, y)[i] == f32_of(&n, x)[i]);
        assert_true(f32_of(&n, gate)[i] == 1);
    }
    net_free(&n);
}

/* The distance of floats around |x|. */
static double ulp(double x)
{
    int exponent;
    frexp(x, &exponent);
    return ldexp(1, exponent - 24);
}

static double double_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
static double double_silu(double x)
{
    return x / (1 + exp(-x));
}
static double double_silu_slope(double x)
{
    double s = double_sigmoid(x);
    return s + double_silu(x) * double_sigmoid(-x);
}

/* The largest error over every 1021st float: in ulps where the result is at least `least`; what is smaller may be off
 * by as much as that, or with `absolute` by ulps of `least`. */
static double worst_error(OpCode op, double (*f)(double), double least, bool absolute)
{
    enum { COUNT = 1 << 22, EVERY = 1021 };
    Net    n = net_new();
    double worst = 0;
    net_open(&n);
    ValueId x = leaf(&n, DTYPE_F32, COUNT, 0, 0, 0), g = leaf(&n, DTYPE_F32, COUNT, 0, 0, 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t bits = i * EVERY;
        memcpy(f32_of(&n, x) + i, &bits, sizeof bits);
        if (!isfinite(f32_of(&n, x)[i]))
            f32_of(&n, x)[i] = 0;
        f32_of(&n, g)[i] = 1;
    }
    ValueId y = op == OP_SILU_GRAD ? ir_emit(&n.b, op, IR_IN(x, g)) : ir_emit(&n.b, op, IR_IN(x));
    run(&n, y);
    for (int64_t i = 0; i < COUNT; i++) {
        double want = f((double)f32_of(&n, x)[i]), got = (double)f32_of(&n, y)[i];
        assert_true(isfinite(got)); /* of no finite x a NaN */
        if (absolute || fabs(want) >= least)
            worst = fmax(worst, fabs(got - want) / ulp(fmax(fabs(want), least)));
        else
            assert_true(fabs(got - want) < least);
    }
    net_free(&n);
    return worst;
}

/* The bounds are what was measured, rounded up; exp(-x) overflows at -88.7, where sigmoid is 2^-128 and silu 2^-121;
 * below -87.3 sigmoid is denormal. */
static void accuracy(void **state)
{
    (void)state;
    assert_true(worst_error(OP_SIGMOID, double_sigmoid, 0x1p-126, false) < 2.1);
    assert_true(worst_error(OP_SILU, double_silu, 0x1p-119, false) < 2.4);
    assert_true(worst_error(OP_SILU_GRAD, double_silu_slope, 1, true) < 8.2);
}

/* ---- Masks --------------------------------------------------------------------------------------------------------
 */

static void sample_mask(void **state)
{
    OPEN;
    enum { SAMPLES = 10000 };
    ValueId seed = leaf(&n, DTYPE_U32, 0, 0, 0, 0), step = leaf(&n, DTYPE_U32, 0, 0, 0, 0);
    int     dropped = 0;
    elem_set(DTYPE_U32, n.mem[seed], 0, 4000000000.0);
    elem_set(DTYPE_U32, n.mem[step], 0, 17);
    ValueId y = ir_emit(&n.b, OP_SAMPLE_MASK, IR_IN(seed, step), AI(COUNT, SAMPLES), AF(P, 0.2), AI(STREAM, 99));
    run(&n, y);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        bool keep = rng_u32(4000000000u, 99, 17, i) >= (uint32_t)(0.2 * 4294967296.0);
        dropped += !keep;
        assert_true(f32_of(&n, y)[i] == (keep ? 1.25f : 0));
    }
    /* five standard deviations around 2000 */
    assert_true(dropped > 1800 && dropped < 2200);
    net_free(&n);
}

/* ---- Losses -------------------------------------------------------------------------------------------------------
 */

/* CBDNet's own example: too low an estimate weighs 0.7, too high a one 0.3; where nothing is known there is no loss,
 * but the element counts. */
static void asymmetric(void **state)
{
    OPEN;
    ValueId x = numbers(&n, (float[]){ 0.05f, 0.15f, 0.5f, 0.1f }, 4);
    ValueId s = numbers(&n, (float[]){ 0.1f, 0.1f, -1, 0.1f }, 4), g = scalar(&n, 2);
    float   loss = (0.7f * 0.0025f + 0.3f * 0.0025f) / 4;
    check(&n, ir_emit(&n.b, OP_REDUCE_ASYMMETRIC, IR_IN(x, s), AF(SCALE, 0.25)), &loss, 1e-9);
    check(&n, ir_emit(&n.b, OP_ASYMMETRIC_GRAD, IR_IN(x, s, g), AF(SCALE, 0.25)),
          (float[]){ -0.7f * 0.05f, 0.3f * 0.05f, 0, 0 }, 1e-8);
    net_free(&n);
}

static void distances(void **state)
{
    OPEN;
    ValueId x = numbers(&n, (float[]){ 1, 2, 3, 0 }, 4), t = numbers(&n, (float[]){ 1, 5, -1, 0.003f }, 4);
    ValueId g = scalar(&n, 4);
    float   sum = 0.001f + 3 + 4 + sqrtf(1e-5f);
    check(&n, ir_emit(&n.b, OP_L1_GRAD, IR_IN(x, t, g), AF(SCALE, 0.25)), (float[]){ 0, -1, 1, -1 }, 0);
    check(&n, ir_emit(&n.b, OP_REDUCE_CHARBONNIER, IR_IN(x, t)), &sum, 1e-6);
    check(&n, ir_emit(&n.b, OP_CHARBONNIER_GRAD, IR_IN(x, t, g), AF(SCALE, 0.25)),
          (float[]){ 0, -1, 1, -0.003f / sqrtf(1e-5f) }, 1e-6);
    net_free(&n);
}

/* Two images of 2 x 3: three pairs in columns, four in rows, each. */
static void total_variation(void **state)
{
    OPEN;
    static const float in[] = { 0, 1, 3, 2, 2, 2, 5, 5, 5, 5, 5, 9 };
    ValueId            x = leaf(&n, DTYPE_F32, 2, 1, 2, 3);
    memcpy(n.mem[x], in, sizeof in);
    ValueId each = ir_emit(&n.b, OP_TV_EACH, IR_IN(x)), slope = ir_emit(&n.b, OP_TV_GRAD, IR_IN(x));
    double  columns = (4 + 1 + 1 + 0 + 0 + 16) / 6.0, rows = (1 + 4 + 0 + 0 + 0 + 0 + 0 + 16) / 8.0, sum = 0;
    run(&n, each);
    run(&n, slope);
    for (int64_t i = 0; i < 12; i++)
        sum += at(&n, each, i);
    assert_near(sum, columns + rows, 1e-6);
    assert_near(at(&n, slope, 0), -2 * 2 / 6.0 - 2 * 1 / 8.0, 1e-6);
    assert_near(at(&n, slope, 1), -2 * 1 / 6.0 + 2 * (1 - 2) / 8.0, 1e-6);
    assert_near(at(&n, slope, 11), 2 * 4 / 6.0 + 2 * 4 / 8.0, 1e-6);
    net_free(&n);
}

/* Among the k largest; a NaN is larger than all, a label out of range is never right. */
static void correct_among(void **state)
{
    OPEN;
    static const float   rows[] = { 1, 2, 3, 4, 1, 2, 3, 4, 4, 4, 4, 4, NAN, 2, 1, 0, 1, NAN, 3, 2, 1, 2, 3, 4 };
    static const int32_t labels[] = { 2, 1, 0, 1, 1, 4 };
    ValueId              x = leaf(&n, DTYPE_F32, 6, 4, 0, 0), label = leaf(&n, DTYPE_I32, 6, 1, 0, 0);
    memcpy(n.mem[x], rows, sizeof rows);
    memcpy(n.mem[label], labels, sizeof labels);
    check(&n, ir_emit(&n.b, OP_CORRECT, IR_IN(x, label), AI(K, 2)), (float[]){ 1, 0, 1, 1, 0, 0 }, 0);
    check(&n, ir_emit(&n.b, OP_CORRECT, IR_IN(x, label), AI(K, 1)), (float[]){ 0, 0, 1, 0, 0, 0 }, 0);
    check(&n, ir_emit(&n.b, OP_CORRECT, IR_IN(x, label), AI(K, 4)), (float[]){ 1, 1, 1, 1, 0, 0 }, 0);
    net_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(piecewise),       cmocka_unit_test(hard_swish_is_exact_above),
        cmocka_unit_test(accuracy),        cmocka_unit_test(sample_mask),
        cmocka_unit_test(asymmetric),      cmocka_unit_test(distances),
        cmocka_unit_test(total_variation), cmocka_unit_test(correct_among),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
