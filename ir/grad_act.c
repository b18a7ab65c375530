/* grad_act.c: the gradient rules of activations and of losses.
 *
 * An activation's gradient reads its result where the result decides - it is kept anyway, or computed again from what
 * the layer before left - and x elsewhere. None keeps a tensor of its own.
 *
 * Tested by tests/unit/test_autodiff.c (structure) and, numerically, by the op matrix. */
#include "ir/grad_impl.h"

/* ---- Activations --------------------------------------------------------------------------------------------------
 */

static void by_result(GradCtx *c, ValueId id, ValueId dy, OpCode op)
{
    const Value v = grad_value(c, id);
    c->add(c, v.in[0], emit_like(c, &v, op, IR_IN(id, dy)));
}

static void by_operand(GradCtx *c, ValueId id, ValueId dy, OpCode op)
{
    const Value v = grad_value(c, id);
    c->add(c, v.in[0], emit_like(c, &v, op, IR_IN(v.in[0], dy)));
}

void grad_relu6(GradCtx *c, ValueId id, ValueId dy)
{
    by_result(c, id, dy, OP_RELU6_GRAD);
}
void grad_leaky_relu(GradCtx *c, ValueId id, ValueId dy)
{
    by_result(c, id, dy, OP_LEAKY_RELU_GRAD);
}
void grad_sigmoid(GradCtx *c, ValueId id, ValueId dy)
{
    by_result(c, id, dy, OP_SIGMOID_GRAD);
}
void grad_hard_sigmoid(GradCtx *c, ValueId id, ValueId dy)
{
    by_result(c, id, dy, OP_HARD_SIGMOID_GRAD);
}
void grad_silu(GradCtx *c, ValueId id, ValueId dy)
{
    by_operand(c, id, dy, OP_SILU_GRAD);
}
void grad_hard_swish(GradCtx *c, ValueId id, ValueId dy)
{
    by_operand(c, id, dy, OP_HARD_SWISH_GRAD);
}

/* ---- Cross entropy ------------------------------------------------------------------------------------------------
 */

/* The loss is linear in share: d loss / d share[n] = (1 - smoothing) / N (x[label2] - x[label]) dy. */
static void grad_xent_share(GradCtx *c, const Value *v, double n, ValueId dy)
{
    const ValueId logits = v->in[0], labels = v->in[1], labels2 = v->in[2], share = v->in[3];
    if (!c->wants(c, share))
        return;
    ValueId first = ir_emit(c->b, OP_PICK, IR_IN(logits, labels));
    ValueId second = ir_emit(c->b, OP_PICK, IR_IN(logits, labels2));
    ValueId less = ir_emit(c->b, OP_SUB, IR_IN(second, first));
    ValueId scaled = ir_emit(c->b, OP_SCALE, IR_IN(less), AF(SCALE, (1 - ir_float(v, A_SMOOTHING)) / n));
    c->add(c, share, ir_emit(c->b, OP_MUL, IR_IN(scaled, dy)));
}

/* loss = 1/N sum (logsumexp(x) - sum q x), sum q = 1: dx = (softmax(x) - q) dy / N. */
void grad_xent(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId logits = v.in[0], labels = v.in[1];
    const double  n = (double)grad_shape(c, logits).dim[0];
    if (v.n_in == 4)
        grad_xent_share(c, &v, n, dy);
    if (!c->wants(c, logits))
        return;
    ValueId       lse = ir_emit(c->b, OP_LOGSUMEXP, IR_IN(logits));
    const ValueId in[6] = {
        logits, lse, labels, dy, v.n_in == 4 ? v.in[2] : VALUE_NONE, v.n_in == 4 ? v.in[3] : VALUE_NONE
    };
    c->add(c, logits, emit_like(c, &v, OP_XENT_GRAD, IR_INS(in, v.n_in + 2), AF(SCALE, 1.0 / n)));
}

/* ---- Differences to a target --------------------------------------------------------------------------------------
 */

/* loss = 1/n sum (x - t)^2: dx = 2/n (x - t) dy, dt = -dx. */
void grad_mse(GradCtx *c, ValueId id, ValueId dy)
{
    const Value  v = grad_value(c, id);
    const double factor = 2.0 / (double)shape_elems(grad_shape(c, v.in[0]));
    for (int32_t i = 0; i < 2; i++) {
        if (!c->wants(c, v.in[i]))
            continue;
        ValueId diff = ir_emit(c->b, OP_SUB, IR_IN(v.in[i], v.in[1 - i]));
        ValueId scaled = ir_emit(c->b, OP_SCALE, IR_IN(diff), AF(SCALE, factor));
        c->add(c, v.in[i], ir_emit(c->b, OP_MUL, IR_IN(scaled, dy)));
    }
}

/* loss = 1/n sum f(x - t): dx = 1/n f'(x - t) dy by `op`, dt = -dx. */
static void grad_difference(GradCtx *c, ValueId id, ValueId dy, OpCode op)
{
    const Value  v = grad_value(c, id);
    const double n = (double)shape_elems(grad_shape(c, v.in[0]));
    ValueId      dx = emit_like(c, &v, op, IR_IN(v.in[0], v.in[1], dy), AF(SCALE, 1.0 / n));
    if (c->wants(c, v.in[0]))
        c->add(c, v.in[0], dx);
    if (c->wants(c, v.in[1]))
        c->add(c, v.in[1], ir_emit(c->b, OP_SCALE, IR_IN(dx), AF(SCALE, -1)));
}

void grad_l1(GradCtx *c, ValueId id, ValueId dy)
{
    grad_difference(c, id, dy, OP_L1_GRAD);
}
void grad_charbonnier(GradCtx *c, ValueId id, ValueId dy)
{
    grad_difference(c, id, dy, OP_CHARBONNIER_GRAD);
}
void grad_asymmetric(GradCtx *c, ValueId id, ValueId dy)
{
    grad_difference(c, id, dy, OP_ASYMMETRIC_GRAD);
}

void grad_tv(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    ValueId     slope = ir_emit(c->b, OP_TV_GRAD, IR_IN(v.in[0]));
    c->add(c, v.in[0], ir_emit(c->b, OP_MUL, IR_IN(slope, dy)));
}
