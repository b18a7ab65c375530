/* method_penalty.c: quantization by a regularizer (QSin: Solodskikh, Chikin et al., ECCV 2022; section 3): the loss
 * gains lambda sum phi(w; s) / 100 for each weight and act-lambda mean phi(x; s) for each input, where phi is 0 on the
 * grid: the sum, since a weight of a large layer must be drawn as hard as one of a small layer.
 * A training step clips and does not round, so there is no straight-through gradient; weights drift onto the grid while
 * lambda grows. Steps are trained, by the gradients of the clipping and of phi. What is rounded in the end is an
 * evaluation's business. With training=quantize inputs are rounded as in LSQ, without a penalty.
 *
 * The penalty goes to the host as the output "penalty:NAME", and autodiff adds its gradient to the loss's.
 *
 * Tested by tests/unit/test_quantize.c, test_quantizers.c and tests/golden. */
#include "passes/quantize.h"

#include <math.h>

/* scale times the sum of phi; keep "o" or "c": of each output of a weight. */
static ValueId sum_phi(Quantizing *z, ValueId step, const char *keep, double scale)
{
    return ir_emit(z->b, OP_PENALTY, IR_IN(z->x, quantizing_each(z, step)), AT(FORM, z->spec->method->penalty),
                   AI(LO, z->info.lo), AI(HI, z->info.hi), AI(AXIS, z->axis), AT(KEEP, keep), AF(SCALE, scale));
}

/* Of each weight, at lambda = 1. Its gradient is at most pi WEIGHT_PULL steps: with a learning rate of 0.01 and
 * momentum 0.9 a weight moves 0.003 steps a step, about as far as the loss moves it. */
static const double WEIGHT_PULL = 0.01;

/* A weight's step is pulled by the sum over all its elements, which grows with their number; it is scaled as LSQ scales
 * the gradient of a step. */

static void add_penalty(Quantizing *z, ValueId step)
{
    double lambda = quantizing_number(z, z->role == ROLE_WEIGHT ? SET_LAMBDA : SET_ACT_LAMBDA);
    if (z->c->step != STEP_TRAIN || z->round || z->given || lambda == 0)
        return;
    double elems = (double)shape_elems(ir_value(z->b->g, z->x)->type.shape), each = 1 / elems;
    if (z->role == ROLE_WEIGHT) {
        each = WEIGHT_PULL;
        step =
            ir_emit(z->b, OP_GRAD_SCALE, IR_IN(step), AF(SCALE, 1 / (sqrt(quantizing_elems(z)) * (double)z->info.hi)));
    }
    ir_output(z->b, sum_phi(z, step, "", lambda * each), arena_printf(z->c->keep, PENALTY_OUTPUT "%s", z->name));
}

/* How far from the grid weights still are: the host divides by the square of each step. */
static void inspect_penalty(Quantizing *z, ValueId step)
{
    if (z->c->step != STEP_INSPECT || z->role != ROLE_WEIGHT)
        return;
    ValueId phi = sum_phi(z, step, z->steps == 1 ? "" : z->axis == 0 ? "o" : "c", 1);
    ir_output(z->b, phi, arena_printf(z->c->keep, INSPECT_OUTPUT "%s:phi", z->name));
}

ValueId method_penalty(Quantizing *z)
{
    ValueId step = quantizing_trained_step(z);
    if (z->role == ROLE_WEIGHT && z->c->step == STEP_TRAIN)
        z->round = false;
    add_penalty(z, step);
    inspect_penalty(z, step);
    return quantizing_qdq(z, step, VALUE_NONE, "open");
}
