/* method_qat.c: ranges that follow the values (Jacob et al., CVPR 2018, section 3).
 *
 *   weights   step = max|w| / hi of this step's weights; with 2 and 3 bits from their mean magnitude
 *   inputs    a moving average of each batch's largest (and smallest) value, in states NAME.max (and NAME.min). A step
 *             uses the range as the steps before left it, so that the batch's own extremes are found in the kernel that
 *             makes the values, and no pass over memory is added. The first batch's range is taken whole.
 *
 * Inputs that can be negative get a nudged integer zero point. A value passes its gradient where its code is not
 * clipped: rounding and nudging move the ends by up to half a step, and the largest weight must not stand still.
 *
 * Tested by tests/unit/test_quantize.c, test_quantizers.c and tests/golden. */
#include "passes/quantize.h"

#include <math.h>

/* Of a few codes the largest weight leaves most others in code 0; the step is then that of the mean magnitude, as LSQ
 * begins: 2 mean|w| / sqrt(hi). */
static ValueId weight_step(Quantizing *z)
{
    double  hi = (double)z->info.hi;
    bool    few = z->info.bits < 4;
    ValueId end = few ? quantizing_reduce(z, OP_REDUCE_ABS, 2 * sqrt(hi) / quantizing_elems(z))
                      : quantizing_reduce(z, OP_REDUCE_MAXABS, 1);
    return ir_emit(z->b, OP_MAX_STEP, IR_IN(end), AI(HI, z->info.hi));
}

static bool is_frozen(const Quantizing *z)
{
    SettingValue from = recipe_setting(z->c->scratch, z->c->recipe, SET_FREEZE_RANGES);
    return quantizing_number(z, SET_EMA) == 0 || z->c->moment.epoch >= from.number[0];
}

/* The state of one end of the range, and what of it this step uses. */
static ValueId tracked(Quantizing *z, const char *suffix, OpCode extreme, double first, const char **name)
{
    ValueId leaf = quantizing_leaf(z, OP_STATE, suffix, "", false, first);
    *name = ir_value(z->b->g, leaf)->name;
    if (z->c->step == STEP_INIT && !quantizing_calibrated(z)) {
        ValueId now = quantizing_reduce(z, extreme, 1);
        ir_assign(z->b, leaf, now);
        return now;
    }
    if (z->c->step == STEP_TRAIN && !is_frozen(z)) {
        ValueId now = quantizing_reduce(z, extreme, 1);
        ir_assign(z->b, leaf, ir_emit(z->b, OP_EMA, IR_IN(leaf, now), AF(MOMENTUM, quantizing_number(z, SET_EMA))));
    }
    return leaf;
}

/* Codes [0, 2^b - 1] of what is never negative, [-2^(b-1), 2^(b-1) - 1] of the rest. */
static ValueId input(Quantizing *z)
{
    const char *form = quantizing_word(z, SET_FORM);
    bool        affine = !z->nonneg && !str_eq(form, "symmetric");
    if (!affine) {
        ValueId max = tracked(z, "max", z->nonneg ? OP_REDUCE_MAX : OP_REDUCE_MAXABS, 1, &z->info.max);
        ValueId step = ir_emit(z->b, OP_MAX_STEP, IR_IN(max), AI(HI, z->info.hi));
        return quantizing_qdq(z, step, VALUE_NONE, "code");
    }
    ValueId       min = tracked(z, "min", OP_REDUCE_MIN, -1, &z->info.min);
    ValueId       max = tracked(z, "max", OP_REDUCE_MAX, 1, &z->info.max);
    const int64_t lo = z->info.lo, hi = z->info.hi;
    ValueId       step = ir_emit(z->b, OP_RANGE_STEP, IR_IN(min, max), AI(LO, lo), AI(HI, hi));
    ValueId       zero = ir_emit(z->b, OP_RANGE_ZERO, IR_IN(min, max), AI(LO, lo), AI(HI, hi));
    z->info.affine = true;
    return quantizing_qdq(z, step, zero, "code");
}

ValueId method_qat(Quantizing *z)
{
    return z->role == ROLE_ACT ? input(z) : quantizing_qdq(z, weight_step(z), VALUE_NONE, "code");
}
