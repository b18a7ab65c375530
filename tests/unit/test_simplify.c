/* test_simplify.c: canonicalize and simplify on small graphs: what must go goes, and what is not exact in IEEE stays.
 */
#include "tests/unit/pass_fixture.h"

#include "passes/algebra.h"

#include <math.h>

static Graph *run(Fixture *f, const char *body, const char *flags)
{
    Graph *g = fixture_graph(f, arena_printf(&f->a,
                                             "graph @t.eval {\n  %%0 = input \"x\" : f32[2x3x4x4]\n"
                                             "  %%1 = input \"y\" : f32[2x3x4x4]\n%s}\n",
                                             body));
    if (!fixture_run(f, g, flags))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* What the output "z" reads. */
static ValueId result(const Graph *g)
{
    return ir_value(g, ir_find(g, "z"))->in[0];
}

#define CANONICALIZE "--passes=canonicalize --verify=all --verify-changed"
#define SIMPLIFY "--passes=simplify --verify=all --verify-changed"
#define T4 " : f32[2x3x4x4]\n"

static void test_removed(void **state)
{
    static const char *const bodies[] = {
        "  %2 = scale %0" T4 "  output %2 \"z\"\n",
        "  %2 = reshape %0 {channels=3, h=4, w=4}" T4 "  output %2 \"z\"\n",
        "  %2 = shortcut_a %0 {channels=3}" T4 "  output %2 \"z\"\n",
        "  %2 = const {value=1} : f32[]\n  %3 = mul %0, %2" T4 "  output %3 \"z\"\n",
        "  %2 = const {value=1} : f32[]\n  %3 = mul %2, %0" T4 "  output %3 \"z\"\n",
        "  %2 = const {value=-0} : f32[]\n  %3 = add %0, %2" T4 "  output %3 \"z\"\n",
        "  %2 = const {value=0} : f32[]\n  %3 = sub %0, %2" T4 "  output %3 \"z\"\n",
        "  %2 = reshape %0 {channels=48} : f32[2x48]\n  %3 = reshape %2 {channels=3, h=4, w=4}" T4
        "  output %3 \"z\"\n",
    };
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(bodies); i++) {
        Graph *g = run(f, bodies[i], CANONICALIZE);
        if (result(g) != ir_find(g, "x"))
            fail_msg("case %d: %s", i, fixture_print(f, g));
    }
}

/* Clipped twice is clipped once; a multiple of a number is a number. */
static void test_folded(void **state)
{
    Fixture *f = *state;
    Graph   *g = run(f, "  %2 = relu6 %0" T4 "  %3 = relu6 %2" T4 "  output %3 \"z\"\n", SIMPLIFY);
    assert_int_equal(fixture_count(g, OP_RELU6), 1);
    g = run(f,
            "  %2 = const {value=0.3} : f32[]\n  %3 = scale %2 {scale=0.7} : f32[]\n  %4 = mul %0, %3" T4
            "  output %4 \"z\"\n",
            SIMPLIFY);
    const Value *v = ir_value(g, result(g));
    assert_true(v->op == OP_SCALE && (float)ir_float(v, A_SCALE) == 0.3f * 0.7f);
}

/* Each of these would change a zero's sign, a NaN, an infinity or a rounding. */
static void test_kept(void **state)
{
    static const char *const bodies[] = {
        "  %2 = const {value=0} : f32[]\n  %3 = add %0, %2" T4 "  output %3 \"z\"\n",
        "  %2 = const {value=-0} : f32[]\n  %3 = sub %0, %2" T4 "  output %3 \"z\"\n",
        "  %2 = sub %0, %0" T4 "  output %2 \"z\"\n",
        "  %2 = scale %0 {scale=0}" T4 "  output %2 \"z\"\n",
        "  %2 = avgpool %0 {kernel=1, stride=1}" T4 "  output %2 \"z\"\n",
        "  %2 = maxpool %0 {kernel=1, stride=1}" T4 "  output %2 \"z\"\n",
        "  %2 = scale %0 {scale=3}" T4 "  %3 = scale %2 {scale=5}" T4 "  output %3 \"z\"\n",
        "  %2 = scale %0 {scale=0.5}" T4 "  %3 = scale %2 {scale=0.25}" T4 "  output %3 \"z\"\n",
    };
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(bodies); i++) {
        int32_t before = fixture_graph(f, arena_printf(&f->a,
                                                       "graph @t.eval {\n  %%0 = input \"x\" : f32[2x3x4x4]\n"
                                                       "  %%1 = input \"y\" : f32[2x3x4x4]\n%s}\n",
                                                       bodies[i]))
                             ->order.len;
        Graph *g = run(f, bodies[i], "--passes=canonicalize,simplify --verify=all --verify-changed");
        if (g->order.len != before)
            fail_msg("case %d: %s", i, fixture_print(f, g));
    }
}

static void test_dropout_of_zero(void **state)
{
    Fixture *f = *state;
    Graph   *g = run(f,
                     "  %2 = input \"seed\" : u32[]\n  %3 = input \"step\" : u32[]\n"
                       "  %4 = dropout %0, %2, %3 {p=0}" T4 "  output %4 \"z\"\n",
                     CANONICALIZE);
    assert_int_equal(result(g), ir_find(g, "x"));
}

static void test_operand_order(void **state)
{
    Fixture     *f = *state;
    Graph       *g = run(f,
                         "  %2 = add %1, %0" T4 "  %3 = param \"b\" : f32[3]\n  %4 = mul %3, %2" T4 "  %5 = sub %1, %4" T4
                         "  output %5 \"z\"\n",
                         CANONICALIZE);
    const Value *sub = ir_value(g, result(g)), *mul = ir_value(g, sub->in[1]), *add = ir_value(g, mul->in[0]);
    assert_int_equal(sub->in[0], ir_find(g, "y")); /* sub does not commute */
    assert_int_equal(add->in[0], ir_find(g, "x"));
    assert_int_equal(mul->in[1], ir_find(g, "b")); /* the larger operand first */
    assert_int_equal(fixture_stat(f, "canonicalize.swapped"), 2);
    Graph *again = g;
    assert_true(fixture_run(f, again, CANONICALIZE));
    assert_int_equal(fixture_stat(f, "canonicalize.swapped"), 0); /* a fixed point */
}

static void test_merge(void **state)
{
    Fixture     *f = *state;
    Graph       *g = run(f,
                         "  %2 = relu %0" T4 "  %3 = relu %0" T4 "  %4 = scale %2 {scale=3}" T4 "  %5 = scale %3 {scale=3}" T4
                         "  %6 = add %4, %5" T4 "  output %6 \"z\"\n",
                         SIMPLIFY);
    const Value *add = ir_value(g, result(g));
    assert_int_equal(add->in[0], add->in[1]);
    assert_int_equal(fixture_stat(f, "simplify.merged"), 2);
    assert_int_equal(g->order.len, 6);
}

/* Equal but for one attribute, or the sign of a zero: two values. */
static void test_not_merged(void **state)
{
    Fixture *f = *state;
    Graph   *g =
        run(f,
            "  %2 = scale %0 {scale=0}" T4 "  %3 = scale %0 {scale=-0}" T4 "  %4 = add %2, %3" T4
            "  %5 = maxpool %4 {kernel=3, stride=1, pad=[1,1,1,1]}" T4
            "  %6 = avgpool %4 {kernel=3, stride=1, pad=[1,1,1,1]}" T4 "  %7 = add %5, %6" T4 "  output %7 \"z\"\n",
            SIMPLIFY);
    assert_int_equal(fixture_stat(f, "simplify.merged"), 0);
    assert_int_equal(g->order.len, 9);
}

static void test_dropouts(void **state)
{
    Fixture *f = *state;
    Graph   *g = run(f,
                     "  %2 = input \"seed\" : u32[]\n  %3 = input \"step\" : u32[]\n"
                       "  %4 = dropout %0, %2, %3 {p=0.5, stream=7}" T4 "  %5 = dropout %0, %2, %3 {p=0.5, stream=7}" T4
                     "  %6 = dropout %0, %2, %3 {p=0.5, stream=8}" T4 "  %7 = add %4, %5" T4 "  %8 = add %7, %6" T4
                     "  output %8 \"z\"\n",
                     SIMPLIFY);
    assert_int_equal(fixture_count(g, OP_DROPOUT), 2); /* the same draws are one value, another stream is another */
}

static void test_dead(void **state)
{
    Fixture *f = *state;
    Graph   *g =
        run(f,
            "  %2 = param \"unused\" : f32[3]\n  %3 = state \"s\" : f32[3]\n  %4 = relu %1" T4
            "  %5 = scale %4 {scale=3}" T4 "  %6 = scale %3 {scale=2} : f32[3]\n  assign %3, %6\n  output %0 \"z\"\n",
            SIMPLIFY);
    assert_int_equal(fixture_stat(f, "simplify.dead"), 2);
    assert_int_equal(fixture_count(g, OP_ASSIGN), 1);
    assert_true(ir_find(g, "unused") != VALUE_NONE && ir_find(g, "y") != VALUE_NONE); /* memory of the host stays */
}

static void test_scales(void **state)
{
    Fixture     *f = *state;
    Graph       *g = run(f,
                         "  %2 = const {value=-1} : f32[]\n  %3 = mul %0, %2" T4 "  %4 = scale %3 {scale=0.1}" T4
                         "  output %4 \"z\"\n",
                         SIMPLIFY);
    const Value *v = ir_value(g, result(g));
    assert_int_equal(v->op, OP_SCALE);
    assert_int_equal(v->in[0], ir_find(g, "x"));
    assert_true((float)ir_float(v, A_SCALE) == -0.1f);
    assert_int_equal(g->order.len, 4);
}

/* The rule against brute force over factors and awkward numbers. */
static void test_scale_rule(void **state)
{
    static const float factors[] = { 1,    -1, 2,     -2,     4,        0.5f,      -0.25f,  3,
                                     0.1f, 0,  1e30f, 1e-30f, 0x1p100f, 0x1p-100f, INFINITY };
    static const float xs[] = {
        0,    -0.0f, 1,       -1,       1e-45f,           3e-45f,          7e-45f, 1.1754944e-38f,
        0.3f, 1e10f, 3.4e38f, INFINITY, 0x1.fffffep-120f, 0x1.000002p-126f
    };
    (void)state;
    int allowed = 0;
    for (int i = 0; i < DT_COUNT(factors); i++)
        for (int j = 0; j < DT_COUNT(factors); j++) {
            float factor;
            if (!algebra_fold_scale(factors[i], factors[j], &factor))
                continue;
            allowed++;
            for (int k = 0; k < DT_COUNT(xs); k++) {
                volatile float inner = xs[k] * factors[i];
                float          two = inner * factors[j], one = xs[k] * factor;
                assert_true(memcmp(&two, &one, sizeof one) == 0 || (isnan(two) && isnan(one)));
            }
        }
    float factor;
    assert_true(allowed > 50);
    assert_true(algebra_fold_scale(2, 4, &factor) && factor == 8);
    assert_true(algebra_fold_scale(-1, 0.1f, &factor) && factor == -0.1f);
    assert_false(algebra_fold_scale(0.5f, 0.5f, &factor)); /* a denormal would be rounded twice */
    assert_false(algebra_fold_scale(3, 5, &factor));
    assert_false(algebra_fold_scale(0x1p100f, 0x1p100f, &factor));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_removed),         fixture_test(test_folded),        fixture_test(test_kept),
        fixture_test(test_dropout_of_zero), fixture_test(test_operand_order), fixture_test(test_merge),
        fixture_test(test_not_merged),      fixture_test(test_dropouts),      fixture_test(test_dead),
        fixture_test(test_scales),          fixture_test(test_scale_rule),
    };
    return cmocka_run_group_tests_name("simplify", tests, NULL, NULL);
}
