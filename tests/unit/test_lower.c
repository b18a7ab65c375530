/* test_lower.c: layouts, the schedule and the kernels that lower writes: small graphs, run by the interpreter fused and
 * op by op, must give the same bits; updates take effect after all reads of the old value, wherever the plan puts them.
 */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"

#include <math.h>

#define OP_BY_OP "canonicalize,simplify,fuse,batch"

/* ---- Running text
 * ---------------------------------------------------------------------------------------------------- */

typedef struct Run {
    Fixture     *f;
    CheckBackend b;
    CheckNet     net;
} Run;

static void run_open(Run *r, Fixture *f, const char *text, const char *disable)
{
    CheckSetup setup = { .step = f->ctx.step, .recipe = &f->recipe, .optimizer = &f->optimizer, .disable = disable };
    r->f = f;
    if (!check_backend_open(&r->b, &f->a, &f->d, false, 1, 0) ||
        !check_net_open(&r->net, &r->b, fixture_graph(f, text), &setup))
        fail_msg("%s", fixture_said(f));
}

static void run_close(Run *r)
{
    check_net_close(&r->net);
    check_backend_close(&r->b);
}

/* Every tensor but outputs: numbers around 0 by name and place; labels below 4; variances and steps positive. */
static void fill_all(Run *r)
{
    const Program *p = r->net.prog.program;
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const ProgTensor *t = &p->tensors[i];
        double           *x = ARENA_ARRAY(&r->f->a, double, t->elems);
        for (int64_t k = 0; k < t->elems && t->kind != TENSOR_OUTPUT; k++) {
            uint32_t u = rng_u32(5, hash_u32(t->name), 0, (uint64_t)k);
            bool     positive = strstr(t->name, "step") || strstr(t->name, "var");
            x[k] = t->dtype == DTYPE_I32 ? (double)(u % 4) : ((double)(u >> 8) * 0x1p-24 - 0.5) + (positive ? 1 : 0);
        }
        if (t->kind != TENSOR_OUTPUT)
            check_net_write(&r->net, t->name, x);
    }
}

typedef VEC(double) Numbers;

/* All tensors after two steps. */
static Numbers numbers_after(Fixture *f, const char *text, const char *disable)
{
    Run     r;
    Numbers out = { 0 };
    run_open(&r, f, text, disable);
    fill_all(&r);
    check_net_run(&r.net);
    check_net_run(&r.net);
    const Program *p = r.net.prog.program;
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const double *x = check_net_read(&f->a, &r.net, p->tensors[i].name);
        for (int64_t k = 0; k < p->tensors[i].elems; k++)
            vec_push(&f->a, &out, x[k]);
    }
    run_close(&r);
    return out;
}

static void assert_same_bits(Fixture *f, const char *text)
{
    static const char *const sets[] = { OP_BY_OP, "fuse", "batch", "simplify" };
    Numbers                  whole = numbers_after(f, text, NULL);
    for (int32_t s = 0; s < DT_COUNT(sets); s++) {
        Numbers part = numbers_after(f, text, sets[s]);
        assert_int_equal(whole.len, part.len);
        for (int32_t i = 0; i < whole.len; i++)
            if (memcmp(&whole.at[i], &part.at[i], sizeof(double)) != 0)
                fail_msg("without %s number %d is %.9g instead of %.9g:\n%s", sets[s], i, part.at[i], whole.at[i],
                         text);
    }
}

static const Graph *lowered(Fixture *f, const char *text, const char *flags)
{
    Graph *g = fixture_graph(f, text);
    if (!fixture_run(f, g, arena_printf(&f->a, "--verify=all --verify-roundtrip --verify-changed %s", flags)))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* ---- Fused equals op by op
 * --------------------------------------------------------------------------------------------- */

static const char bn_chain[] = "graph @t.train {\n"
                               "  %0 = input \"x\" : f32[3x10x4x5]\n  %1 = param \"w\" : f32[6x10x3x3]\n"
                               "  %2 = conv2d %0, %1 {pad=[1,1,1,1]} : f32[3x6x4x5]\n"
                               "  %3 = state \"m\" : f32[6]\n  %4 = state \"var\" : f32[6]\n"
                               "  %5 = bn_mean %2, %3 : f32[6]\n  %6 = bn_var %2, %3 : f32[6]\n"
                               "  %7 = param \"g\" : f32[6]\n  %8 = param \"b\" : f32[6]\n"
                               "  %9 = batchnorm %2, %5, %6, %7, %8 : f32[3x6x4x5]\n"
                               "  %10 = ema %3, %5 : f32[6]\n  assign %3, %10\n"
                               "  %11 = ema %4, %6 {scale=1.02} : f32[6]\n  assign %4, %11\n"
                               "  %12 = relu %9 : f32[3x6x4x5]\n"
                               "  %13 = param \"step\" {group=\"step\"} : f32[]\n"
                               "  %14 = qdq %12, %13 {lo=0, hi=15, bits=4, role=\"act\"} : f32[3x6x4x5]\n"
                               "  %15 = shortcut_a %14 {stride=2, channels=8} : f32[3x8x2x3]\n"
                               "  %16 = reshape %15 {channels=48} : f32[3x48]\n"
                               "  %17 = param \"h\" : f32[4x48]\n  %18 = linear %16, %17 : f32[3x4]\n"
                               "  %19 = input \"label\" : i32[3x1]\n"
                               "  %20 = cross_entropy %18, %19 : f32[]\n  output %20 \"loss\"\n}\n";

static const char pools[] = "graph @t.train {\n"
                            "  %0 = param \"x\" : f32[2x5x8x8]\n"
                            "  %1 = maxpool %0 {kernel=3, stride=2, pad=[1,1,1,1]} : f32[2x5x4x4]\n"
                            "  %2 = avgpool %1 {kernel=2, stride=1} : f32[2x5x3x3]\n"
                            "  %3 = mul %2, %2 : f32[2x5x3x3]\n"
                            "  %4 = global_avgpool %3 : f32[2x5x1x1]\n"
                            "  %5 = mul %3, %4 : f32[2x5x3x3]\n"
                            "  %6 = reduce_sum %5 : f32[]\n  output %6 \"loss\"\n}\n";

/* A weight meets an image: one of them has to be turned. */
static const char mixed_layouts[] = "graph @t.train {\n"
                                    "  %0 = param \"p\" : f32[2x5x3x4]\n  %1 = input \"x\" : f32[2x5x3x4]\n"
                                    "  %2 = add %1, %0 : f32[2x5x3x4]\n  %3 = mul %2, %0 : f32[2x5x3x4]\n"
                                    "  %4 = param \"w\" : f32[2x5x3x3]\n"
                                    "  %5 = conv2d %3, %4 {pad=[1,1,1,1]} : f32[2x2x3x4]\n"
                                    "  %6 = mse %5, %5 : f32[]\n"
                                    "  %7 = reduce_sum %3 {scale=0.1} : f32[]\n"
                                    "  %8 = add %6, %7 : f32[]\n  output %8 \"loss\"\n}\n";

static void       test_fused_equals_op_by_op(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_TRAIN;
    assert_same_bits(f, bn_chain);
    assert_same_bits(f, pools);
    assert_same_bits(f, mixed_layouts);
}

static void test_relayout_where_layouts_meet(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_TRAIN;
    const Graph *g = lowered(f, mixed_layouts, "");
    assert_true(fixture_count(g, OP_RELAYOUT) > 0);
    g = lowered(f, bn_chain, "");
    assert_int_equal(fixture_count(g, OP_RELAYOUT), 2); /* around the flatten of 8x2x3, there and back */
}

/* ---- Sums that sum nothing
 * ----------------------------------------------------------------------------------------------- */

static void test_all_dimensions_kept(void **state)
{
    Fixture *f = *state;
    Run      r;
    run_open(&r, f,
             "graph @t.eval {\n  %0 = input \"x\" : f32[2x3]\n  %1 = reduce_sum %0 {keep=\"nc\", scale=2} : f32[2x3]\n"
             "  output %1 \"y\"\n}\n",
             NULL);
    check_net_write(&r.net, "x", (double[]){ 1, 2, 3, 4, 5, 6 });
    check_net_run(&r.net);
    const double *y = check_net_read(&f->a, &r.net, "y");
    for (int i = 0; i < 6; i++)
        assert_true(y[i] == 2 * (i + 1));
    run_close(&r);
}

/* ---- Updates
 * --------------------------------------------------------------------------------------------------------------- */

static void assert_numbers(Run *r, const char *tensor, const double *expected)
{
    const double *x = check_net_read(&r->f->a, &r->net, tensor);
    for (int64_t i = 0; i < check_net_elems(&r->net, tensor); i++)
        if (x[i] != expected[i])
            fail_msg("%s[%lld] is %g, expected %g", tensor, (long long)i, x[i], expected[i]);
}

static void test_two_states_swap(void **state)
{
    static const char *const sets[] = { NULL, OP_BY_OP };
    Fixture                 *f = *state;
    for (int s = 0; s < 2; s++) {
        Run r;
        run_open(&r, f,
                 "graph @t.eval {\n  %0 = state \"a\" : f32[2]\n  %1 = state \"b\" : f32[2]\n"
                 "  assign %0, %1\n  assign %1, %0\n}\n",
                 sets[s]);
        check_net_write(&r.net, "a", (double[]){ 1, 2 });
        check_net_write(&r.net, "b", (double[]){ 3, 4 });
        check_net_run(&r.net);
        assert_numbers(&r, "a", (double[]){ 3, 4 });
        assert_numbers(&r, "b", (double[]){ 1, 2 });
        run_close(&r);
    }
}

/* b gets the a of before, though a is updated in place; the host sees it, too. */
static void test_old_value_is_handed_on(void **state)
{
    static const char *const sets[] = { NULL, OP_BY_OP };
    Fixture                 *f = *state;
    for (int s = 0; s < 2; s++) {
        Run r;
        run_open(&r, f,
                 "graph @t.eval {\n  %0 = state \"a\" : f32[2]\n  %1 = state \"b\" : f32[2]\n"
                 "  %2 = scale %0 {scale=10} : f32[2]\n  assign %0, %2\n  assign %1, %0\n  output %0 \"old\"\n}\n",
                 sets[s]);
        check_net_write(&r.net, "a", (double[]){ 1, 2 });
        check_net_run(&r.net);
        assert_numbers(&r, "a", (double[]){ 10, 20 });
        assert_numbers(&r, "b", (double[]){ 1, 2 });
        assert_numbers(&r, "old", (double[]){ 1, 2 });
        run_close(&r);
    }
}

/* The window reads neighbours of the element that the update would overwrite. */
static void test_window_sees_old_values(void **state)
{
    Fixture *f = *state;
    Run      r;
    run_open(
        &r, f,
        "graph @t.eval {\n  %0 = state \"s\" : f32[1x1x1x4]\n  %1 = scale %0 {scale=-1} : f32[1x1x1x4]\n"
        "  assign %0, %1\n  %2 = avgpool %0 {kernel=3, stride=1, pad=[1,1,1,1]} : f32[1x1x1x4]\n  output %2 \"m\"\n}\n",
        NULL);
    check_net_write(&r.net, "s", (double[]){ 2, 4, 6, 8 });
    check_net_run(&r.net);
    assert_numbers(&r, "m", (double[]){ 3, 4, 6, 7 });
    assert_numbers(&r, "s", (double[]){ -2, -4, -6, -8 });
    run_close(&r);
}

/* Both updates share a kernel; the second must not see what the first has stored. */
static void test_updates_that_read_each_other(void **state)
{
    static const char *const sets[] = { NULL, OP_BY_OP, "batch" };
    Fixture                 *f = *state;
    for (int s = 0; s < DT_COUNT(sets); s++) {
        Run r;
        run_open(&r, f,
                 "graph @t.eval {\n  %0 = state \"a\" : f32[2]\n  %1 = state \"b\" : f32[2]\n"
                 "  %2 = add %0, %1 : f32[2]\n  %3 = sub %0, %1 : f32[2]\n  assign %0, %2\n  assign %1, %3\n}\n",
                 sets[s]);
        check_net_write(&r.net, "a", (double[]){ 5, 6 });
        check_net_write(&r.net, "b", (double[]){ 1, 4 });
        check_net_run(&r.net);
        assert_numbers(&r, "a", (double[]){ 6, 10 });
        assert_numbers(&r, "b", (double[]){ 4, 2 });
        run_close(&r);
    }
}

/* A ring of states, each updated by the one before: too many for one kernel, and no two of them may be rows of one
 * launch that run in any order. */
static void test_ring_of_updates(void **state)
{
    enum { RING = 56 };
    Fixture *f = *state;
    Str      s = str_new(&f->a);
    Run      r;
    str_add(&s, "graph @t.eval {\n");
    for (int i = 0; i < RING; i++)
        str_printf(&s, "  %%%d = state \"s%d\" : f32[2]\n", i, i);
    for (int i = 0; i < RING; i++)
        str_printf(&s, "  %%%d = add %%%d, %%%d : f32[2]\n  assign %%%d, %%%d\n", RING + i, i, (i + RING - 1) % RING, i,
                   RING + i);
    str_add(&s, "}\n");
    run_open(&r, f, s.s, NULL);
    for (int i = 0; i < RING; i++)
        check_net_write(&r.net, arena_printf(&f->a, "s%d", i), (double[]){ i, -i });
    check_net_run(&r.net);
    for (int i = 0; i < RING; i++) {
        double sum = i + (i + RING - 1) % RING;
        assert_numbers(&r, arena_printf(&f->a, "s%d", i), (double[]){ sum, -sum });
    }
    run_close(&r);
}

/* One value for two states: neither can be its place. */
static void test_one_value_for_two(void **state)
{
    Fixture *f = *state;
    Run      r;
    run_open(&r, f,
             "graph @t.eval {\n  %0 = state \"a\" : f32[2]\n  %1 = state \"b\" : f32[2]\n"
             "  %2 = add %0, %1 : f32[2]\n  assign %0, %2\n  assign %1, %2\n}\n",
             NULL);
    check_net_write(&r.net, "a", (double[]){ 1, 2 });
    check_net_write(&r.net, "b", (double[]){ 3, 4 });
    check_net_run(&r.net);
    assert_numbers(&r, "a", (double[]){ 4, 6 });
    assert_numbers(&r, "b", (double[]){ 4, 6 });
    run_close(&r);
}

/* A state that gets a reshaped value of an image: through the relayout and a copy. */
static void test_update_through_a_view(void **state)
{
    Fixture *f = *state;
    Run      r;
    run_open(&r, f,
             "graph @t.eval {\n  %0 = input \"x\" : f32[1x2x1x2]\n  %1 = state \"s\" : f32[1x4]\n"
             "  %2 = relu %0 : f32[1x2x1x2]\n  %3 = reshape %2 {channels=4} : f32[1x4]\n  assign %1, %3\n}\n",
             NULL);
    check_net_write(&r.net, "x", (double[]){ 1, 2, 3, 4 });
    check_net_run(&r.net);
    assert_numbers(&r, "s", (double[]){ 1, 2, 3, 4 });
    run_close(&r);
}

/* ---- The kernels themselves
 * ------------------------------------------------------------------------------------------------- */

static const Kernel *kernel_with(const Graph *g, OpCode op)
{
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], op))
            return g->groups.at[ir_value(g, g->order.at[i])->group].kernel;
    fail_msg("the graph has no %s", ir_ops[op].text);
    return NULL;
}

/* Images lie as NHWC: statistics are a sum over the pixels of vectors of channels. */
static void test_statistics_kernel(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_TRAIN;
    const Kernel *k = kernel_with(lowered(f, bn_chain, ""), OP_BN_MEAN);
    assert_int_equal(k->n_axes, 2);
    assert_int_equal(k->axes[0].kind, AXIS_RED);
    assert_int_equal(k->axes[0].extent, 3 * 4 * 5);
    assert_int_equal(k->axes[1].kind, AXIS_PAR);
    assert_int_equal(k->axes[1].extent, 6);
    assert_int_equal(k->vec, 1);
}

/* An update stores where it loads: one buffer, inout. */
static void test_update_kernel(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_TRAIN;
    const Kernel *k = kernel_with(lowered(f, pools, ""), OP_SGD_STEP);
    int32_t       inout = 0;
    for (int32_t i = 0; i < k->bufs.len; i++)
        inout += k->bufs.at[i].mode == BUF_INOUT;
    assert_int_equal(inout, 2); /* param and velocity */
}

static void test_segments_kernel(void **state)
{
    Fixture      *f = *state;
    const Kernel *k =
        kernel_with(lowered(f,
                            "graph @t.eval {\n  %0 = param \"a\" : f32[4x3x3x3]\n  %1 = param \"b\" : f32[5x7]\n"
                            "  %2 = param \"s\" : f32[]\n  %3 = param \"t\" : f32[]\n"
                            "  %4 = qdq %0, %2 {lo=-8, hi=7, bits=4} : f32[4x3x3x3]\n"
                            "  %5 = qdq %1, %3 {lo=-128, hi=127, bits=8} : f32[5x7]\n"
                            "  output %4 \"y\"\n  output %5 \"z\"\n}\n",
                            ""),
                    OP_QDQ);
    assert_int_equal(k->seg.rows, 2);
    assert_int_equal(kernel_extent(k, k->vec, 0), 108);
    assert_int_equal(kernel_extent(k, k->vec, 1), 35);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_fused_equals_op_by_op),
        fixture_test(test_relayout_where_layouts_meet),
        fixture_test(test_all_dimensions_kept),
        fixture_test(test_two_states_swap),
        fixture_test(test_old_value_is_handed_on),
        fixture_test(test_window_sees_old_values),
        fixture_test(test_updates_that_read_each_other),
        fixture_test(test_ring_of_updates),
        fixture_test(test_one_value_for_two),
        fixture_test(test_update_through_a_view),
        fixture_test(test_statistics_kernel),
        fixture_test(test_update_kernel),
        fixture_test(test_segments_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
