/* test_ir.c: the op table, types, inference of every op (good and bad), building, and
 * rewriting. The text form and the verifier have programs of their own, test_ir_text.c and test_verify.c. */
#include "tests/unit/ir_fixture.h"

#include "ir/ops_impl.h"

#include <string.h>

static const char *print(Fixture *f, const Graph *g)
{
    Str s = str_new(&f->a);
    ir_print(&s, g);
    return s.s;
}

static Type f32(int32_t rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (Type){ DTYPE_F32, shape_of(rank, (int64_t[]){ a, b, c, d }), LAYOUT_ROWS };
}

/* ---- Tables and types ------------------------------------------------------------------------------------------ */

static void test_tables(void **state)
{
    (void)state;
    Fixture f = fixture_new();
    if (!ir_check_tables(&f.d))
        fail_msg("%s", said(&f));
    for (int32_t op = 0; op < OP_COUNT; op++) {
        OpCode found;
        assert_true(ir_op_parse(ir_ops[op].text, strlen(ir_ops[op].text), &found));
        assert_int_equal(found, op);
    }
    OpCode none;
    assert_false(ir_op_parse("conv", 4, &none));
    assert_false(ir_op_parse("conv2dx", 7, &none));
    assert_string_equal(attr_name(A_STRIDE), "stride");
    assert_int_equal(attr_kind(A_PAD), ATTR_PADS);

    Str doc = str_new(&f.a);
    ir_ops_doc(&doc);
    for (int32_t op = 0; op < OP_COUNT; op++)
        assert_non_null(strstr(doc.s, arena_printf(&f.a, "## `%s`\n\n%s\n", ir_ops[op].text, ir_ops[op].doc)));
    assert_non_null(strstr(doc.s, "| `pad` | four integers | [0,0,0,0] | 0 to 1024 |"));
    assert_non_null(
        strstr(doc.s, "| `keep` | text | \"\" | `\"\"`, `\"c\"`, `\"nc\"`, `\"n\"`, `\"o\"` | dimensions kept |"));
    assert_non_null(strstr(doc.s, "| `eps` | number | 1e-5 | 0 to 1 |"));
    fixture_free(&f);
}

static void test_types(void **state)
{
    (void)state;
    Arena a = arena_new("test");
    Type  t = f32(4, 2, 3, 4, 5);
    assert_int_equal(shape_elems(t.shape), 120);
    assert_int_equal(type_bytes(t), 480);
    const int64_t rows[] = { 60, 20, 5, 1 }, nhwc[] = { 60, 1, 15, 3 };
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(type_stride(t, i), rows[i]);
    t.layout = LAYOUT_NHWC;
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(type_stride(t, i), nhwc[i]);
    assert_string_equal(shape_text(&a, t.shape), "2x3x4x5");
    assert_string_equal(shape_text(&a, f32(0, 0, 0, 0, 0).shape), "");
    assert_int_equal(type_bytes((Type){ DTYPE_U4, shape_of(1, (int64_t[]){ 5 }), LAYOUT_ROWS }), 3);
    assert_true(shape_eq(f32(1, 7, 1, 1, 1).shape, f32(1, 7, 2, 2, 2).shape));
    assert_false(shape_eq(f32(1, 7, 0, 0, 0).shape, f32(2, 7, 1, 0, 0).shape));

    assert_null(ir_type_fault(&a, t));
    assert_non_null(ir_type_fault(&a, f32(2, 3, 0, 0, 0)));
    assert_non_null(ir_type_fault(&a, f32(2, 3, (int64_t)DT_MAX_DIM + 1, 0, 0)));
    assert_non_null(ir_type_fault(&a, f32(4, DT_MAX_DIM, DT_MAX_DIM, DT_MAX_DIM, DT_MAX_DIM)));
    assert_non_null(ir_type_fault(&a, (Type){ DTYPE_F32, { .rank = 5 }, LAYOUT_ROWS }));
    assert_non_null(ir_type_fault(&a, (Type){ DTYPE_COUNT, { .rank = 0 }, LAYOUT_ROWS }));
    assert_non_null(ir_type_fault(&a, (Type){ DTYPE_F32, { .rank = 0 }, LAYOUT_NHWC }));
    arena_free(&a);
}

/* ---- Inference ------------------------------------------------------------------------------------------------- */

/* The types of the operands, the attributes, and the result or (not beginning with a type) part of the message. */
typedef struct InferCase {
    const char *op, *in, *attrs, *wanted;
} InferCase;

/* clang-format off */
static const InferCase infer_cases[] = {
    { "const", "", "value=2", "f32[]" },
    /* convolution */
    { "conv2d", "f32[2x3x8x8] f32[4x3x3x3]", "", "f32[2x4x6x6]" },
    { "conv2d", "f32[2x3x8x8] f32[4x3x3x3] f32[4]", "pad=[1,1,1,1], stride=2", "f32[2x4x4x4]" },
    { "conv2d", "f32[2x3x9x7] f32[4x3x3x3]", "pad=[0,1,1,2], stride=2", "f32[2x4x4x4]" },
    { "conv2d", "f32[2x6x8x8] f32[6x1x5x5]", "groups=6, pad=[2,2,2,2]", "f32[2x6x8x8]" },
    { "conv2d", "f32[2x5x8x8] f32[4x3x3x3]", "", "conv2d: x has 5 channels, expected 3: w is f32[4x3x3x3], groups 1" },
    { "conv2d", "f32[2x3x8] f32[4x3x3x3]", "", "conv2d: x is f32[2x3x8], expected f32[N,C,H,W]" },
    { "conv2d", "f32[2x3x8x8] f32[4x3]", "", "conv2d: w is f32[4x3], expected f32[K,C/groups,R,R]" },
    { "conv2d", "f32[2x3x8x8] f32[4x3x3x5]", "", "expected a square window" },
    { "conv2d", "f32[2x3x8x8] f32[4x3x3x3] f32[3]", "", "conv2d: bias is f32[3], expected f32[4]" },
    { "conv2d", "f32[2x3x2x8] f32[4x3x3x3]", "", "conv2d: a window of 3x3 does not fit into an image of 2x8 with padding [0,0,0,0]" },
    { "conv2d", "f32[2x4x8x8] f32[5x2x3x3]", "groups=2", "conv2d: 5 output channels do not split into 2 groups" },
    { "conv2d", "i32[2x3x8x8] f32[4x3x3x3]", "", "conv2d: x is i32[2x3x8x8], expected f32[N,C,H,W]" },
    { "conv2d", "f32[268435456x1x1x1] f32[2097152x1x1x1]", "", "conv2d: the result is no valid type: <268435456x2097152x1x1: more than 2^48 elements>" },
    { "conv2d_grad_x", "f32[2x4x4x4] f32[4x3x3x3]", "pad=[1,1,1,1], stride=2, h=8, w=8", "f32[2x3x8x8]" },
    { "conv2d_grad_x", "f32[2x6x8x8] f32[6x1x3x3]", "pad=[1,1,1,1], groups=6, h=8, w=8", "f32[2x6x8x8]" },
    { "conv2d_grad_x", "f32[2x4x4x4] f32[4x3x3x3]", "h=8, w=8", "conv2d_grad_x: dy is f32[2x4x4x4], expected 6x6 images" },
    { "conv2d_grad_x", "f32[2x5x6x6] f32[4x3x3x3]", "h=8, w=8", "conv2d_grad_x: dy has 5 channels, w makes 4" },
    { "conv2d_grad_w", "f32[2x4x4x4] f32[2x3x8x8]", "pad=[1,1,1,1], stride=2, kernel=3", "f32[4x3x3x3]" },
    { "conv2d_grad_w", "f32[2x6x8x8] f32[2x6x8x8]", "pad=[1,1,1,1], groups=6, kernel=3", "f32[6x1x3x3]" },
    { "conv2d_grad_w", "f32[3x4x6x6] f32[2x3x8x8]", "kernel=3", "conv2d_grad_w: dy is a batch of 3, x of 2" },
    { "conv2d_grad_w", "f32[2x4x6x6] f32[2x3x8x8]", "kernel=3, groups=2", "do not split into 2 groups" },
    /* a window for each channel */
    { "depthwise_weight", "f32[6x1x5x5]", "", "f32[1x6x5x5]" },
    { "depthwise_weight", "f32[6x2x5x5]", "", "depthwise_weight: w is f32[6x2x5x5], expected f32[C,1,R,R]" },
    { "depthwise_weight", "f32[6x5]", "", "depthwise_weight: w is f32[6x5], expected f32[C,1,R,R]" },
    { "depthwise", "f32[2x6x9x8] f32[1x6x5x5]", "stride=2, pad=[2,2,2,1]", "f32[2x6x5x4]" },
    { "depthwise", "f32[2x6x9x8] f32[1x5x5x5]", "", "depthwise: w is f32[1x5x5x5], expected f32[1x6x5x5]: a window for each channel" },
    { "depthwise", "f32[2x6x4x8] f32[1x6x5x5]", "", "depthwise: a window of 5x5 does not fit into a padded image of 4x8" },
    { "depthwise", "f32[2x6x4x8] f32[6x25]", "", "depthwise: w is f32[6x25], expected f32[1,C,R,R]" },
    { "depthwise_grad_x", "f32[2x6x4x4] f32[1x6x3x3]", "stride=2, pad=[1,1,1,1], h=8, w=8", "f32[2x6x8x8]" },
    { "depthwise_grad_x", "f32[2x6x4x4] f32[1x6x3x3]", "h=8, w=8", "depthwise_grad_x: dy is f32[2x6x4x4], expected f32[2x6x6x6]: the windows over images of h x w" },
    { "depthwise_grad_w", "f32[2x6x4x4] f32[2x6x8x8]", "stride=2, pad=[1,1,1,1], kernel=3", "f32[6x1x3x3]" },
    { "depthwise_grad_w", "f32[2x6x4x4] f32[2x6x8x8]", "kernel=3", "depthwise_grad_w: dy is f32[2x6x4x4], expected f32[2x6x6x6]: the windows over x" },
    { "conv_transpose2d", "f32[2x4x5x6] f32[4x3x2x2]", "stride=2", "f32[2x3x10x12]" },
    { "conv_transpose2d", "f32[2x4x5x6] f32[4x3x3x3]", "stride=2, pad=[1,0,0,2]", "f32[2x3x10x11]" },
    { "conv_transpose2d", "f32[2x5x5x6] f32[4x3x2x2]", "", "conv_transpose2d: x has 5 channels, expected 4: w is f32[4x3x2x2]" },
    { "conv_transpose2d", "f32[2x4x5x6] f32[4x3x2x3]", "", "expected a square window" },
    { "conv_transpose2d", "f32[2x4x5x6] f32[4x3]", "", "conv_transpose2d: w is f32[4x3], expected f32[C,K,R,R]" },
    { "conv_transpose2d", "f32[2x4x1x6] f32[4x3x2x2]", "pad=[1,0,1,0]", "conv_transpose2d: padding [1,0,1,0] leaves nothing of the result" },
    { "concat", "f32[2x3x4x5] f32[2x1x4x5]", "", "f32[2x4x4x5]" },
    { "concat", "f32[2x3] f32[2x7]", "", "f32[2x10]" },
    { "concat", "f32[2x3x4x5] f32[2x3x4x6]", "", "concat: x is f32[2x3x4x5] and y is f32[2x3x4x6], expected them to differ in channels alone" },
    { "concat", "f32[2x3x4x5] f32[2x3]", "", "expected them to differ in channels alone" },
    { "concat", "f32[3] f32[3]", "", "concat: x is f32[3], expected f32[N,C] or f32[N,C,H,W]" },
    { "slice", "f32[2x5x4x4]", "begin=3, channels=2", "f32[2x2x4x4]" },
    { "slice", "f32[2x5]", "begin=-2, channels=9", "f32[2x9]" },
    { "slice", "f32[2x5]", "begin=5, channels=1", "slice: channels 5 to 5, x has 0 to 4: nothing of it is left" },
    { "slice", "f32[2x5]", "begin=-3, channels=3", "slice: channels -3 to -1, x has 0 to 4: nothing of it is left" },
    { "pad_image", "f32[2x3x4x5]", "pad=[1,-2,0,3]", "f32[2x3x5x6]" },
    { "pad_image", "f32[2x3x4x5]", "pad=[-2,0,-2,0]", "pad_image: pad [-2,0,-2,0] leaves nothing of an image of 4x5" },
    { "pad_image", "f32[2x3x4x5]", "pad=[-4,0,3,0]", "leaves nothing of an image" },
    { "pad_image", "f32[2x3]", "pad=[1,1,1,1]", "pad_image: x is f32[2x3], expected f32[N,C,H,W]" },
    { "upsample", "f32[2x3x4x5]", "factor=3", "f32[2x3x12x15]" },
    { "upsample", "f32[2x3x268435456x1]", "factor=2", "upsample: the result is no valid type" },
    { "upsample_grad", "f32[2x3x4x6]", "factor=2, bilinear=true", "f32[2x3x2x3]" },
    { "upsample_grad", "f32[2x3x4x5]", "factor=2", "upsample_grad: g is f32[2x3x4x5], expected a height and a width that 2 divides" },
    /* matrix products */
    { "linear", "f32[8x64] f32[10x64] f32[10]", "", "f32[8x10]" },
    { "linear", "f32[8x64] f32[10x65]", "", "linear: x has 64 features, expected 65: w is f32[10x65]" },
    { "linear", "f32[8x64x1x1] f32[10x64]", "", "linear: x is f32[8x64x1x1], expected f32[N,I]" },
    { "linear", "f32[8x64] f32[10x64] f32[64]", "", "linear: bias is f32[64], expected f32[10]" },
    { "linear_grad_x", "f32[8x10] f32[10x64]", "", "f32[8x64]" },
    { "linear_grad_x", "f32[8x11] f32[10x64]", "", "linear_grad_x: dy has 11 features, w makes 10" },
    { "linear_grad_w", "f32[8x10] f32[8x64]", "", "f32[10x64]" },
    { "linear_grad_w", "f32[8x10] f32[7x64]", "", "linear_grad_w: dy is a batch of 8, x of 7" },
    /* normalization */
    { "batchnorm", "f32[2x3x4x4] f32[3] f32[3] f32[3] f32[3]", "", "f32[2x3x4x4]" },
    { "batchnorm", "f32[2x3] f32[3] f32[3] f32[3] f32[3]", "eps=0.1", "f32[2x3]" },
    { "batchnorm", "f32[2x3x4x4] f32[3] f32[4] f32[3] f32[3]", "", "batchnorm: var is f32[4], expected f32[3]" },
    { "batchnorm", "f32[3] f32[3] f32[3] f32[3] f32[3]", "", "batchnorm: x is f32[3], expected f32[N,C] or f32[N,C,H,W]" },
    { "bn_mean", "f32[2x3x4x4] f32[3]", "", "f32[3]" },
    { "bn_var", "f32[2x3] f32[3]", "", "f32[3]" },
    { "bn_var", "f32[2x3x4x4] f32[2]", "", "bn_var: shift is f32[2], expected f32[3]" },
    { "bn_scale", "f32[3] f32[3]", "", "f32[3]" },
    { "bn_shift", "f32[3] f32[3] f32[3]", "", "f32[3]" },
    { "bn_dgamma", "f32[2x3x4x4] f32[2x3x4x4] f32[3]", "", "f32[3]" },
    { "bn_dgamma", "f32[2x3x4x4] f32[2x3x4x5] f32[3]", "", "bn_dgamma: x is f32[2x3x4x5], expected f32[2x3x4x4]" },
    { "bn_dgamma", "f32[2x3x4x4] f32[2x3x4x4] f32[4]", "", "bn_dgamma: mean is f32[4]" },
    { "bn_grad_x", "f32[3] f32[3] f32[3]", "count=32", "f32[3]" },
    { "bn_grad_1", "f32[3] f32[3] f32[3] f32[3]", "count=32", "f32[3]" },
    { "affine2", "f32[2x3x4x4] f32[3] f32[2x3x4x4] f32[3] f32[3]", "", "f32[2x3x4x4]" },
    { "bn_fold", "f32[3] f32[3]", "eps=0.001", "f32[3]" },
    { "bn_unfold", "f32[3] f32[3]", "", "f32[3]" },
    { "bn_unfold", "f32[3] f32[2]", "", "bn_unfold: shapes differ: lhs 3, rhs 2" },
    { "bn_deviation", "f32[3]", "", "f32[3]" },
    { "rsqrt_mul", "f32[3] f32[3]", "eps=0.001", "f32[3]" },
    { "ema", "f32[3] f32[3]", "momentum=0.5, scale=1.25", "f32[3]" },
    { "ema", "f32[3] f32[4]", "", "ema: shapes differ: lhs 3, rhs 4" },
    /* element-wise and broadcasting */
    { "add", "f32[2x3x4x4] f32[2x3x4x4]", "", "f32[2x3x4x4]" },
    { "add", "f32[] f32[2x3]", "", "f32[2x3]" },
    { "add", "f32[3] f32[2x3x4x4]", "", "f32[2x3x4x4]" },
    { "add", "f32[2x3x4x4] f32[2]", "axis=0", "f32[2x3x4x4]" },
    { "add", "f32[2x3x4x4] f32[2x3x1x1]", "", "f32[2x3x4x4]" },
    { "add", "f32[] f32[]", "", "f32[]" },
    { "add", "f32[128x16x16x16] f32[128x16x32x32]", "", "add: shapes differ: lhs 128x16x16x16, rhs 128x16x32x32" },
    { "add", "f32[2x3x4x4] f32[4]", "", "add: shapes differ: lhs 2x3x4x4, rhs 4 (a vector along dimension 1 needs length 3)" },
    { "add", "f32[2x3] f32[2x3x4x4]", "", "add: shapes differ: lhs 2x3, rhs 2x3x4x4" },
    { "add", "f32[1] f32[5]", "", "add: shapes differ: lhs 1, rhs 5" },
    { "add", "f32[2x1] f32[1x3]", "", "add: shapes differ: lhs 2x1, rhs 1x3" },
    { "add", "f32[2x3] f32[2]", "axis=3", "add: shapes differ: lhs 2x3, rhs 2" },
    { "sub", "f32[2x3] f32[2x3]", "", "f32[2x3]" },
    { "sub", "f32[2x3] i32[2x3]", "", "sub: rhs is i32[2x3], expected f32" },
    { "mul", "f32[2x3] f32[3]", "", "f32[2x3]" },
    { "affine", "f32[2x3x4x4] f32[3] f32[3]", "", "f32[2x3x4x4]" },
    { "affine", "f32[2x3x4x4] f32[3] f32[4]", "", "affine: shapes differ: operand 1 2x3x4x4, operand 3 4" },
    { "relu", "f32[2x3]", "", "f32[2x3]" },
    { "relu", "u8[2x3]", "", "relu: the input is u8[2x3], expected f32" },
    { "relu6", "f32[2x3]", "", "f32[2x3]" },
    { "leaky_relu", "f32[2x3]", "slope=0.5", "f32[2x3]" },
    { "leaky_relu", "i32[2x3]", "", "leaky_relu: the input is i32[2x3], expected f32" },
    { "sigmoid", "f32[2x3]", "", "f32[2x3]" },
    { "silu", "f32[2x3x4x4]", "", "f32[2x3x4x4]" },
    { "hard_sigmoid", "f32[2x3]", "", "f32[2x3]" },
    { "hard_swish", "f32[2x3]", "", "f32[2x3]" },
    { "mul", "f32[2x3x4x4] f32[2x3x1x1]", "", "f32[2x3x4x4]" },
    { "scale", "f32[2x3]", "scale=0.5", "f32[2x3]" },
    { "relu6_grad", "f32[2x3] f32[2x3]", "", "f32[2x3]" },
    { "leaky_relu_grad", "f32[2x3] f32[2x3]", "", "f32[2x3]" },
    { "sigmoid_grad", "f32[2x3] f32[2x3]", "", "f32[2x3]" },
    { "silu_grad", "f32[2x3] f32[2x3]", "", "f32[2x3]" },
    { "silu_grad", "f32[2x3] f32[2]", "", "silu_grad: g is f32[2], expected f32[2x3]" },
    { "hard_sigmoid_grad", "f32[2x3] f32[2x3]", "", "f32[2x3]" },
    { "hard_swish_grad", "f32[2x3] f32[2x3]", "", "f32[2x3]" },
    { "sample_mask", "u32[] u32[]", "count=5, p=0.5", "f32[5x1x1x1]" },
    { "sample_mask", "u32[] f32[]", "count=5, p=0.5", "sample_mask: step is f32[], expected u32[]" },
    { "sample_mask", "u32[] u32[]", "count=5, p=1", "sample_mask: p is 1, expected a probability below 1" },
    { "relu_grad", "f32[2x3] f32[2x3]", "", "f32[2x3]" },
    { "relu_grad", "f32[2x3] f32[2x4]", "", "relu_grad: g is f32[2x4], expected f32[2x3]" },
    { "dropout", "f32[2x3] u32[] u32[]", "p=0.5", "f32[2x3]" },
    { "dropout", "f32[2x3] u32[] i32[]", "p=0.5", "dropout: step is i32[], expected u32[]" },
    { "dropout", "f32[2x3] u32[] u32[]", "p=1", "dropout: p is 1, expected a probability below 1" },
    { "relayout", "f32[2x3x4x4]", "", "f32[2x3x4x4]" },
    { "relayout", "u8[2x3x4x4]", "", "u8[2x3x4x4]" },
    /* quantizers */
    { "qdq", "f32[4x3x3x3] f32[]", "lo=-8, hi=7, bits=4", "f32[4x3x3x3]" },
    { "qdq", "f32[4x3x3x3] f32[3]", "lo=-8, hi=7, bits=4", "f32[4x3x3x3]" },
    { "qdq", "f32[4x3x3x3] f32[4x3x3x3]", "lo=-8, hi=7, bits=4", "qdq: step is f32[4x3x3x3], expected an f32 scalar or one number for each channel" },
    { "qdq", "f32[4x3x3x3] f32[4] f32[4]", "lo=-8, hi=7, bits=4, axis=0", "f32[4x3x3x3]" },
    { "qdq", "f32[4x3x3x3] f32[4]", "lo=-8, hi=7, bits=4", "qdq: step is f32[4], expected an f32 scalar or one number for each channel of 4x3x3x3" },
    { "qdq", "f32[4x3x3x3] f32[] f32[3]", "lo=0, hi=15, bits=4, axis=0", "qdq: zero is f32[3], expected an f32 scalar or one number for each channel" },
    { "qdq", "f32[4x3] f32[]", "lo=7, hi=7, bits=4", "qdq: codes 7 to 7, expected lo below hi" },
    { "qdq_grad_x", "f32[4x3] f32[] f32[4x3]", "lo=0, hi=15, ends=\"code\"", "f32[4x3]" },
    { "qdq_grad_x", "f32[4x3] f32[] f32[4x3] f32[]", "lo=0, hi=15", "f32[4x3]" },
    { "qdq_grad_x", "f32[4x3] f32[] f32[3x4]", "lo=0, hi=15", "qdq_grad_x: g is f32[3x4], expected f32[4x3]" },
    { "lsq_grad_step", "f32[4x3] f32[] f32[4x3]", "lo=0, hi=15, scale=0.1", "f32[]" },
    { "lsq_grad_step", "f32[4x3x2x2] f32[3] f32[4x3x2x2]", "lo=0, hi=15, keep=\"c\"", "f32[3]" },
    { "lsq_grad_step", "f32[4x3x2x2] f32[4] f32[4x3x2x2] f32[]", "lo=0, hi=15, axis=0, keep=\"o\"", "f32[4]" },
    { "lsq_grad_step", "f32[4x3] f32[] f32[4x4]", "lo=0, hi=15", "lsq_grad_step: g is f32[4x4]" },
    { "lsq_grad_offset", "f32[4x3] f32[] f32[4x3] f32[]", "lo=0, hi=15, keep=\"c\"", "f32[3]" },
    { "lsq_grad_offset", "f32[4] f32[] f32[4]", "lo=0, hi=15, keep=\"o\"", "lsq_grad_offset: keep is \"o\", but 4 has no such dimension" },
    { "zero_point", "f32[] f32[]", "lo=0, hi=255", "f32[]" },
    { "zero_point", "f32[3] f32[4]", "lo=0, hi=255", "zero_point: shapes differ: lhs 3, rhs 4" },
    { "quant_noise", "f32[4x3] f32[4x3] u32[] u32[]", "p=0.5, stream=3, block=9", "f32[4x3]" },
    { "quant_noise", "f32[] f32[4x3] u32[] u32[]", "p=1", "f32[4x3]" },
    { "quant_noise", "f32[4x3] f32[] u32[] u32[]", "p=0", "f32[4x3]" },
    { "quant_noise", "f32[4x3] f32[3] u32[] u32[]", "p=0.5", "quant_noise: q is f32[3], expected f32[4x3]: the type of the other" },
    { "quant_noise", "f32[4x3] f32[4x3] u32[] f32[]", "p=0.5", "quant_noise: step is f32[], expected u32[]" },
    { "grad_scale", "f32[4x3]", "scale=0.1", "f32[4x3]" },
    { "repeat", "f32[3]", "count=4", "f32[12]" },
    { "repeat", "f32[3x1]", "count=4", "repeat: x is f32[3x1], expected f32[G]" },
    { "repeat", "f32[2097152]", "count=2097152", "repeat: 2097152 numbers 2097152 times are too many" },
    { "repeat_grad", "f32[12]", "count=4", "f32[3]" },
    { "repeat_grad", "f32[13]", "count=4", "repeat_grad: x has 13 numbers, which is no multiple of 4" },
    { "group_max", "f32[12]", "count=6", "f32[2]" },
    { "max_step", "f32[5]", "hi=127", "f32[5]" },
    { "range_step", "f32[] f32[]", "lo=1, hi=255", "f32[]" },
    { "range_step", "f32[] f32[]", "lo=9, hi=3", "range_step: codes 9 to 3, expected lo below hi" },
    { "range_zero", "f32[5] f32[5]", "lo=-128, hi=127", "f32[5]" },
    { "penalty", "f32[4x3] f32[]", "lo=-2, hi=1", "f32[]" },
    { "penalty", "f32[4x3] f32[4]", "lo=-2, hi=1, axis=0, form=\"msqe\", keep=\"o\"", "f32[4]" },
    { "penalty_grad_x", "f32[4x3] f32[] f32[]", "lo=-2, hi=1", "f32[4x3]" },
    { "penalty_grad_x", "f32[4x3] f32[] f32[4x3]", "lo=-2, hi=1", "penalty_grad_x: g is f32[4x3], expected f32[]: a scalar" },
    { "penalty_grad_step", "f32[4x3] f32[3] f32[]", "lo=-2, hi=1, keep=\"c\"", "f32[3]" },
    { "count_clipped", "f32[4x3] f32[] f32[]", "lo=0, hi=15", "f32[]" },
    { "squared_error", "f32[4x3] f32[4x3]", "keep=\"n\"", "f32[4x1]" },
    { "squared_error", "f32[4x3] f32[3]", "", "squared_error: y is f32[3], expected f32[4x3]" },
    { "count_nonfinite", "f32[4x3]", "", "f32[]" },
    { "lsq_init", "f32[] f32[]", "hi=7, bits=4", "f32[]" },
    { "quantize", "f32[4x3x3x3] f32[]", "lo=-8, hi=7", "s8[4x3x3x3]" },
    { "quantize", "f32[4x3] f32[]", "lo=0, hi=127", "s8[4x3]" },
    { "quantize", "f32[4x3] f32[]", "lo=0, hi=128", "u8[4x3]" },
    { "quantize", "f32[4x3] f32[]", "lo=-1, hi=128", "quantize: codes -1 to 128, expected -128 to 127 or 0 to 255: they are bytes" },
    { "quantize", "s8[4x3] f32[]", "lo=0, hi=7", "quantize: x is s8[4x3], expected f32" },
    { "quantize", "f32[4x3] f32[4]", "lo=0, hi=7", "quantize: step is f32[4], expected an f32 scalar or one number for each channel" },
    { "quantize", "f32[4x3] f32[] f32[]", "lo=0, hi=255", "u8[4x3]" },
    { "quantize", "f32[4x3] f32[] f32[]", "lo=0, hi=127, centred=true", "s8[4x3]" },
    { "quantize", "f32[4x3] f32[] f32[]", "lo=0, hi=128, centred=true", "quantize: centred codes of 0 to 128 may be 128 apart from the zero point, expected at most 127" },
    { "quantize", "f32[4x3] f32[] f32[4]", "lo=0, hi=7", "quantize: zero is f32[4], expected an f32 scalar or one number for each channel" },
    { "tap_outputs", "f32[4x3x2x2]", "", "f32[12x4x1x1]" },
    { "tap_outputs", "s8[5x1x3x3]", "", "s8[9x5x1x1]" },
    { "tap_outputs", "f32[4x3x2x3]", "", "tap_outputs: w is f32[4x3x2x3], expected [C,K,R,R]" },
    { "tap_outputs", "f32[4x3]", "", "tap_outputs: w is f32[4x3], expected [C,K,R,R]" },
    { "interleave", "f32[2x12x3x5]", "factor=2", "f32[2x3x6x10]" },
    { "interleave", "f32[2x12x3x5]", "factor=3", "interleave: x has 12 channels, expected a multiple of 9" },
    { "interleave", "f32[2x12]", "factor=2", "interleave: x is f32[2x12], expected f32[N,C,H,W]" },
    { "conv2d_int", "s8[2x3x8x8] s8[4x3x3x3] f32[]", "pad=[1,1,1,1], stride=2", "f32[2x4x4x4]" },
    { "conv2d_int", "u8[2x6x8x8] s8[4x3x3x3] f32[4]", "groups=2", "f32[2x4x6x6]" },
    { "conv2d_int", "f32[2x3x8x8] s8[4x3x3x3] f32[]", "", "conv2d_int: x is f32[2x3x8x8], expected s8[N,C,H,W] or u8[N,C,H,W]" },
    { "conv2d_int", "s8[2x3x8x8] u8[4x3x3x3] f32[]", "", "conv2d_int: w is u8[4x3x3x3], expected s8[K,C/groups,R,R]" },
    { "conv2d_int", "s8[2x3x8x8] s8[4x3x3x3] f32[3]", "", "conv2d_int: scale is f32[3], expected f32[4]: a scalar, or one number for each output channel" },
    { "conv2d_int", "s8[2x5x8x8] s8[4x3x3x3] f32[]", "", "conv2d_int: x has 5 channels, expected 3" },
    { "conv2d_grad_x", "f32[2x4x8x8] s8[4x3x3x3]", "pad=[1,1,1,1], h=8, w=8, bf16=true", "f32[2x3x8x8]" },
    { "conv2d_grad_w", "f32[2x4x8x8] u8[2x3x8x8]", "pad=[1,1,1,1], kernel=3, bf16=true", "f32[4x3x3x3]" },
    { "conv2d_grad_w", "f32[2x4x8x8] u8[2x3x8x8]", "pad=[1,1,1,1], kernel=3", "conv2d_grad_w: x is u8[2x3x8x8], expected f32[N,C,H,W]" },
    { "conv2d_grad_w", "f32[2x4x8x8] f32[2x2x8x8]", "pad=[1,1,1,1], kernel=3, groups=2, bf16=true", "conv2d_grad_w: bf16 with 2 groups, expected none" },
    { "linear_int", "s8[8x64] s8[10x64] f32[]", "", "f32[8x10]" },
    { "linear_int", "u8[8x64] s8[10x64] f32[10]", "", "f32[8x10]" },
    { "linear_int", "s8[8x64] s8[10x65] f32[]", "", "linear_int: x has 64 features, expected 65" },
    { "linear_int", "s8[8x64] s8[10x64] s8[]", "", "linear_int: scale is s8[], expected f32[10]" },
    /* pooling and shortcuts */
    { "maxpool", "f32[2x3x8x8]", "", "f32[2x3x4x4]" },
    { "maxpool", "f32[2x3x7x7]", "kernel=3, stride=2, pad=[1,1,1,1]", "f32[2x3x4x4]" },
    { "maxpool", "f32[2x3x8x8]", "pad=[2,0,0,0]", "maxpool: padding is 2, expected less than the window's 2" },
    { "maxpool", "f32[2x3x1x8]", "", "maxpool: a window of 2x2 does not fit" },
    { "avgpool", "f32[2x3x8x8]", "kernel=8", "f32[2x3x1x1]" },
    { "maxpool_tap", "f32[2x3x8x8]", "", "u8[2x3x4x4]" },
    { "maxpool_tap", "f32[2x3x80x80]", "kernel=17", "maxpool_tap: kernel is 17, expected at most 16" },
    { "maxpool_grad", "u8[2x3x4x4] f32[2x3x4x4]", "h=8, w=8", "f32[2x3x8x8]" },
    { "maxpool_grad", "u8[2x3x4x4] f32[2x3x4x4]", "h=9, w=9", "f32[2x3x9x9]" },
    { "maxpool_grad", "u8[2x3x4x4] f32[2x3x4x4]", "h=12, w=8", "maxpool_grad: g is f32[2x3x4x4], expected f32[2x3x6x4]" },
    { "maxpool_grad", "f32[2x3x4x4] f32[2x3x4x4]", "h=8, w=8", "maxpool_grad: tap is f32[2x3x4x4], expected u8[2x3x4x4]" },
    { "avgpool_grad", "f32[2x3x4x4]", "h=8, w=8", "f32[2x3x8x8]" },
    { "global_avgpool", "f32[2x3x4x4]", "", "f32[2x3x1x1]" },
    { "global_avgpool", "f32[2x3]", "", "global_avgpool: x is f32[2x3]" },
    { "reshape", "f32[2x3x4x4]", "channels=48", "f32[2x48]" },
    { "reshape", "f32[2x48]", "channels=3, h=4, w=4", "f32[2x3x4x4]" },
    { "reshape", "f32[2x48]", "channels=49", "reshape: 2x48 has 96 elements, 2x49 has 98" },
    { "reshape", "f32[2x48]", "channels=3, h=16", "reshape: h is 16 and w is 0" },
    { "reshape", "f32[]", "channels=1", "reshape: the input is a scalar" },
    { "broadcast", "f32[2x3x1x1]", "channels=3, h=4, w=4", "f32[2x3x4x4]" },
    { "broadcast", "f32[2x1]", "channels=5", "f32[2x5]" },
    { "broadcast", "f32[3]", "channels=3, h=4, w=4, count=2", "f32[2x3x4x4]" },
    { "broadcast", "f32[2]", "channels=3, h=4, w=4, axis=0, count=2", "f32[2x3x4x4]" },
    { "broadcast", "f32[]", "channels=3, h=4, w=4", "broadcast: x is f32[] and has no rows" },
    { "broadcast", "f32[2x4x1x1]", "channels=3, h=4, w=4", "broadcast: 2x4x1x1 cannot be repeated to 2x3x4x4" },
    { "shortcut_a", "f32[2x16x9x9]", "channels=32, stride=2", "f32[2x32x5x5]" },
    { "shortcut_a", "f32[2x16x9x9]", "channels=8", "shortcut_a: channels is 8, expected at least the 16 of x" },
    { "shortcut_a_grad", "f32[2x32x5x5]", "channels=16, stride=2, h=9, w=9", "f32[2x16x9x9]" },
    { "shortcut_a_grad", "f32[2x32x5x5]", "channels=16, stride=2, h=8, w=9", "shortcut_a_grad: g is f32[2x32x5x5], expected f32[2x32x4x5]" },
    { "shortcut_a_grad", "f32[2x32x5x5]", "channels=64, stride=2, h=9, w=9", "shortcut_a_grad: channels is 64, expected at most the 32 of g" },
    /* losses and reductions */
    { "cross_entropy", "f32[8x10] i32[8x1]", "", "f32[]" },
    { "cross_entropy", "f32[8x10] i32[8]", "", "cross_entropy: labels is i32[8], expected i32[8x1]" },
    { "cross_entropy", "f32[8x10x1x1] i32[8x1]", "", "cross_entropy: logits is f32[8x10x1x1], expected f32[N,C]" },
    { "cross_entropy", "f32[8x10] i32[8x1] i32[8x1] f32[8x1]", "smoothing=0.1", "f32[]" },
    { "cross_entropy", "f32[8x10] i32[8x1] i32[8x1]", "", "cross_entropy: labels2 stands alone" },
    { "cross_entropy", "f32[8x10] i32[8x1] i32[8x1] f32[8x10]", "", "cross_entropy: share is f32[8x10], expected f32[8x1]" },
    { "cross_entropy", "f32[8x10] i32[8x1]", "smoothing=1", "cross_entropy: smoothing is 1, expected below 1" },
    { "l1", "f32[8x3x4x4] f32[8x3x4x4]", "", "f32[]" },
    { "l1", "f32[8x3x4x4] f32[8x3]", "", "l1: target is f32[8x3], expected f32[8x3x4x4]" },
    { "charbonnier", "f32[8x10] f32[8x10]", "", "f32[]" },
    { "asymmetric", "f32[8x10] f32[8x10]", "alpha=0.2", "f32[]" },
    { "tv", "f32[8x3x4x4]", "", "f32[]" },
    { "tv", "f32[8x3]", "", "tv: x is f32[8x3], expected f32[N,C,H,W]" },
    { "l1_grad", "f32[8x10] f32[8x10] f32[]", "", "f32[8x10]" },
    { "reduce_charbonnier", "f32[8x10] f32[8x10]", "keep=\"n\"", "f32[8x1]" },
    { "charbonnier_grad", "f32[8x10] f32[8x10] f32[]", "", "f32[8x10]" },
    { "charbonnier_grad", "f32[8x10] f32[8x10] f32[8]", "", "charbonnier_grad: g is f32[8], expected f32[]: a scalar" },
    { "reduce_asymmetric", "f32[8x10] f32[8x10]", "", "f32[]" },
    { "asymmetric_grad", "f32[8x10] f32[8x10] f32[]", "", "f32[8x10]" },
    { "tv_each", "f32[8x3x4x4]", "", "f32[8x3x4x4]" },
    { "tv_grad", "f32[8x3x4x4]", "", "f32[8x3x4x4]" },
    { "tv_grad", "f32[8x3x4]", "", "tv_grad: x is f32[8x3x4], expected f32[N,C,H,W]" },
    { "mse", "f32[8x10] f32[8x10]", "", "f32[]" },
    { "mse", "f32[8x10] f32[8x11]", "", "mse: target is f32[8x11], expected f32[8x10]" },
    { "logsumexp", "f32[8x10]", "", "f32[8x1]" },
    { "logsumexp", "f32[8]", "", "logsumexp: logits is f32[8]" },
    { "pick", "f32[8x10] i32[8x1]", "", "f32[8x1]" },
    { "pick", "f32[8x10] i32[7x1]", "", "pick: labels is i32[7x1], expected i32[8x1]: one class for each row" },
    { "correct", "f32[8x10] i32[8x1]", "", "f32[8x1]" },
    { "correct", "f32[8x10] i32[8x1]", "k=10", "f32[8x1]" },
    { "correct", "f32[8x10] i32[8x1]", "k=11", "correct: k is 11, expected at most the 10 classes" },
    { "correct", "f32[8x10] f32[8x1]", "", "correct: labels is f32[8x1], expected i32[8x1]" },
    { "xent_grad", "f32[8x10] f32[8x1] i32[8x1] f32[]", "scale=0.125", "f32[8x10]" },
    { "xent_grad", "f32[8x10] f32[8x1] i32[8x1] f32[] i32[8x1] f32[8x1]", "smoothing=0.1", "f32[8x10]" },
    { "xent_grad", "f32[8x10] f32[8x1] i32[8x1] f32[] i32[8x1]", "", "xent_grad: labels2 stands alone" },
    { "xent_grad", "f32[8x10] f32[8] i32[8x1] f32[]", "", "xent_grad: lse is f32[8], expected f32[8x1]" },
    { "reduce_sum", "f32[2x3x4x4]", "", "f32[]" },
    { "reduce_sum", "f32[2x3x4x4]", "keep=\"c\"", "f32[3]" },
    { "reduce_sum", "f32[2x3x4x4]", "keep=\"nc\"", "f32[2x3x1x1]" },
    { "reduce_sum", "f32[2x3]", "keep=\"nc\"", "f32[2x3]" },
    { "reduce_sum", "f32[2x3x4x4]", "keep=\"n\"", "f32[2x1]" },
    { "reduce_sum", "f32[3]", "keep=\"c\"", "reduce_sum: keep is \"c\", but 3 has no such dimension" },
    { "reduce_dot", "f32[2x3] f32[2x3]", "keep=\"c\"", "f32[3]" },
    { "reduce_dot", "f32[2x3] f32[3]", "", "reduce_dot: y is f32[3], expected f32[2x3]" },
    { "reduce_abs", "f32[2x3]", "scale=0.1", "f32[]" },
    { "reduce_abs", "i32[2x3]", "", "reduce_abs: x is i32[2x3], expected f32" },
    { "reduce_maxabs", "f32[2x3]", "", "f32[]" },
    { "reduce_sum", "f32[7x3x4x4]", "keep=\"o\"", "f32[7]" },
    { "reduce_max", "f32[2x3]", "keep=\"c\"", "f32[3]" },
    { "reduce_min", "f32[2x3]", "keep=\"o\"", "f32[2]" },
    { "reduce_min", "u8[2x3]", "", "reduce_min: x is u8[2x3], expected f32" },
    /* optimizer */
    { "sgd_velocity", "f32[4] f32[4] f32[4]", "momentum=0.9, decay=0.0001", "f32[4]" },
    { "sgd_step", "f32[4] f32[4] f32[4] f32[]", "momentum=0.9, nesterov=true", "f32[4]" },
    { "sgd_step", "f32[4] f32[4] f32[4] f32[4]", "", "sgd_step: lr is f32[4], expected f32[]" },
    { "decayed", "f32[4] f32[4]", "decay=0.1", "f32[4]" },
    { "decayed", "f32[4] f32[]", "decay=0.1", "decayed: p is f32[], expected f32[4]" },
    { "square_ema", "f32[4] f32[4]", "", "f32[4]" },
    { "adam_step", "f32[4] f32[4] f32[4] f32[] f32[]", "", "f32[4]" },
    { "adam_step", "f32[4] f32[4] f32[4] f32[] f32[] f32[]", "decay=0.1", "f32[4]" },
    { "adam_step", "f32[4] f32[4] f32[4] f32[] f32[]", "decay=0.1", "adam_step: decay is 0.1, expected lr as a sixth operand" },
    { "adam_step", "f32[4] f32[4] f32[4] f32[4] f32[]", "", "adam_step: rate is f32[4], expected f32[]" },
    { "rms_grad", "f32[4] f32[4]", "", "f32[4]" },
    { "adadelta", "f32[4] f32[4] f32[4]", "", "f32[4]" },
    { "div", "f32[2x3] f32[]", "", "f32[2x3]" },
    { "sqrt", "f32[2x3]", "", "f32[2x3]" },
    { "total", "f32[] f32[] f32[]", "", "f32[]" },
    { "total", "f32[] f32[4]", "", "total: an operand is f32[4], expected f32[]" },
    { "total", "f32[4] f32[]", "", "total: the first operand is f32[4], expected a scalar" },
    { "clip_factor", "f32[]", "limit=1", "f32[]" },
    { "clip_value", "f32[2x3]", "limit=1", "f32[2x3]" },
    { "lerp", "f32[4] f32[4] f32[]", "", "f32[4]" },
    { "lerp", "f32[4] f32[4] f32[4]", "", "lerp: rate is f32[4], expected f32[]" },
    { "ema_rate", "f32[]", "decay=0.9, warm=true", "f32[]" },
    { "distill", "f32[8x10] f32[8x10]", "temperature=4", "f32[]" },
    { "distill", "f32[8x10] f32[8x9]", "", "distill: teacher is f32[8x9], expected f32[8x10]" },
    { "kl_term", "f32[8x10] f32[8x1] f32[8x10] f32[8x1]", "", "f32[8x10]" },
    { "kl_grad", "f32[8x10] f32[8x1] f32[8x10] f32[8x1] f32[]", "", "f32[8x10]" },
    { "kl_grad", "f32[8x10] f32[8x10] f32[8x10] f32[8x1] f32[]", "", "kl_grad: lse is f32[8x10], expected f32[8x1]" },
};
/* clang-format on */

/* "f32[2x3] f32[]" as one input a word, and the op on them with a type that nobody reads. */
static Graph *graph_of_case(Fixture *f, const InferCase *c)
{
    Str     text = str_new(&f->a), uses = str_new(&f->a);
    int32_t n = 0;
    str_add(&text, "graph @g {\n");
    for (const char *s = c->in; *s; n++) {
        size_t len = strcspn(s, " ");
        str_printf(&text, "%%%d = input \"x%d\" : %.*s loc(\"net.c\":%d)\n", n, n, (int)len, s, n + 1);
        str_printf(&uses, "%s%%%d", n ? ", " : "", n);
        s += len + (s[len] == ' ');
    }
    str_printf(&text, "%%%d = %s %s {%s} : f32[] loc(\"net.c\":99)\n}\n", n, c->op, uses.s,
               c->attrs[0] ? c->attrs : "X");
    char *empty = strstr(text.s, "{X}");
    if (empty)
        memcpy(empty, "   ", 3);
    return parse(f, text.s);
}

static void test_infer(void **state)
{
    (void)state;
    bool tried[OP_COUNT] = { false };
    for (int32_t i = 0; i < DT_COUNT(infer_cases); i++) {
        const InferCase *c = &infer_cases[i];
        Fixture          f = fixture_new();
        Graph           *g = graph_of_case(&f, c);
        const Value     *v = ir_value(g, g->order.at[g->order.len - 1]);
        Type             t = { 0 };
        bool             good = strcspn(c->wanted, "[") < strcspn(c->wanted, " :");
        bool             ok = ir_ops[v->op].infer(g, v, &t, &f.d, (Loc){ "net.c", 99 });
        tried[v->op] = tried[v->op] || good;
        if (ok != good)
            fail_msg("%s %s {%s}: expected %s, found %s%s", c->op, c->in, c->attrs, c->wanted, said(&f),
                     ok ? ir_type_text(&f.a, t) : "");
        if (good) {
            assert_string_equal(ir_type_text(&f.a, t), c->wanted);
        } else {
            assert_says(&f, c->wanted);
            assert_int_equal(f.d.errors, 1);
            assert_true(strncmp(said(&f), "net.c:99: error: ", 17) == 0);
        }
        fixture_free(&f);
    }
    for (int32_t op = 0; op < OP_COUNT; op++) {
        if (!tried[op] && !(ir_ops[op].traits & (T_LEAF | T_EFFECT)))
            fail_msg("no good case for %s", ir_ops[op].text);
    }
}

static void test_infer_relayout(void **state)
{
    (void)state;
    Fixture f = fixture_new();
    Graph  *g = parse(&f, "graph @g { %0 = input \"x\" : f32[1x2x3x4] nhwc\n%1 = relayout %0 : f32[1x2x3x4] }");
    Type    t;
    assert_true(infer_same(g, ir_value(g, 1), &t, &f.d, LOC_NONE));
    assert_int_equal(t.layout, LAYOUT_ROWS);
    ir_value(g, 0)->type.layout = LAYOUT_ROWS;
    assert_true(infer_same(g, ir_value(g, 1), &t, &f.d, LOC_NONE));
    assert_int_equal(t.layout, LAYOUT_NHWC);
    fixture_free(&f);
}

/* ---- Building -------------------------------------------------------------------------------------------------- */

static void test_build(void **state)
{
    (void)state;
    Fixture f = fixture_new();
    Graph  *g = ir_graph_new(&f.a, "net.train");
    Builder b = { .g = g, .d = &f.d, .by = "frontend", .scope = "stem", .at = { "net.c", 7 }, .like = VALUE_NONE };
    ValueId x = ir_leaf(&b, OP_INPUT, "image", f32(4, 2, 3, 8, 8), NULL, 0);
    char    init[] = "kaiming";
    ValueId w = ir_leaf(&b, OP_PARAM, "w", f32(4, 4, 3, 3, 3), (AttrSet[]){ AT(INIT, init), AI(FAN, 27) }, 2);
    init[0] = 'K'; /* texts are copied */
    ValueId s = ir_leaf(&b, OP_STATE, "mean", f32(1, 4, 0, 0, 0), NULL, 0);
    ValueId c = ir_emit(&b, OP_CONV2D, IR_IN(x, w), AI(STRIDE, 2), AP(PAD, 1, 1, 1, 1));
    ValueId m = ir_emit(&b, OP_BN_MEAN, IR_IN(c, s));
    ir_assign(&b, s, m);
    ValueId k = ir_const(&b, 0.5f);
    ValueId y = ir_emit(&b, OP_MUL, IR_IN(c, k));
    ir_output(&b, y, "image"); /* outputs have a namespace of their own */
    assert_int_equal(f.d.errors, 0);
    assert_true(ir_verify(g, PHASE_FRONTEND, &f.d));

    assert_string_equal(ir_text(ir_value(g, w), A_INIT), "kaiming");
    assert_string_equal(ir_text(ir_value(g, w), A_GROUP), "weight");
    assert_int_equal(ir_int(ir_value(g, c), A_STRIDE), 2);
    assert_int_equal(ir_int(ir_value(g, c), A_GROUPS), 1);
    assert_int_equal(ir_pads(ir_value(g, c), A_PAD)[3], 1);
    assert_true(ir_float(ir_value(g, k), A_VALUE) == 0.5);
    assert_string_equal(ir_type_text(&f.a, ir_value(g, c)->type), "f32[2x4x4x4]");
    assert_int_equal(ir_find(g, "image"), x);
    assert_int_equal(ir_find(g, "mean"), s);
    assert_int_equal(ir_find(g, "nothing"), VALUE_NONE);
    assert_string_equal(ir_label(&f.a, g, w), "w");
    assert_string_equal(ir_label(&f.a, g, c), "stem.conv2d");
    assert_true(ir_is(g, c, OP_CONV2D) && ir_has(g, c, T_LIBRARY) && !ir_has(g, c, T_ELTWISE | T_REDUCE));

    /* what is made like another value takes its line and scope, and is marked */
    Builder grad = { .g = g, .d = &f.d, .by = "autodiff", .like = c, .backward = true };
    ValueId r = ir_emit(&grad, OP_RELU, IR_IN(y));
    assert_string_equal(ir_value(g, r)->scope, "stem");
    assert_string_equal(ir_value(g, r)->origins[0].by, "autodiff");
    assert_int_equal(ir_value(g, r)->origins[0].dsl.line, 7);
    assert_true(ir_value(g, r)->backward && !ir_value(g, c)->backward);
    assert_int_equal(ir_value(g, r)->group, -1);
    grad.like = r;
    grad.backward = false;
    assert_true(ir_value(g, ir_emit(&grad, OP_RELU, IR_IN(y)))->backward); /* a part of a gradient is one */
    fixture_free(&f);
}

static void test_build_mistakes(void **state)
{
    (void)state;
    Fixture f = fixture_new();
    Graph  *g = ir_graph_new(&f.a, "g");
    Builder b = { .g = g, .d = &f.d, .by = "frontend", .at = { "net.c", 7 }, .like = VALUE_NONE };
    ValueId x = ir_leaf(&b, OP_INPUT, "x", f32(2, 2, 3, 0, 0), NULL, 0);
    ValueId y = ir_leaf(&b, OP_INPUT, "y", f32(2, 2, 4, 0, 0), NULL, 0);
    ValueId bad = ir_emit(&b, OP_ADD, IR_IN(x, y));
    assert_int_equal(bad, VALUE_NONE);
    assert_says(&f, "net.c:7: error: add: shapes differ: lhs 2x3, rhs 2x4\n");
    assert_int_equal(ir_emit(&b, OP_RELU, IR_IN(bad)), VALUE_NONE); /* no second message */
    assert_int_equal(ir_output(&b, bad, "out"), VALUE_NONE);
    assert_int_equal(f.d.errors, 1);
    assert_int_equal(ir_emit(&b, OP_REDUCE_SUM, IR_IN(x), AT(KEEP, "w")), VALUE_NONE);
    assert_says(&f, "reduce_sum: keep is \"w\", expected one of \"\", \"c\", \"nc\", \"n\"");
    assert_int_equal(ir_leaf(&b, OP_INPUT, "z", f32(2, 2, 0, 0, 0), NULL, 0), VALUE_NONE);
    assert_says(&f, "input: \"z\" is no valid type: <dimension 1 is 0");
    assert_int_equal(g->order.len, 2);
    ir_assign(&b, x, x);
    assert_says(&f, "assign: the target is %0 = input \"x\", expected a param or a state");
    ValueId p = ir_leaf(&b, OP_PARAM, "p", f32(1, 4, 0, 0, 0), NULL, 0);
    ir_assign(&b, p, x);
    assert_says(&f, "assign: the value %0 = input \"x\" is f32[2x3], expected f32[4] as in %2 = param \"p\"");
    assert_int_equal(f.d.errors, 5);
    fixture_free(&f);
}

/* ---- Rewriting ------------------------------------------------------------------------------------------------- */

static const char *const chain = "graph @g {\n"
                                 "  %0 = input \"x\" : f32[2x3] loc(\"n.c\":1) by(\"frontend\")\n"
                                 "  %1 = scale %0 : f32[2x3] loc(\"n.c\":2) by(\"frontend\")\n"
                                 "  %2 = relu %1 : f32[2x3] loc(\"n.c\":3) by(\"frontend\")\n"
                                 "  %3 = add %1, %2 : f32[2x3] loc(\"n.c\":4) by(\"frontend\")\n"
                                 "  output %3 \"y\" loc(\"n.c\":5)\n"
                                 "}\n";

static void              test_rewrite(void **state)
{
    (void)state;
    Fixture  f = fixture_new();
    Graph   *g = parse(&f, chain);

    Rewriter r = ir_rewrite_begin(g, &f.a, &f.d, "nothing");
    for (int32_t i = 0; i < r.n_old; i++)
        ir_keep(&r, r.old[i]);
    assert_false(ir_rewrite_end(&r));
    assert_string_equal(print(&f, g), chain);

    r = ir_rewrite_begin(g, &f.a, &f.d, "simplify");
    for (int32_t i = 0; i < r.n_old; i++) {
        ValueId id = r.old[i];
        if (ir_is(g, id, OP_SCALE)) { /* by 1: its input */
            ir_replace(&r, id, ir_value(g, id)->in[0]);
        } else if (ir_is(g, id, OP_RELU)) { /* two halves */
            r.b.like = id;
            ValueId half = ir_emit(&r.b, OP_SCALE, IR_IN(ir_mapped(&r, ir_value(g, id)->in[0])), AF(SCALE, 0.5));
            ir_replace(&r, id, ir_emit(&r.b, OP_ADD, IR_IN(half, half)));
        } else {
            ir_keep(&r, id);
        }
    }
    assert_true(ir_rewrite_end(&r));
    assert_true(ir_verify(g, PHASE_FRONTEND, &f.d));
    assert_string_equal(
        print(&f, g), "graph @g {\n"
                      "  %0 = input \"x\" : f32[2x3] loc(\"n.c\":1) by(\"frontend\") loc(\"n.c\":2) by(\"frontend\")\n"
                      "  %5 = scale %0 {scale=0.5} : f32[2x3] loc(\"n.c\":3) by(\"simplify\")\n"
                      "  %6 = add %5, %5 : f32[2x3] loc(\"n.c\":3) by(\"simplify\") by(\"frontend\")\n"
                      "  %3 = add %0, %6 : f32[2x3] loc(\"n.c\":4) by(\"frontend\")\n"
                      "  output %3 \"y\" loc(\"n.c\":5)\n"
                      "}\n");

    Uses u = ir_uses(&f.a, g);
    assert_int_equal(ir_use_count(&u, 0), 2);
    assert_int_equal(u.users[u.first[0]], 5);
    assert_int_equal(u.users[u.first[0] + 1], 3);
    assert_int_equal(ir_use_count(&u, 5), 2);
    assert_int_equal(ir_use_count(&u, 3), 1);
    assert_int_equal(ir_use_count(&u, 1), 0); /* dead */
    fixture_free(&f);
}

static void test_copy(void **state)
{
    (void)state;
    Fixture f = fixture_new();
    Graph  *g =
        parse(&f, "graph @g {\n"
                  "  %0 = input \"x\" : f32[2x3]\n"
                  "  %1 = input \"y\" : f32[2x3]\n"
                  "  kernel 0 \"k\" {\n"
                  "    %2 = scale %0 {scale=3} : f32[2x3] at(work+64) scope(\"s\") loc(\"n.c\":2) by(\"a\") by(\"b\")\n"
                  "  }\n"
                  "}\n");
    Builder      b = { .g = g, .d = &f.d, .by = "fuse", .like = VALUE_NONE };
    ValueId      copy = ir_copy(&b, 2, (ValueId[]){ 1 });
    const Value *v = ir_value(g, copy);
    assert_int_equal(v->in[0], 1);
    assert_int_equal(ir_value(g, 2)->in[0], 0);
    assert_true(ir_float(v, A_SCALE) == 3);
    assert_int_equal(v->group, -1);
    assert_int_equal(v->place.kind, MEM_NONE);
    assert_int_equal(v->n_origins, 2);
    assert_string_equal(v->scope, "s");
    ir_value(g, copy)->attr[0].f = 4;
    assert_true(ir_float(ir_value(g, 2), A_SCALE) == 3);
    fixture_free(&f);
}

static void test_clone(void **state)
{
    (void)state;
    Fixture f = fixture_new();
    Graph  *g = parse(&f, chain);
    Arena   b = arena_new("clone");
    Graph  *c = ir_graph_clone(&b, g);
    assert_int_equal(ir_hash(c).lo, ir_hash(g).lo);
    ir_value(c, 1)->attr[0].f = 2;
    assert_string_equal(print(&f, g), chain);
    assert_true(ir_hash(c).lo != ir_hash(g).lo);
    fixture_free(&f); /* the clone lives on */
    Str s = str_new(&b);
    ir_print(&s, c);
    assert_non_null(strstr(s.s, "%1 = scale %0 {scale=2} : f32[2x3] loc(\"n.c\":2)"));
    arena_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),         cmocka_unit_test(test_types), cmocka_unit_test(test_infer),
        cmocka_unit_test(test_infer_relayout), cmocka_unit_test(test_build), cmocka_unit_test(test_build_mistakes),
        cmocka_unit_test(test_rewrite),        cmocka_unit_test(test_copy),  cmocka_unit_test(test_clone),
    };
    return cmocka_run_group_tests_name("ir", tests, NULL, NULL);
}
