/* grad_shape.c: gradient rules of ops that move elements, and of the transposed convolution. Each is linear in what it
 * moves, and its gradient is another op of the same family: a slice takes back what concat put together, a border of
 * the other sign what pad_image added.
 *
 * Tested by the op matrix and tests/unit/test_autodiff.c. */
#include "ir/grad_impl.h"

/* y is the gradient of a convolution with respect to its input, x that with respect to its output: so dx is the
 * convolution itself, and dw its gradient with the two images exchanged. */
void grad_conv_transpose2d(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId x = v.in[0], w = v.in[1];
    if (c->wants(c, w))
        c->add(c, w, emit_like(c, &v, OP_CONV2D_GRAD_W, IR_IN(x, dy), AI(KERNEL, grad_shape(c, w).dim[2])));
    if (c->wants(c, x))
        c->add(c, x, emit_like(c, &v, OP_CONV2D, IR_IN(dy, w)));
}

void grad_concat(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    int64_t     begin = 0;
    for (int32_t i = 0; i < 2; i++) {
        const int64_t channels = grad_shape(c, v.in[i]).dim[1];
        if (c->wants(c, v.in[i]))
            c->add(c, v.in[i], ir_emit(c->b, OP_SLICE, IR_IN(dy), AI(BEGIN, begin), AI(CHANNELS, channels)));
        begin += channels;
    }
}

void grad_slice(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const int64_t channels = grad_shape(c, v.in[0]).dim[1];
    c->add(c, v.in[0], ir_emit(c->b, OP_SLICE, IR_IN(dy), AI(BEGIN, -ir_int(&v, A_BEGIN)), AI(CHANNELS, channels)));
}

void grad_pad_image(GradCtx *c, ValueId id, ValueId dy)
{
    const Value    v = grad_value(c, id);
    const int64_t *pad = ir_pads(&v, A_PAD);
    c->add(c, v.in[0], ir_emit(c->b, OP_PAD_IMAGE, IR_IN(dy), AP(PAD, -pad[0], -pad[1], -pad[2], -pad[3])));
}

void grad_upsample(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    c->add(c, v.in[0], emit_like(c, &v, OP_UPSAMPLE_GRAD, IR_IN(dy)));
}
