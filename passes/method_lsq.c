/* method_lsq.c: steps that are trained.
 *
 *   lsq    x^ = s rint(clip(x / s, lo, hi)), s trained (Esser et al., ICLR 2020)
 *   lsq+   the same for weights; for inputs x^ = s rint(clip((x - b) / s, lo, hi)) + b, s and b trained (Bhalgat et
 * al., 2020), where b is held to a whole number of steps: then the real 0 has a code, as padding needs. With
 *          offset=float it is as in the paper.
 *
 * First values: without calibration the step is computed from the first batch, in the init step, where each quantizer
 * sees values that went through those before it. What the host hands in has a step that is not trained: the grid of an
 * image is the data's, and training it would cost the input gradient of the first layer, which nothing else needs.
 *
 * Tested by tests/unit/test_quantize.c, test_quantizers.c and tests/golden. */
#include "passes/quantize.h"

static ValueId trained_leaf(Quantizing *z, const char *suffix, const char *group, bool each, double value)
{
    return quantizing_leaf(z, z->given ? OP_STATE : OP_PARAM, suffix, group, each, value);
}

/* The step from the mean and the largest magnitude of the first batch; the leaf is set to it. */
static ValueId first_step(Quantizing *z, ValueId leaf)
{
    ValueId mean = quantizing_reduce(z, OP_REDUCE_ABS, 1.0 / quantizing_elems(z));
    ValueId most = quantizing_reduce(z, OP_REDUCE_MAXABS, 1);
    ValueId step = ir_emit(z->b, OP_LSQ_INIT, IR_IN(mean, most), AI(HI, z->info.hi), AI(BITS, z->info.bits));
    ir_assign(z->b, leaf, step);
    return step;
}

ValueId quantizing_trained_step(Quantizing *z)
{
    ValueId leaf = trained_leaf(z, "step", "step", true, 1), step = leaf;
    double  rate = quantizing_number(z, SET_STEP_RATE);
    z->info.step = ir_value(z->b->g, leaf)->name;
    if (z->c->step == STEP_INIT && !quantizing_calibrated(z))
        step = first_step(z, leaf);
    if (z->c->step == STEP_TRAIN && !z->given && rate != 1)
        step = ir_emit(z->b, OP_GRAD_SCALE, IR_IN(step), AF(SCALE, rate));
    return step;
}

ValueId method_lsq(Quantizing *z)
{
    return quantizing_qdq(z, quantizing_trained_step(z), VALUE_NONE, "open");
}

/* The paper's configurations of inputs: which codes, and whether there is an offset. */
static bool configure(Quantizing *z)
{
    int     config = (int)quantizing_number(z, SET_CONFIG);
    bool    is_signed = config == 2 || config == 3;
    int64_t codes = (int64_t)1 << z->info.bits;
    z->info.lo = is_signed ? -codes / 2 : 0;
    z->info.hi = z->info.lo + codes - 1;
    return config >= 3;
}

/* The gradient of the offset is scaled as that of the step. */
static ValueId scaled_offset(Quantizing *z, ValueId offset)
{
    Shape s = ir_value(z->b->g, z->x)->type.shape;
    if (z->given || z->c->step != STEP_TRAIN)
        return offset;
    int64_t samples = z->c->recipe->batch_in_n ? 1 : s.dim[0];
    double  scale = ir_lsq_scale(z->info.bits, z->info.hi, (double)(shape_elems(s) / samples));
    return ir_emit(z->b, OP_GRAD_SCALE, IR_IN(offset), AF(SCALE, scale));
}

static ValueId free_offset(Quantizing *z, ValueId step, ValueId offset)
{
    ValueId b = scaled_offset(z, offset);
    z->x = ir_emit(z->b, OP_SUB, IR_IN(z->x, b));
    ValueId q = quantizing_qdq(z, step, VALUE_NONE, "open");
    return ir_emit(z->b, OP_ADD, IR_IN(q, b));
}

ValueId method_lsq_plus(Quantizing *z)
{
    if (z->role == ROLE_WEIGHT)
        return method_lsq(z);
    bool    has_offset = configure(z);
    ValueId step = quantizing_trained_step(z);
    if (!has_offset)
        return quantizing_qdq(z, step, VALUE_NONE, "open");
    ValueId offset = trained_leaf(z, "offset", "offset", false, 0);
    z->info.offset = ir_value(z->b->g, offset)->name;
    z->info.affine = true;
    if (str_eq(quantizing_word(z, SET_OFFSET), "float"))
        return free_offset(z, step, offset);
    ValueId zero = ir_emit(z->b, OP_ZERO_POINT, IR_IN(offset, step), AI(LO, z->info.lo), AI(HI, z->info.hi));
    return quantizing_qdq(z, step, zero, "open");
}
