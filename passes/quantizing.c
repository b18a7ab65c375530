/* quantizing.c: what methods are made of: leaves, reductions to as many numbers as there are steps, the quantizer op.
 *
 * Tested by tests/unit/test_quantize.c. */
#include "passes/quantize.h"

double quantizing_number(const Quantizing *z, SettingId id)
{
    return spec_number(z->spec, id, z->c->moment);
}

const char *quantizing_word(const Quantizing *z, SettingId id)
{
    return spec_word(z->spec, id);
}

ValueId quantizing_leaf(Quantizing *z, OpCode kind, const char *suffix, const char *group, bool each, double value)
{
    const AttrSet attrs[] = { AT(INIT, "value"), AF(VALUE, value), AT(GROUP, group) };
    const char   *name = arena_printf(z->c->keep, "%s.%s", z->name, suffix);
    bool          vector = each && z->steps > 1;
    Type          type = { .dtype = DTYPE_F32, .shape = shape_of(vector ? 1 : 0, &z->steps), .layout = LAYOUT_ROWS };
    return ir_leaf(z->b, kind, name, type, attrs, kind == OP_PARAM ? 3 : 2);
}

ValueId quantizing_each(Quantizing *z, ValueId x)
{
    if (z->group == 1 || ir_value(z->b->g, x)->type.shape.rank == 0)
        return x;
    return ir_emit(z->b, OP_REPEAT, IR_IN(x), AI(COUNT, z->group));
}

/* Rows of channels are what reductions of an image walk fastest: first to one number for each channel. */
static ValueId reduce_input(Quantizing *z, OpCode op, double scale)
{
    ValueId x = z->x;
    if (ir_value(z->b->g, x)->type.shape.rank >= 2)
        x = ir_emit(z->b, op, IR_IN(x), AT(KEEP, "c"));
    OpCode again = op == OP_REDUCE_ABS ? OP_REDUCE_SUM : op == OP_REDUCE_MAXABS ? OP_REDUCE_MAX : op;
    return ir_emit(z->b, again, IR_IN(x), AT(KEEP, ""), AF(SCALE, scale));
}

ValueId quantizing_reduce(Quantizing *z, OpCode op, double scale)
{
    if (z->role == ROLE_ACT)
        return reduce_input(z, op, scale);
    if (z->steps == 1)
        return ir_emit(z->b, op, IR_IN(z->x), AT(KEEP, ""), AF(SCALE, scale));
    ValueId each = ir_emit(z->b, op, IR_IN(z->x), AT(KEEP, z->axis == 0 ? "o" : "c"), AF(SCALE, scale));
    if (z->group == 1)
        return each;
    bool sums = op == OP_REDUCE_ABS || op == OP_REDUCE_SUM;
    DT_ASSERT(sums || op == OP_REDUCE_MAXABS || op == OP_REDUCE_MAX, "%s of groups", ir_ops[op].text);
    return ir_emit(z->b, sums ? OP_REPEAT_GRAD : OP_GROUP_MAX, IR_IN(each), AI(COUNT, z->group));
}

ValueId quantizing_qdq(Quantizing *z, ValueId step, ValueId zero, const char *ends)
{
    const ValueId in[] = { z->x, quantizing_each(z, step), zero };
    z->qdq = ir_emit(z->b, OP_QDQ, IR_INS(in, zero == VALUE_NONE ? 2 : 3), AI(LO, z->info.lo), AI(HI, z->info.hi),
                     AI(AXIS, z->axis), AI(ROUND, z->round), AT(ENDS, ends), AI(BITS, z->info.bits),
                     AT(ROLE, role_name(z->role)), AI(ROW, z->info.row));
    return z->qdq;
}

double quantizing_elems(const Quantizing *z)
{
    Shape s = ir_value(z->b->g, z->x)->type.shape;
    return (double)shape_elems(s) / (double)z->steps;
}

bool quantizing_calibrated(const Quantizing *z)
{
    return !str_eq(quantizing_word(z, SET_CALIBRATE), "none");
}
