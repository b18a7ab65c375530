/* test_fuse.c: which ops share a kernel after fuse and batch, on two convolutions with batch norm, quantizers, a
 * residual sum and a classifier: what is stored, what is computed again, what is launched once for many tensors. */
#include "tests/unit/pass_fixture.h"

static const char net[] = "graph @net.train {\n"
                          "  %0 = input \"image\" : f32[8x16x8x8]\n"
                          "  %1 = input \"label\" : i32[8x1]\n"
                          "  %2 = param \"c1.weight\" {init=\"kaiming\", fan=144} : f32[16x16x3x3]\n"
                          "  %3 = conv2d %0, %2 {pad=[1,1,1,1]} : f32[8x16x8x8] scope(\"c1\")\n"
                          "  %4 = state \"mean\" : f32[16]\n"
                          "  %5 = state \"var\" {init=\"ones\"} : f32[16]\n"
                          "  %6 = bn_mean %3, %4 : f32[16]\n"
                          "  %7 = bn_var %3, %4 : f32[16]\n"
                          "  %8 = param \"gamma\" {init=\"ones\", group=\"norm\"} : f32[16]\n"
                          "  %9 = param \"beta\" {group=\"norm\"} : f32[16]\n"
                          "  %10 = batchnorm %3, %6, %7, %8, %9 : f32[8x16x8x8]\n"
                          "  %11 = ema %4, %6 : f32[16]\n"
                          "  assign %4, %11\n"
                          "  %12 = ema %5, %7 {scale=1.002} : f32[16]\n"
                          "  assign %5, %12\n"
                          "  %13 = relu %10 : f32[8x16x8x8]\n"
                          "  %14 = param \"c2.weight\" {init=\"kaiming\", fan=144} : f32[16x16x3x3]\n"
                          "  %15 = conv2d %13, %14 {pad=[1,1,1,1]} : f32[8x16x8x8] scope(\"c2\")\n"
                          "  %16 = add %15, %0 : f32[8x16x8x8]\n"
                          "  %17 = relu %16 : f32[8x16x8x8]\n"
                          "  %18 = param \"c3.weight\" {init=\"kaiming\", fan=144} : f32[16x16x3x3]\n"
                          "  %19 = conv2d %17, %18 {pad=[1,1,1,1]} : f32[8x16x8x8] scope(\"c3\")\n"
                          "  %20 = add %19, %17 : f32[8x16x8x8]\n"
                          "  %21 = relu %20 : f32[8x16x8x8]\n"
                          "  %22 = global_avgpool %21 : f32[8x16x1x1]\n"
                          "  %23 = reshape %22 {channels=16} : f32[8x16]\n"
                          "  %24 = param \"head.weight\" {init=\"kaiming\", fan=16} : f32[10x16]\n"
                          "  %25 = linear %23, %24 : f32[8x10]\n"
                          "  %26 = cross_entropy %25, %1 : f32[]\n"
                          "  output %26 \"loss\"\n"
                          "}\n";

#define FLAGS " --verify=all --verify-roundtrip --verify-changed"

static Graph *fused(Fixture *f, const char *bits, const char *more)
{
    Graph *g = fixture_graph(f, net);
    f->ctx.step = STEP_TRAIN;
    if (bits) {
        f->recipe.method = "lsq";
        if (!recipe_parse_bits(&f->recipe, &f->d, "--bits", bits))
            fail_msg("%s", fixture_said(f));
    }
    if (!fixture_run(f, g, arena_printf(&f->a, "--stop-after=schedule%s%s", FLAGS, more)))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* "affine relu qdq" of group k; numbers are left out. */
static const char *ops_of(Fixture *f, const Graph *g, int32_t k)
{
    Str s = str_new(&f->a);
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->group == k && v->op != OP_CONST)
            str_printf(&s, "%s%s", s.len ? " " : "", ir_ops[v->op].text);
    }
    return s.s;
}

static const char *all_groups(Fixture *f, const Graph *g)
{
    Str s = str_new(&f->a);
    for (int32_t k = 0; k < g->groups.len; k++)
        str_printf(&s, "%d: %s\n", k, ops_of(f, g, k));
    return s.s;
}

/* How many groups consist of exactly these ops. */
static int32_t count_groups(Fixture *f, const Graph *g, const char *ops)
{
    int32_t n = 0;
    for (int32_t k = 0; k < g->groups.len; k++)
        n += str_eq(ops_of(f, g, k), ops);
    return n;
}

static void assert_one_group(Fixture *f, const Graph *g, const char *ops)
{
    if (count_groups(f, g, ops) != 1)
        fail_msg("expected one kernel '%s', found %d in\n%s", ops, count_groups(f, g, ops), all_groups(f, g));
}

static int32_t count_in_group(const Graph *g, int32_t k, OpCode op)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        n += ir_value(g, g->order.at[i])->group == k && ir_is(g, g->order.at[i], op);
    return n;
}

/* The group of the n-th value of this op, from 0. */
static int32_t group_of(const Graph *g, OpCode op, int32_t n)
{
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], op) && n-- == 0)
            return ir_value(g, g->order.at[i])->group;
    fail_msg("the graph has no such %s", ir_ops[op].text);
    return -1;
}

static bool group_reads(const Graph *g, int32_t k, ValueId v)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *u = ir_value(g, g->order.at[i]);
        for (int32_t j = 0; u->group == k && j < u->n_in; j++)
            if (u->in[j] == v)
                return true;
    }
    return false;
}

/* ---- Tests
 * ----------------------------------------------------------------------------------------------------------- */

/* Batch norm, relu and the quantizer of the next layer are one pass over memory; statistics and their updates another.
 */
static void test_forward_chain(void **state)
{
    Fixture *f = *state;
    Graph   *g = fused(f, "w4a4", "");
    assert_one_group(f, g, "affine relu qdq");
    int32_t stats = group_of(g, OP_BN_MEAN, 0);
    assert_int_equal(group_of(g, OP_BN_VAR, 0), stats);
    assert_int_equal(group_of(g, OP_EMA, 0), stats);
    assert_int_equal(group_of(g, OP_EMA, 1), stats);
}

/* Backward reads the convolution's output, not a stored relu, and computes the mask again. */
static void test_backward_computes_again(void **state)
{
    Fixture *f = *state;
    Graph   *g = fused(f, NULL, "");
    int32_t  k = group_of(g, OP_BN_DGAMMA, 0);
    assert_true(count_in_group(g, k, OP_AFFINE) + count_in_group(g, k, OP_RELU_GRAD) > 0);
    assert_true(group_reads(g, k, 3)); /* the convolution's output */
    int32_t apply = group_of(g, OP_AFFINE2, 0);
    assert_true(group_reads(g, apply, 3));
}

/* relu(conv + skip) has two leaves and four users: it is stored once and read. */
static void test_residual_sum_is_stored(void **state)
{
    Fixture *f = *state;
    Graph   *g = fused(f, NULL, "");
    assert_one_group(f, g, "add relu");
    int32_t k = group_of(g, OP_GLOBAL_AVGPOOL, 0);
    assert_int_equal(count_in_group(g, k, OP_ADD), 1); /* the last sum alone, not the chain of sums */
}

/* One launch quantizes all weights, one updates them all. */
static void test_weights_in_one_launch(void **state)
{
    Fixture *f = *state;
    Graph   *g = fused(f, "w4a4", "");
    int32_t  n = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_QDQ || !str_eq(ir_text(v, A_ROLE), "weight"))
            continue;
        assert_int_equal(v->group, group_of(g, OP_QDQ, 0));
        n++;
    }
    assert_int_equal(n, 4);
    assert_int_equal(group_of(g, OP_QDQ, 0), 0);
    assert_true(g->groups.at[0].segments);
    for (int32_t k = 0; k < g->groups.len; k++)
        if (count_in_group(g, k, OP_LSQ_GRAD_STEP) > 1) {
            assert_int_equal(count_in_group(g, k, OP_LSQ_GRAD_STEP), 4);
            assert_int_equal(count_in_group(g, k, OP_SGD_STEP), 8); /* weights and their step sizes */
            assert_true(g->groups.at[k].segments);
            return;
        }
    fail_msg("the weights' updates are not joined:\n%s", all_groups(f, g));
}

static void test_float_updates_in_one_launch(void **state)
{
    Fixture *f = *state;
    Graph   *g = fused(f, NULL, "");
    int32_t  best = 0;
    for (int32_t k = 0; k < g->groups.len; k++)
        best = count_in_group(g, k, OP_SGD_STEP) > best ? count_in_group(g, k, OP_SGD_STEP) : best;
    assert_int_equal(best, 4);
}

/* A weight that one layer reads and one that two read are quantized in one launch all the same. */
static void test_users_do_not_split_a_launch(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_EVAL;
    Graph *g =
        fixture_graph(f, "graph @t.eval {\n"
                         "  %0 = param \"a\" : f32[16x8]\n  %1 = param \"b\" : f32[10x8]\n  %2 = param \"s\" : f32[]\n"
                         "  %3 = input \"x\" : f32[4x8]\n"
                         "  %4 = qdq %0, %2 {lo=-8, hi=7, bits=4} : f32[16x8]\n"
                         "  %5 = qdq %1, %2 {lo=-128, hi=127, bits=8} : f32[10x8]\n"
                         "  %6 = linear %3, %4 : f32[4x16]\n  %7 = linear %3, %5 : f32[4x10]\n"
                         "  %8 = relu %3 : f32[4x8]\n  %9 = linear %8, %5 : f32[4x10]\n"
                         "  output %6 \"y\"\n  output %7 \"z\"\n  output %9 \"w\"\n}\n");
    if (!fixture_run(f, g, "--stop-after=schedule" FLAGS))
        fail_msg("%s", fixture_said(f));
    assert_int_equal(ir_value(g, 4)->group, ir_value(g, 5)->group);
}

/* Without fuse every op is a launch. */
static void test_unfused(void **state)
{
    Fixture *f = *state;
    Graph   *g = fused(f, "w4a4", " --disable-pass=fuse");
    int32_t  ops = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        ops += !ir_has(g, g->order.at[i], T_LEAF | T_VIEW | T_EFFECT);
    assert_int_equal(g->groups.len, ops);
    int32_t fused_launches = fused(f, NULL, "")->groups.len;
    assert_true(fused_launches < ops / 2);
}

/* A number that the host or another op wants in memory. */
static void test_const_in_memory(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_EVAL;
    Graph *g = fixture_graph(f, "graph @t.eval {\n  %0 = const {value=3} : f32[]\n  %1 = state \"s\" : f32[]\n"
                                "  output %0 \"three\"\n  assign %1, %0\n}\n");
    if (!fixture_run(f, g, FLAGS))
        fail_msg("%s", fixture_said(f));
    assert_true(g->groups.len >= 1);
}

static void test_explains(void **state)
{
    Fixture *f = *state;
    fused(f, "w4a4", " --explain-fusion");
    assert_has(f->text, "relu: computed in place");
    assert_has(f->text, "library call");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_forward_chain),
        fixture_test(test_backward_computes_again),
        fixture_test(test_residual_sum_is_stored),
        fixture_test(test_weights_in_one_launch),
        fixture_test(test_float_updates_in_one_launch),
        fixture_test(test_users_do_not_split_a_launch),
        fixture_test(test_unfused),
        fixture_test(test_const_in_memory),
        fixture_test(test_explains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
