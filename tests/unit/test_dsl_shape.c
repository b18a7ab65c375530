/* test_dsl_shape.c: the layers of frontend/dsl_shape.c and the padding "same": shapes, attributes, params and their
 * first values. Messages are in tests/diag, what is computed in the op matrix. */
#include "frontend/detent.h"
#include "frontend/frontend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N = 2 };

typedef struct Net {
    Arena  a;
    Diag   d;
    Graph *g;
} Net;

static Net open_net(const DtModel *m)
{
    Net net = { .a = arena_new("test"), .d = diag_new(NULL) };
    net.g = frontend_build(&net.a, &net.d, m, N, STEP_TRAIN);
    if (!net.g)
        fail_msg("%s: %s", m->name, net.d.text.s);
    assert_true(ir_verify(net.g, PHASE_FRONTEND, &net.d));
    return net;
}

static void close_net(Net *net)
{
    diag_free(&net->d);
    arena_free(&net->a);
}

/* The op's value number `which` in order; NULL: there are fewer. */
static const Value *value(const Graph *g, OpCode op, int32_t which)
{
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], op) && which-- == 0)
            return ir_value(g, g->order.at[i]);
    return NULL;
}

static void assert_shape(Net *net, const Value *v, const char *text)
{
    assert_non_null(v);
    assert_string_equal(shape_text(&net->a, v->type.shape), text);
}

static void assert_pads(const Value *v, int64_t top, int64_t left, int64_t bottom, int64_t right)
{
    const int64_t *pad = ir_pads(v, A_PAD), want[4] = { top, left, bottom, right };
    assert_memory_equal(pad, want, sizeof want);
}

static const Value *leaf(const Graph *g, const char *name)
{
    ValueId id = ir_find(g, name);
    if (id == VALUE_NONE)
        fail_msg("there is no %s", name);
    return ir_value(g, id);
}

/* ---- Transposed convolution ---------------------------------------------------------------------------------------
 */

dt_model(transposed, "three of them", .image = { 6, 5, 4 }, .classes = 3)
{
    Tensor x = conv_transpose2d(dt_image(), 4, 2);
    dt_scope("up")
        x = conv_transpose2d(x, 8, 3, .stride = 2, .pad4 = { 1, 0, 0, 2 }, .no_bias = true, .name = "b");
    x = conv_transpose2d(x, 5, 3, .stride = 1, .pad = 1, .torch_init = true);
    return linear(global_avgpool(x), dt_classes());
}

static void test_transposed(void **state)
{
    (void)state;
    Net          net = open_net(&transposed);
    const Graph *g = net.g;
    assert_shape(&net, value(g, OP_CONV_TRANSPOSE2D, 0), "2x4x10x8");
    assert_shape(&net, value(g, OP_CONV_TRANSPOSE2D, 1), "2x8x20x15"); /* (10 - 1) 2 + 3 - 1, (8 - 1) 2 + 3 - 2 */
    assert_shape(&net, value(g, OP_CONV_TRANSPOSE2D, 2), "2x5x20x15");
    assert_int_equal(ir_int(value(g, OP_CONV_TRANSPOSE2D, 0), A_STRIDE), 2);
    assert_pads(value(g, OP_CONV_TRANSPOSE2D, 1), 1, 0, 0, 2);
    assert_pads(value(g, OP_CONV_TRANSPOSE2D, 2), 1, 1, 1, 1);

    assert_shape(&net, leaf(g, "deconv1.weight"), "6x4x2x2");
    assert_shape(&net, leaf(g, "deconv1.bias"), "4");
    assert_shape(&net, leaf(g, "up.b.weight"), "4x8x3x3");
    assert_int_equal(ir_find(g, "up.b.bias"), VALUE_NONE);
    assert_string_equal(value(g, OP_CONV_TRANSPOSE2D, 1)->scope, "up");
    /* He: what is added up in an element of the result, C R S / stride^2; PyTorch: K R S */
    assert_string_equal(ir_text(leaf(g, "deconv1.weight"), A_INIT), "kaiming");
    assert_int_equal(ir_int(leaf(g, "deconv1.weight"), A_FAN), 6 * 4 / 4);
    assert_int_equal(ir_int(leaf(g, "up.b.weight"), A_FAN), 4 * 9 / 4);
    assert_string_equal(ir_text(leaf(g, "deconv2.weight"), A_INIT), "torch");
    assert_int_equal(ir_int(leaf(g, "deconv2.weight"), A_FAN), 5 * 9);
    assert_int_equal(ir_int(leaf(g, "deconv2.bias"), A_FAN), 5 * 9);
    /* the bias is added to each channel */
    const Value *sum = value(g, OP_ADD, 0);
    assert_int_equal(sum->in[1], ir_find(g, "deconv1.bias"));
    assert_shape(&net, sum, "2x4x10x8");
    close_net(&net);
}

/* ---- Images of another size ----------------------------------------------------------------------------------------
 */

dt_model(sizes, "larger, with borders, joined", .image = { 3, 6, 4 }, .classes = 3)
{
    Tensor x = dt_image(), y = upsample(x, 1);
    y = pad_image(upsample(y, 3), .pad4 = { 1, 2, 0, 4 });
    y = pad_image(y, .pad4 = { 0, 0, 0, 0 });
    y = pad_image(y, .pad4 = { -1, -2, 0, -4 }, .name = "crop");
    x = concat(y, upsample(x, 3, .bilinear = true));
    Tensor v = concat(global_avgpool(x), global_avgpool(y));
    return linear(v, dt_classes());
}

static void test_sizes(void **state)
{
    (void)state;
    Net          net = open_net(&sizes);
    const Graph *g = net.g;
    assert_shape(&net, value(g, OP_UPSAMPLE, 0), "2x3x18x12");
    assert_false(ir_int(value(g, OP_UPSAMPLE, 0), A_BILINEAR));
    assert_shape(&net, value(g, OP_PAD_IMAGE, 0), "2x3x19x18");
    assert_shape(&net, value(g, OP_PAD_IMAGE, 1), "2x3x18x12");
    assert_pads(value(g, OP_PAD_IMAGE, 1), -1, -2, 0, -4);
    assert_true(ir_int(value(g, OP_UPSAMPLE, 1), A_BILINEAR));
    assert_shape(&net, value(g, OP_CONCAT, 0), "2x6x18x12");
    assert_shape(&net, value(g, OP_CONCAT, 1), "2x9");
    assert_null(value(g, OP_UPSAMPLE, 2)); /* a factor of 1 and no border are the value itself */
    assert_null(value(g, OP_PAD_IMAGE, 2));
    close_net(&net);
}

/* ---- "same" -------------------------------------------------------------------------------------------------------
 */

dt_model(same, "padding by size", .image = { 3, 7, 8 }, .classes = 3)
{
    Tensor x = conv2d(dt_image(), 4, 3, .same = true);
    x = conv2d(x, 4, 3, .stride = 2, .same = true);
    x = conv2d(x, 4, 2, .same = true);
    x = conv2d(x, 4, 5, .stride = 3, .same = true);
    x = conv2d(x, 4, 1, .stride = 2, .same = true);
    return linear(global_avgpool(x), dt_classes());
}

static void test_same(void **state)
{
    (void)state;
    Net          net = open_net(&same);
    const Graph *g = net.g;
    assert_shape(&net, value(g, OP_CONV2D, 0), "2x4x7x8");
    assert_pads(value(g, OP_CONV2D, 0), 1, 1, 1, 1);
    assert_shape(&net, value(g, OP_CONV2D, 1), "2x4x4x4");
    assert_pads(value(g, OP_CONV2D, 1), 1, 0, 1, 1); /* 3 windows of 3 behind 7 need 2; 4 of 8 need 1 */
    assert_shape(&net, value(g, OP_CONV2D, 2), "2x4x4x4");
    assert_pads(value(g, OP_CONV2D, 2), 0, 0, 1, 1);
    assert_shape(&net, value(g, OP_CONV2D, 3), "2x4x2x2");
    assert_pads(value(g, OP_CONV2D, 3), 2, 2, 2, 2);
    assert_shape(&net, value(g, OP_CONV2D, 4), "2x4x1x1");
    assert_pads(value(g, OP_CONV2D, 4), 0, 0, 0, 0); /* never less than nothing */
    close_net(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transposed),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
