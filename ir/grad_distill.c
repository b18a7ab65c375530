/* grad_distill.c: the gradient of the distance from a teacher. With p = softmax(s / T) and q = softmax(t / T) of N rows
 *
 *   distill s, t = T^2 / N sum q (log q - log p)          ds = T / N (p - q) dy
 *
 * The teacher is given: nothing flows to it. Tested by the op matrix and tests/unit/test_teacher.c. */
#include "ir/grad_impl.h"

void grad_distill(GradCtx *c, ValueId id, ValueId dy)
{
    const Value  v = grad_value(c, id);
    const double t = ir_float(&v, A_TEMPERATURE), n = (double)grad_shape(c, v.in[0]).dim[0];
    ValueId      x[2], lse[2];
    if (!c->wants(c, v.in[0]))
        return;
    for (int32_t i = 0; i < 2; i++) {
        x[i] = ir_emit(c->b, OP_SCALE, IR_IN(v.in[i]), AF(SCALE, 1 / t));
        lse[i] = ir_emit(c->b, OP_LOGSUMEXP, IR_IN(x[i]));
    }
    c->add(c, v.in[0], ir_emit(c->b, OP_KL_GRAD, IR_IN(x[0], lse[0], x[1], lse[1], dy), AF(SCALE, t / n)));
}
