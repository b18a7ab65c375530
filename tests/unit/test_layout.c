/* test_layout.c: the layout of weights. With weights as [K, R, S, C], as a GPU's library wants them, a network computes
 * what it computes with weights in rows: the same bits, but for sums over the elements of a weight, which walk memory
 * and so add up in another order. */
#include "tests/unit/net_fixture.h"
#include "tests/unit/pass_fixture.h"

#include <math.h>

/* ---- Two layouts, one network ------------------------------------------------------------------------------------ */

/* A sum over all elements of a weight - the gradient of its step size, in the init step the mean of |w| - is one of n
 * terms in another order, which differs by some sqrt(n) roundings of their sizes. A first step size is what all that
 * comes behind it is computed with. These bounds are wide; everything else must be equal. */
static double allowed(const Net *n, const ProgTensor *t)
{
    bool step = net_ends_with(t->name, ".weight.step"), velocity = net_ends_with(t->name, ".weight.step.velocity");
    return n->setup.step == STEP_INIT || (n->setup.step == STEP_TRAIN && (step || velocity)) ? 1e-5 : 0;
}

static void compare_tensor(Net *rows, Net *nhwc, const ProgTensor *t)
{
    const float *x = net_read(rows, t->name), *y = net_read(nhwc, t->name);
    double       tolerance = allowed(rows, t);
    if (tolerance == 0 && memcmp(x, y, (size_t)t->bytes) == 0)
        return;
    for (int64_t i = 0; i < t->elems; i++)
        if (!(fabs((double)x[i] - (double)y[i]) <= tolerance * fmax(1e-2, fabs((double)x[i]))))
            fail_msg("%s, %s[%lld] is %.9g with weights in rows, %.9g in nhwc", rows->prog.program->name, t->name,
                     (long long)i, (double)x[i], (double)y[i]);
}

static Net *net_of(const char *model, const char *bits, StepKind step, Layout weights, int64_t batch)
{
    NetSetup s = { .model = model, .bits = bits, .step = step, .target = net_target(weights), .batch = batch };
    return net_new(&s);
}

static Net *net_after(const char *model, const char *bits, StepKind step, Layout weights)
{
    Net *n = net_of(model, bits, step, weights, str_eq(model, "mnist") ? 2 : 1);
    net_load(n);
    net_run(n);
    return n;
}

static void compare_layouts(const char *model, const char *bits, StepKind step)
{
    Net           *rows = net_after(model, bits, step, LAYOUT_ROWS), *nhwc = net_after(model, bits, step, LAYOUT_NHWC);
    const Program *p = rows->prog.program;
    assert_int_equal(p->n_tensors, nhwc->prog.program->n_tensors);
    for (int32_t i = 0; i < p->n_tensors; i++)
        compare_tensor(rows, nhwc, &p->tensors[i]);
    net_free(rows);
    net_free(nhwc);
}

static void test_same_numbers(void **state)
{
    static const char *const models[] = { "resnet20", "mnist" }, *const bits[] = { NULL, "w4a4" };
    (void)state;
    for (int32_t i = 0; i < 4; i++) {
        compare_layouts(models[i / 2], bits[i % 2], STEP_TRAIN);
        compare_layouts(models[i / 2], bits[i % 2], STEP_EVAL);
    }
    compare_layouts("resnet20", "w4a4", STEP_INIT);
    compare_layouts("mnist", "w4a4", STEP_INIT);
}

/* ---- Where weights lie ------------------------------------------------------------------------------------------- */

static void check_calls_and_tensors(const Net *n, bool krsc)
{
    int32_t convolutions = 0, weights = 0;
    for (int32_t i = 0; i < n->program->n_launches; i++) {
        const Launch *l = &n->program->launches[i];
        bool          conv = l->kind == LAUNCH_CALL && l->call.kind <= CALL_CONV_BWD_W;
        convolutions += conv;
        if (l->kind == LAUNCH_CALL)
            assert_int_equal(l->call.krsc, conv && krsc);
    }
    for (int32_t i = 0; i < n->program->n_tensors; i++) {
        const ProgTensor *t = &n->program->tensors[i];
        bool              weight = t->rank == 4 && (t->kind == TENSOR_PARAM || t->kind == TENSOR_STATE);
        weights += weight;
        if (weight)
            assert_int_equal(t->nhwc, krsc);
    }
    assert_int_equal(convolutions, 3 * 19 - 1); /* the image has no gradient */
    assert_int_equal(weights, 2 * 19);
}

static int32_t count_op(const Graph *g, OpCode op)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        n += ir_is(g, g->order.at[i], op);
    return n;
}

/* The layout changes where elements lie, and nothing else: as many launches, relayouts and bytes. */
static void test_same_step(void **state)
{
    (void)state;
    Net *rows = net_of("resnet20", "w4a4", STEP_TRAIN, LAYOUT_ROWS, 128);
    Net *nhwc = net_of("resnet20", "w4a4", STEP_TRAIN, LAYOUT_NHWC, 128);
    check_calls_and_tensors(rows, false);
    check_calls_and_tensors(nhwc, true);
    assert_int_equal(rows->program->n_launches, nhwc->program->n_launches);
    assert_true(nhwc->program->n_launches <= 150);
    assert_int_equal(count_op(rows->g, OP_RELAYOUT), count_op(nhwc->g, OP_RELAYOUT));
    for (int32_t k = 0; k < ARENA_SCRATCH; k++)
        assert_int_equal(rows->program->bytes[k], nhwc->program->bytes[k]);
    net_free(rows);
    net_free(nhwc);
}

/* ---- Launches over many weights ---------------------------------------------------------------------------------- */

/* Rows of the kernel that value `id` is in; 0: it has no segments. */
static int32_t rows_of(const Graph *g, ValueId id)
{
    return g->groups.at[ir_value(g, id)->group].kernel->seg.rows;
}

/* Weights of rank 4 in nhwc and of rank 2 in rows are parts of one launch; an image of their shape and layout, whose
 * quantizer depends on nothing but leaves as well, is not. */
static void test_weights_share_launches(void **state)
{
    Fixture *f = *state;
    f->target = net_target(LAYOUT_NHWC);
    Graph *g = fixture_graph(f, "graph @t.eval {\n"
                                "  %0 = input \"x\" : f32[4x3x3x3]\n  %1 = param \"a\" : f32[4x3x3x3]\n"
                                "  %2 = param \"b\" : f32[5x7]\n  %3 = state \"c\" : f32[2x5x1x1]\n"
                                "  %4 = param \"s\" : f32[]\n"
                                "  %5 = qdq %0, %4 {lo=-8, hi=7, bits=4} : f32[4x3x3x3]\n"
                                "  %6 = qdq %1, %4 {lo=-8, hi=7, bits=4} : f32[4x3x3x3]\n"
                                "  %7 = qdq %2, %4 {lo=-8, hi=7, bits=4} : f32[5x7]\n"
                                "  output %5 \"x4\"\n  output %6 \"a4\"\n  output %7 \"b4\"\n"
                                "  %8 = state \"d\" : f32[3x4x2x2]\n"
                                "  %9 = scale %3 {scale=2} : f32[2x5x1x1]\n  assign %3, %9\n"
                                "  %10 = scale %8 {scale=3} : f32[3x4x2x2]\n  assign %8, %10\n}\n");
    if (!fixture_run(f, g, "--verify=all"))
        fail_msg("%s", fixture_said(f));
    assert_int_equal(rows_of(g, 5), 0);
    assert_int_equal(rows_of(g, 6), 2);
    assert_int_equal(rows_of(g, 7), 2);
    assert_int_equal(ir_value(g, 1)->type.layout, LAYOUT_NHWC);
    assert_int_equal(rows_of(g, 9), 2);
    assert_int_equal(ir_value(g, 10)->type.layout, LAYOUT_NHWC);
    assert_int_equal(ir_value(g, 2)->type.layout, LAYOUT_ROWS);
}

/* The gradient of an activation's step size is a kernel over an image: where it is ready, not at the end of the step,
 * up to which the image would have to be kept. */
static void test_images_stay_in_the_middle(void **state)
{
    (void)state;
    Net    *n = net_of("resnet20", "w4a4", STEP_TRAIN, LAYOUT_NHWC, 2);
    int32_t last_call = -1, images = 0;
    for (int32_t k = 0; k < n->g->groups.len; k++)
        last_call = n->g->groups.at[k].kernel ? last_call : k;
    for (int32_t i = 0; i < n->g->order.len; i++) {
        const Value *v = ir_value(n->g, n->g->order.at[i]);
        const Value *x = v->n_in > 0 ? ir_value(n->g, v->in[0]) : NULL;
        if (v->op != OP_LSQ_GRAD_STEP || x->op == OP_PARAM || x->type.shape.rank != 4)
            continue;
        images++;
        assert_int_equal(n->g->groups.at[v->group].kernel->seg.rows, 0);
        assert_true(v->group < last_call);
    }
    assert_int_equal(images, 18);
    net_free(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_numbers),
        cmocka_unit_test(test_same_step),
        fixture_test(test_weights_share_launches),
        cmocka_unit_test(test_images_stay_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
