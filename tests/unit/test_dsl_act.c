/* test_dsl_act.c: element-wise layers, gates, drop-connect and losses of the DSL: which ops, inputs and outputs each
 * step has. What the ops compute: test_body_act.c and the op matrix; messages: tests/diag. */
#include "frontend/detent.h"
#include "tests/unit/graph_fixture.h"

#include <string.h>

/* The only value of its op. */
static const Value *only(const Graph *g, OpCode op)
{
    const Value *found = NULL;
    assert_int_equal(count(g, op), 1);
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], op))
            found = ir_value(g, g->order.at[i]);
    return found;
}

/* What the output of that name hands out. */
static const Value *handed(const Graph *g, const char *name)
{
    return ir_value(g, find(g, name)->in[0]);
}

/* ---- Activations --------------------------------------------------------------------------------------------------
 */

dt_model(activations, "one of each", .image = { 2, 5, 5 }, .classes = 3)
{
    Tensor x = dt_relu6(dt_conv2d(dt_image(), 4, 3));
    x = dt_leaky_relu(dt_leaky_relu(x), 0.25f, .name = "leak");
    x = dt_hard_swish(dt_hard_sigmoid(dt_silu(dt_sigmoid(x))));
    return dt_linear(dt_flatten(x), dt_classes());
}

static void test_activations(void **state)
{
    static const OpCode each[] = { OP_RELU6, OP_SIGMOID, OP_SILU, OP_HARD_SIGMOID, OP_HARD_SWISH };
    Fixture            *f = *state;
    const Graph        *g = build(f, &activations, 4, STEP_TRAIN);
    float               slopes[2];
    int32_t             n = 0;
    for (int32_t i = 0; i < DT_COUNT(each); i++)
        assert_shape(f, only(g, each[i]), "4x4x3x3");
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], OP_LEAKY_RELU))
            slopes[n++] = (float)ir_float(ir_value(g, g->order.at[i]), A_SLOPE);
    assert_true(n == 2 && slopes[0] == 0.01f && slopes[1] == 0.25f);
}

/* ---- Gates and drop-connect ---------------------------------------------------------------------------------------
 */

dt_model(gated, "a gate of [N, C], one of [N, C, 1, 1], a product", .image = { 2, 4, 4 }, .classes = 3)
{
    Tensor x = dt_conv2d(dt_image(), 6, 1, .name = "a");
    x = dt_mul(x, dt_sigmoid(dt_linear(dt_global_avgpool(x), 6)));
    x = dt_mul(x, dt_maxpool(x, 4));
    x = dt_mul(x, x, .name = "square");
    x = dt_drop_connect(x, 0.25f, .name = "path");
    Tensor y = dt_drop_connect(dt_flatten(x), 0.5f);
    return dt_linear(dt_drop_connect(y, 0), dt_classes());
}

static void test_gates(void **state)
{
    Fixture     *f = *state;
    const Graph *g = build(f, &gated, 4, STEP_TRAIN);
    assert_int_equal(count(g, OP_MUL), 5);
    assert_int_equal(count(g, OP_SAMPLE_MASK), 2); /* p = 0 is the value itself */
    assert_true(has(g, "seed") && has(g, "step"));
    int64_t streams[2];
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op == OP_MUL)
            assert_true(shape_eq(v->type.shape, ir_value(g, v->in[0])->type.shape));
        if (v->op == OP_SAMPLE_MASK) {
            assert_shape(f, v, "4x1x1x1");
            streams[n++] = ir_int(v, A_STREAM);
        }
    }
    assert_true(streams[0] != streams[1]);
    assert_int_equal(streams[0], hash_u32("path") & 0x7fffffff);
    for (StepKind step = STEP_EVAL; step <= STEP_INSPECT; step++) {
        const Graph *other = build(f, &gated, 4, step);
        assert_int_equal(count(other, OP_MUL), 3);
        assert_int_equal(count(other, OP_SAMPLE_MASK), 0);
        assert_false(has(other, "seed"));
    }
}

/* ---- Losses of labels ---------------------------------------------------------------------------------------------
 */

static Tensor classify(DtContext *dt_ctx)
{
    return dt_linear(dt_flatten(dt_image()), dt_classes());
}

static void test_labels(void **state)
{
    Fixture *f = *state;
    DtModel  m = { .name = "net", .doc = "", .image = { 1, 2, 2 }, .classes = 6, .build = classify };
    m.training.label_smoothing = 0.1f;
    const Graph *g = build(f, &m, 4, STEP_TRAIN);
    const Value *loss = handed(g, "loss");
    assert_true(loss->op == OP_CROSS_ENTROPY && loss->n_in == 2);
    assert_true((float)ir_float(loss, A_SMOOTHING) == 0.1f);
    assert_false(has(g, "label2"));

    m.training.mixup = 0.2f;
    g = build(f, &m, 4, STEP_TRAIN);
    loss = handed(g, "loss");
    assert_int_equal(loss->n_in, 4);
    assert_true(loss->in[2] == ir_find(g, "label2") && loss->in[3] == ir_find(g, "share"));
    assert_shape(f, ir_value(g, loss->in[3]), "4x1");
    assert_true(handed(g, "correct")->op == OP_REDUCE_SUM);

    g = build(f, &m, 4, STEP_EVAL); /* plain labels */
    assert_int_equal(handed(g, "loss_each")->op, OP_SUB);
    assert_false(has(g, "label2"));
    assert_int_equal(ir_int(handed(g, "correct_each"), A_K), 1);
    assert_int_equal(ir_int(handed(g, "correct5_each"), A_K), 5);
    m.classes = 5;
    assert_false(has(build(f, &m, 4, STEP_EVAL), "correct5_each")); /* all are among the 5 best */
}

/* ---- Losses of targets, and further parts -------------------------------------------------------------------------
 */

static Tensor restore(DtContext *dt_ctx)
{
    return dt_conv2d(dt_image(), 3, 3, .pad = 1);
}

static void test_targets(void **state)
{
    static const struct {
        DtLoss loss;
        OpCode train, each;
    } known[] = { { DT_MSE, OP_MSE, OP_REDUCE_SUM },
                  { DT_L1, OP_L1, OP_REDUCE_ABS },
                  { DT_CHARBONNIER, OP_CHARBONNIER, OP_REDUCE_CHARBONNIER } };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(known); i++) {
        const DtModel m = { .name = "net", .doc = "", .image = { 3, 2, 5 }, .loss = known[i].loss, .build = restore };
        assert_int_equal(handed(build(f, &m, 4, STEP_TRAIN), "loss")->op, known[i].train);
        const Graph *g = build(f, &m, 4, STEP_EVAL);
        const Value *each = handed(g, "loss_each");
        assert_int_equal(each->op, known[i].each);
        assert_shape(f, each, "4x1");
        assert_true(ir_float(each, A_SCALE) == 1.0 / 30);
        assert_false(has(g, "correct5_each"));
    }
}

static Tensor restore_in_parts(DtContext *dt_ctx)
{
    Tensor noise = dt_relu(dt_conv2d(dt_image(), 3, 3, .pad = 1));
    dt_scope("estimate")
        dt_loss_tv(noise, 0.05f);
    dt_loss_asymmetric(noise, 0.5f, .alpha = 0.2f);
    return dt_add(dt_image(), noise);
}

static void test_parts(void **state)
{
    Fixture      *f = *state;
    const DtModel m = { .name = "net", .doc = "", .image = { 3, 4, 4 }, .loss = DT_L1, .build = restore_in_parts };
    const Graph  *g = build(f, &m, 4, STEP_TRAIN);
    assert_int_equal(handed(g, "loss:l1")->op, OP_L1);
    assert_int_equal(handed(g, "loss:estimate.tv")->op, OP_TV);
    const Value *part = handed(g, "loss:asymmetric"), *loss = handed(g, "loss");
    assert_true(part->op == OP_ASYMMETRIC && (float)ir_float(part, A_ALPHA) == 0.2f);
    assert_int_equal(part->in[1], ir_find(g, "noise"));
    assert_shape(f, ir_value(g, part->in[1]), "4x3x4x4");

    /* (l1 + 0.05 tv) + 0.5 asymmetric */
    const Value *last = ir_value(g, loss->in[1]), *first = ir_value(g, loss->in[0]);
    assert_true(loss->op == OP_ADD && last->op == OP_SCALE && (float)ir_float(last, A_SCALE) == 0.5f);
    assert_true(ir_value(g, last->in[0]) == part && first->op == OP_ADD);
    assert_true((float)ir_float(ir_value(g, first->in[1]), A_SCALE) == 0.05f);
    assert_true(ir_value(g, first->in[0]) == handed(g, "loss:l1"));

    for (StepKind step = STEP_EVAL; step <= STEP_INSPECT; step++) {
        const Graph *other = build(f, &m, 4, step);
        assert_int_equal(count(other, OP_TV) + count(other, OP_ASYMMETRIC), 0);
        assert_false(has(other, "noise"));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_activations), TEST(test_gates), TEST(test_labels), TEST(test_targets), TEST(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
