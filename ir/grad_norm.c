/* grad_norm.c: gradients of the primitives of batch norm, where they stand alone in a network. That of the composite
 * is in grad.c and is better known as a whole; with the two-convolution form of folding (passes/fold_batchnorm.c)
 * statistics and what they scale come from different convolutions, and each primitive needs its own rule.
 *
 * M elements a channel; the shift of bn_mean and bn_var changes nothing but roundings, so it has no gradient.
 *
 *   mean = sum x / M                    dx     = dmean / M
 *   var  = sum (x - mean)^2 / M         dx     = 2 / M (x - mean) dvar
 *   a    = gamma / sqrt(var + eps)      dgamma = da / sqrt(var + eps),  dvar = -a da / (2 (var + eps))
 *   b    = beta - mean a                dbeta  = db,  dmean = -a db,  da = -mean db
 *   y    = x a + b                      dx = dy a,  da = sum dy x,  db = sum dy
 *
 * Tested by the op matrix (differences) and by tests/unit/test_fold.c. */
#include "ir/grad_impl.h"

static double elements_each(const GradCtx *c, ValueId x)
{
    const Shape s = grad_shape(c, x);
    return (double)(shape_elems(s) / s.dim[1]);
}

void grad_bn_mean(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    const Shape s = grad_shape(c, v.in[0]);
    const bool  image = s.rank == 4;
    c->add(c, v.in[0],
           ir_emit(c->b, OP_BROADCAST, IR_IN(dy), AF(SCALE, 1 / elements_each(c, v.in[0])), AI(CHANNELS, s.dim[1]),
                   AI(H, image ? s.dim[2] : 0), AI(W, image ? s.dim[3] : 0), AI(COUNT, s.dim[0])));
}

void grad_bn_var(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId x = v.in[0];
    ValueId       mean = ir_emit(c->b, OP_BN_MEAN, IR_IN(x, v.in[1]));
    ValueId       factor = ir_emit(c->b, OP_SCALE, IR_IN(dy), AF(SCALE, 2 / elements_each(c, x)));
    ValueId       centred = ir_emit(c->b, OP_SUB, IR_IN(x, mean));
    c->add(c, x, ir_emit(c->b, OP_MUL, IR_IN(centred, factor)));
}

void grad_bn_scale(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId gamma = v.in[0], var = v.in[1];
    const double  eps = ir_float(&v, A_EPS);
    if (c->wants(c, gamma))
        grad_add_summed(c, &v, gamma, ir_emit(c->b, OP_RSQRT_MUL, IR_IN(dy, var), AF(EPS, eps)), 1);
    if (c->wants(c, var)) /* -a dy / ((var + eps) count) */
        grad_add_summed(c, &v, var, ir_emit(c->b, OP_BN_GRAD_X, IR_IN(var, id, dy), AF(EPS, eps), AI(COUNT, 2)), 1);
}

static ValueId minus_product(GradCtx *c, ValueId x, ValueId y)
{
    ValueId product = ir_emit(c->b, OP_MUL, IR_IN(x, y));
    return ir_emit(c->b, OP_SCALE, IR_IN(product), AF(SCALE, -1));
}

void grad_bn_shift(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    if (c->wants(c, v.in[0]))
        grad_add_summed(c, &v, v.in[0], dy, 1);
    for (int32_t i = 1; i < 3; i++)
        if (c->wants(c, v.in[i]))
            grad_add_summed(c, &v, v.in[i], minus_product(c, v.in[3 - i], dy), 1);
}

void grad_affine(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const int64_t axis = ir_int(&v, A_AXIS);
    for (int32_t i = 0; i < 2; i++)
        if (c->wants(c, v.in[i]))
            grad_add_summed(c, &v, v.in[i], emit_like(c, &v, OP_MUL, IR_IN(dy, v.in[1 - i])), axis);
    if (c->wants(c, v.in[2]))
        grad_add_summed(c, &v, v.in[2], dy, axis);
}
