/* grad_quant.c: gradient rules of quantizers, their noise and their regularizers.
 *
 * Rounding has no gradient of its own; a quantizer is differentiated as if it only clipped (straight-through), and its
 * step and offset as LSQ and LSQ+ say. Which of them a quantizer trains follows from what lies behind its operands.
 *
 * Tested by tests/unit/test_quantizers.c, test_autodiff.c and the op matrix. */
#include "ir/grad_impl.h"

#include <math.h>

/* ---- Learned steps and offsets ----------------------------------------------------------------------------------- */

/* The gradient scale of LSQ, G = 1 / sqrt(N hi) (Esser et al. 2020, section 2.2), makes the relative update of a step
 * size like that of the weights when the step size is about 2 mean|x| / sqrt(hi), which is how it begins below 6 bits.
 * From 6 bits on it begins at max|x| / hi (see lsq_init), about sqrt(hi) times smaller, and so must its gradient be. */
double ir_lsq_scale(int64_t bits, int64_t hi, double n)
{
    return bits < 6 ? 1.0 / sqrt(n * (double)hi) : 1.0 / (sqrt(n) * (double)hi);
}

/* One sum for each channel: which dimensions remain. */
static const char *channels_of(const Value *v)
{
    return ir_int(v, A_AXIS) == 0 ? "o" : "c";
}

/* How many different numbers a step or an offset holds: groups of channels that share one have it repeated. */
static int64_t numbers_of(const GradCtx *c, ValueId learned)
{
    const Shape s = grad_shape(c, learned);
    if (s.rank == 0)
        return 1;
    return ir_is(c->b->g, learned, OP_REPEAT) ? s.dim[0] / ir_int(ir_value(c->b->g, learned), A_COUNT) : s.dim[0];
}

/* G sum dy d for `learned`, the step or the offset: `op` says what d is. N in G: the elements that share it: of the
 * weight, or of one sample of an activation (of the batch, if asked). The single step of an activation is summed by
 * channels first: rows of channels are what reductions walk fastest. */
static ValueId emit_learned(GradCtx *c, const Value *v, OpCode op, const ValueId *in, int32_t n_in, ValueId learned)
{
    const Shape  s = v->type.shape;
    const bool   act = str_eq(ir_text(v, A_ROLE), "act") && s.rank >= 2, each = grad_shape(c, learned).rank == 1;
    const double samples = (double)(act && !c->batch_in_n ? s.dim[0] : 1);
    const double n = (double)shape_elems(s) / samples / (double)numbers_of(c, learned);
    const double scale = ir_lsq_scale(ir_int(v, A_BITS), ir_int(v, A_HI), n);
    if (each || !act)
        return emit_like(c, v, op, IR_INS(in, n_in), AT(KEEP, each ? channels_of(v) : ""), AF(SCALE, scale));
    ValueId channels = emit_like(c, v, op, IR_INS(in, n_in), AT(KEEP, "c"));
    return ir_emit(c->b, OP_REDUCE_SUM, IR_IN(channels), AT(KEEP, ""), AF(SCALE, scale));
}

/* dx = dy where x is not clipped, else 0.
 * dstep: see lsq_grad_step. doffset, where the zero point is zero_point of a trained offset: see lsq_grad_offset; with
 * the zero point taken for -offset / step these are the rules of LSQ+ (Bhalgat et al. 2020, eq. 5 and 6). */
void grad_qdq(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId x = v.in[0], step = v.in[1], zero = v.n_in > 2 ? v.in[2] : VALUE_NONE;
    const ValueId in[] = { x, step, dy, zero };
    const int32_t n = v.n_in > 2 ? 4 : 3;
    if (c->wants(c, x))
        c->add(c, x, emit_like(c, &v, OP_QDQ_GRAD_X, IR_INS(in, n)));
    if (c->wants(c, step))
        c->add(c, step, emit_learned(c, &v, OP_LSQ_GRAD_STEP, in, n, step));
    if (zero == VALUE_NONE || !c->wants(c, zero))
        return;
    if (!ir_is(c->b->g, zero, OP_ZERO_POINT)) {
        diag_error(c->b->d, ir_loc(c->b->g, &v), "qdq: the zero point is trained, but is no zero_point of an offset");
        return;
    }
    const ValueId offset = grad_value(c, zero).in[0];
    if (c->wants(c, offset))
        c->add(c, offset, emit_learned(c, &v, OP_LSQ_GRAD_OFFSET, in, n, offset));
}

/* One step for a group of channels. */
void grad_repeat(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    c->add(c, v.in[0], emit_like(c, &v, OP_REPEAT_GRAD, IR_IN(dy)));
}

void grad_grad_scale(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    c->add(c, v.in[0], emit_like(c, &v, OP_SCALE, IR_IN(dy)));
}

/* ---- Noise, regularizers ----------------------------------------------------------------------------------------- */

/* Each element's gradient goes to the side that it was taken from; the mask is drawn again. */
void grad_quant_noise(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId x = v.in[0], q = v.in[1], seed = v.in[2], step = v.in[3];
    const ValueId none = ir_const(c->b, 0);
    if (c->wants(c, q))
        c->add(c, q, emit_like(c, &v, OP_QUANT_NOISE, IR_IN(none, dy, seed, step)));
    if (c->wants(c, x))
        c->add(c, x, emit_like(c, &v, OP_QUANT_NOISE, IR_IN(dy, none, seed, step)));
}

/* y = scale sum phi(x; step), a scalar. */
void grad_penalty(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId x = v.in[0], step = v.in[1];
    if (v.type.shape.rank > 0) {
        diag_error(c->b->d, ir_loc(c->b->g, &v),
                   "penalty: there is a gradient of one number alone, this is keep=\"%s\"", ir_text(&v, A_KEEP));
        return;
    }
    if (c->wants(c, x))
        c->add(c, x, emit_like(c, &v, OP_PENALTY_GRAD_X, IR_IN(x, step, dy)));
    if (c->wants(c, step)) {
        const char *keep = grad_shape(c, step).rank == 0 ? "" : channels_of(&v);
        c->add(c, step, emit_like(c, &v, OP_PENALTY_GRAD_STEP, IR_IN(x, step, dy), AT(KEEP, keep)));
    }
}
