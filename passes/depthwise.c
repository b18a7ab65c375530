/* depthwise.c: convolutions with a window of its own for each channel become generated kernels.
 *
 *     conv2d x, w (, bias)   groups = channels = outputs     depthwise x, depthwise_weight w (, then add bias)
 *     conv2d_grad_x dy, w                                    depthwise_grad_x dy, depthwise_weight w
 *     conv2d_grad_w dy, x                                    depthwise_grad_w dy, x
 *
 * Such a convolution does little arithmetic on each element, so it is bound by memory as element-wise ops are, and like
 * them it can share a kernel with what comes behind it: statistics, batch norm, activation. Libraries also do badly at
 * it: oneDNN 2.6's weight gradient takes ten times as long as its forward pass. Quantizers stay where they are, before
 * the new ops. What is made here is float: integer-forward knows the library's convolutions alone.
 *
 * Windows are written out in the kernel, tap by tap; those of more than MOST_TAPS stay calls.
 *
 * Tested by tests/unit/test_depthwise.c and tests/golden. */
#include "passes/pass_impl.h"

enum { MOST_TAPS = 225 };

/* Is the weight [C,1,R,R] one window for each of C channels? */
static bool is_by_channel(Shape w, int64_t channels, int64_t groups)
{
    return groups > 1 && groups == channels && w.dim[0] == groups && w.dim[1] == 1 && w.dim[2] * w.dim[3] <= MOST_TAPS;
}

static bool is_depthwise(const Graph *g, const Value *v)
{
    if (v->op != OP_CONV2D && v->op != OP_CONV2D_GRAD_X && v->op != OP_CONV2D_GRAD_W)
        return false;
    bool  grad_w = v->op == OP_CONV2D_GRAD_W;
    Shape x = ir_value(g, v->in[grad_w ? 1 : 0])->type.shape; /* or dy: as many channels */
    Shape w = grad_w ? v->type.shape : ir_value(g, v->in[1])->type.shape;
    return is_by_channel(w, x.dim[1], ir_int(v, A_GROUPS));
}

static ValueId emit_forward(Builder *b, const Value *v, const ValueId *in, AttrSet pad)
{
    ValueId w = ir_emit(b, OP_DEPTHWISE_WEIGHT, IR_IN(in[1]));
    ValueId y = ir_emit(b, OP_DEPTHWISE, IR_IN(in[0], w), AI(STRIDE, ir_int(v, A_STRIDE)), pad);
    return v->n_in == 3 ? ir_emit(b, OP_ADD, IR_IN(y, in[2])) : y;
}

static ValueId emit_grad_x(Builder *b, const Value *v, const ValueId *in, AttrSet pad)
{
    ValueId w = ir_emit(b, OP_DEPTHWISE_WEIGHT, IR_IN(in[1]));
    return ir_emit(b, OP_DEPTHWISE_GRAD_X, IR_IN(in[0], w), AI(STRIDE, ir_int(v, A_STRIDE)), pad, AI(H, ir_int(v, A_H)),
                   AI(W, ir_int(v, A_W)));
}

static ValueId emit_grad_w(Builder *b, const Value *v, const ValueId *in, AttrSet pad)
{
    return ir_emit(b, OP_DEPTHWISE_GRAD_W, IR_IN(in[0], in[1]), AI(STRIDE, ir_int(v, A_STRIDE)), pad,
                   AI(KERNEL, ir_int(v, A_KERNEL)));
}

bool pass_depthwise(PassCtx *c, Graph *g)
{
    int64_t  n = 0;
    Rewriter r = ir_rewrite_begin(g, c->scratch, c->d, "depthwise");
    for (int32_t i = 0; i < r.n_old; i++) {
        const ValueId id = r.old[i];
        const Value   v = *ir_value(g, id);
        if (!is_depthwise(g, &v)) {
            ir_keep(&r, id);
            continue;
        }
        ValueId        in[3];
        const int64_t *p = ir_pads(&v, A_PAD);
        for (int32_t k = 0; k < v.n_in; k++)
            in[k] = ir_mapped(&r, v.in[k]);
        r.b.like = id;
        r.b.backward = v.backward;
        AttrSet pad = AP(PAD, p[0], p[1], p[2], p[3]);
        ir_replace(&r, id,
                   v.op == OP_CONV2D          ? emit_forward(&r.b, &v, in, pad)
                   : v.op == OP_CONV2D_GRAD_X ? emit_grad_x(&r.b, &v, in, pad)
                                              : emit_grad_w(&r.b, &v, in, pad));
        n++;
    }
    pass_count(c, "convolutions and their gradients", n);
    return ir_rewrite_end(&r);
}
