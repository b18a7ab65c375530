/* method_fixed.c: steps that calibration finds and nothing changes (Wu et al. 2020): post-training quantization, and
 * the start of fine-tuning with fixed ranges. Without calibration they are found in the init step, from the largest
 * values of the first batch.
 *
 * Tested by tests/unit/test_quantize.c and tests/e2e. */
#include "passes/quantize.h"

/* Is this the step that finds the first range? */
static bool begins(const Quantizing *z)
{
    return z->c->step == STEP_INIT && !quantizing_calibrated(z);
}

/* The range of the first batch, whole. */
static ValueId symmetric(Quantizing *z, ValueId leaf)
{
    if (!begins(z))
        return quantizing_qdq(z, leaf, VALUE_NONE, "code");
    ValueId most = quantizing_reduce(z, OP_REDUCE_MAXABS, 1);
    ValueId step = ir_emit(z->b, OP_MAX_STEP, IR_IN(most), AI(HI, z->info.hi));
    ir_assign(z->b, leaf, step);
    return quantizing_qdq(z, step, VALUE_NONE, "code");
}

static ValueId affine(Quantizing *z, ValueId step)
{
    const int64_t lo = z->info.lo, hi = z->info.hi;
    ValueId       offset = quantizing_leaf(z, OP_STATE, "offset", "", false, 0), zero;
    z->info.offset = ir_value(z->b->g, offset)->name;
    z->info.affine = true;
    if (begins(z)) {
        ValueId min = quantizing_reduce(z, OP_REDUCE_MIN, 1), max = quantizing_reduce(z, OP_REDUCE_MAX, 1);
        ValueId leaf = step;
        step = ir_emit(z->b, OP_RANGE_STEP, IR_IN(min, max), AI(LO, lo), AI(HI, hi));
        zero = ir_emit(z->b, OP_RANGE_ZERO, IR_IN(min, max), AI(LO, lo), AI(HI, hi));
        ValueId width = ir_emit(z->b, OP_MUL, IR_IN(zero, step));
        ir_assign(z->b, leaf, step);
        ir_assign(z->b, offset, ir_emit(z->b, OP_SCALE, IR_IN(width), AF(SCALE, -1)));
    } else {
        zero = ir_emit(z->b, OP_ZERO_POINT, IR_IN(offset, step), AI(LO, lo), AI(HI, hi));
    }
    return quantizing_qdq(z, step, zero, "code");
}

ValueId method_fixed(Quantizing *z)
{
    ValueId step = quantizing_leaf(z, OP_STATE, "step", "", true, 1);
    z->info.step = ir_value(z->b->g, step)->name;
    if (z->role == ROLE_ACT && !z->nonneg && str_eq(quantizing_word(z, SET_FORM), "affine"))
        return affine(z, step);
    return symmetric(z, step);
}
