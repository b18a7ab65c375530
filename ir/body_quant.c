/* body_quant.c: what quantizers compute: rounding to the grid, straight-through masks, gradients of step and offset,
 * steps from ranges, the random mask of Quant-Noise.
 *
 * One formula everywhere: t = x (1 / step); the rounded number is rint(clip(t, lo - z, hi - z)), where z, the integer
 * zero point, is 0 when there is none; the code is that number plus z, the value step times that number. So the real 0
 * has the code z exactly, and zeros around an image are on the grid.
 *
 * Tested by tests/unit/test_quantizers.c (answers of the papers) and test_body.c. */
#include "ir/body_impl.h"

enum { FEW_BITS = 6 }; /* below, LSQ's first step size is 2 mean|x| / sqrt(hi) */

/* A step below this is taken for it: a tensor of zeros has codes 0, and nothing is divided by 0. */
static const float LEAST_STEP = 1e-8f;

/* The limits of t: lo and hi, less the zero point where operand `zero` is there. */
typedef struct Limits {
    KVal lo, hi;
} Limits;

static Limits limits(const BodyCtx *c, const KVal *in, int32_t zero)
{
    Limits l = { number(c, (double)ir_int(self(c), A_LO)), number(c, (double)ir_int(self(c), A_HI)) };
    if (self(c)->n_in > zero) {
        l.lo = op2(c, K_SUB, l.lo, in[zero]);
        l.hi = op2(c, K_SUB, l.hi, in[zero]);
    }
    return l;
}

/* t = x (1 / step): the same number in all rules. */
static KVal in_steps(const BodyCtx *c, KVal x, KVal step)
{
    KVal inverse = op2(c, K_DIV, number(c, 1), step);
    return op2(c, K_MUL, x, inverse);
}

/* clip(t, lo, hi); a NaN becomes 0 first, then the nearest end. */
static KVal clipped(const BodyCtx *c, KVal t, Limits l)
{
    KVal zero = number(c, 0);
    t = choose(c, op2(c, K_EQ, t, t), t, zero);
    t = op2(c, K_MAX, t, l.lo);
    return op2(c, K_MIN, t, l.hi);
}

/* step rint(clip(t)) */
int32_t body_qdq(BodyCtx *c, const KVal *in, KVal out[2])
{
    Limits l = limits(c, in, 2);
    KVal   t = clipped(c, in_steps(c, in[0], in[1]), l);
    if (ir_int(self(c), A_ROUND))
        t = kb_op1(c->b, K_RINT, t);
    return one(out, op2(c, K_MUL, t, in[1]));
}

int32_t body_quantize(BodyCtx *c, const KVal *in, KVal out[2])
{
    Limits l = limits(c, in, 2);
    KVal   code = kb_op1(c->b, K_RINT, clipped(c, in_steps(c, in[0], in[1]), l));
    if (self(c)->n_in > 2 && !ir_int(self(c), A_CENTRED))
        code = op2(c, K_ADD, code, in[2]);
    return one(out, kb_cvt(c->b, KT_I32, code));
}

/* g where the ends let it pass */
int32_t body_qdq_grad_x(BodyCtx *c, const KVal *in, KVal out[2])
{
    Limits l = limits(c, in, 3);
    KVal   t = in_steps(c, in[0], in[1]);
    bool   code = str_eq(ir_text(self(c), A_ENDS), "code");
    if (code)
        t = kb_op1(c->b, K_RINT, t);
    KVal above = op2(c, code ? K_GE : K_GT, t, l.lo);
    KVal below = op2(c, code ? K_LE : K_LT, t, l.hi);
    KVal pass = op2(c, K_AND, above, below);
    return one(out, choose(c, pass, in[2], number(c, 0)));
}

/* g d, d = lo where t is clipped below, hi where above, rint(t) - t between (0 without rounding) */
int32_t body_lsq_grad_step(BodyCtx *c, const KVal *in, KVal out[2])
{
    Limits l = limits(c, in, 3);
    KVal   t = in_steps(c, in[0], in[1]);
    KVal   lo = number(c, (double)ir_int(self(c), A_LO)), hi = number(c, (double)ir_int(self(c), A_HI));
    KVal   inside = number(c, 0);
    if (ir_int(self(c), A_ROUND))
        inside = op2(c, K_SUB, kb_op1(c->b, K_RINT, t), t);
    KVal d = choose(c, op2(c, K_GE, t, l.hi), hi, inside);
    d = choose(c, op2(c, K_LE, t, l.lo), lo, d);
    return one(out, op2(c, K_MUL, in[2], d));
}

/* g where t is clipped */
int32_t body_lsq_grad_offset(BodyCtx *c, const KVal *in, KVal out[2])
{
    Limits l = limits(c, in, 3);
    KVal   t = in_steps(c, in[0], in[1]);
    KVal   below = op2(c, K_LE, t, l.lo);
    KVal   above = op2(c, K_GE, t, l.hi);
    KVal   outside = op2(c, K_OR, below, above);
    return one(out, choose(c, outside, in[2], number(c, 0)));
}

/* 2 mean_abs / sqrt(hi) for few bits, max_abs / hi for many; never 0. */
int32_t body_lsq_init(BodyCtx *c, const KVal *in, KVal out[2])
{
    double hi = (double)ir_int(self(c), A_HI);
    KVal   step;
    if (ir_int(self(c), A_BITS) < FEW_BITS)
        step = op2(c, K_MUL, in[0], number(c, 2 / sqrt(hi)));
    else
        step = op2(c, K_DIV, in[1], number(c, hi));
    return one(out, at_least(c, step, LEAST_STEP));
}

/* ---- Ranges ------------------------------------------------------------------------------------------------------ */

/* clip(x, lo, hi) with the op's own limits */
static KVal to_codes(const BodyCtx *c, KVal x)
{
    x = op2(c, K_MAX, x, number(c, (double)ir_int(self(c), A_LO)));
    return op2(c, K_MIN, x, number(c, (double)ir_int(self(c), A_HI)));
}

/* clip(rint(-offset / step)) */
int32_t body_zero_point(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal t = kb_op1(c->b, K_NEG, in_steps(c, in[0], in[1]));
    return one(out, to_codes(c, kb_op1(c->b, K_RINT, t)));
}

/* m / hi */
int32_t body_max_step(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal step = op2(c, K_DIV, in[0], number(c, (double)ir_int(self(c), A_HI)));
    return one(out, at_least(c, step, LEAST_STEP));
}

/* The range has the real 0 in it: padding needs a code. */
static KVal range_min(const BodyCtx *c, const KVal *in)
{
    return op2(c, K_MIN, in[0], number(c, 0));
}

static KVal range_step(const BodyCtx *c, const KVal *in)
{
    KVal   min = range_min(c, in), max = op2(c, K_MAX, in[1], number(c, 0));
    double codes = (double)(ir_int(self(c), A_HI) - ir_int(self(c), A_LO));
    KVal   width = op2(c, K_SUB, max, min);
    return at_least(c, op2(c, K_DIV, width, number(c, codes)), LEAST_STEP);
}

int32_t body_range_step(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, range_step(c, in));
}

/* clip(rint(lo - min / step)) */
int32_t body_range_zero(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal step = range_step(c, in);
    KVal below = op2(c, K_DIV, range_min(c, in), step);
    KVal zero = op2(c, K_SUB, number(c, (double)ir_int(self(c), A_LO)), below);
    return one(out, to_codes(c, kb_op1(c->b, K_RINT, zero)));
}

/* ---- Quant-Noise ------------------------------------------------------------------------------------------------- */

/* The draw of a block is that of its number in logical order, so the mask does not depend on layout or backend. */
int32_t body_quant_noise(BodyCtx *c, const KVal *in, KVal out[2])
{
    double p = ir_float(self(c), A_P);
    if (p <= 0 || p >= 1)
        return one(out, in[p >= 1]);
    KVal index = flat_index(c);
    if (ir_int(self(c), A_BLOCK) > 1)
        index = op2(c, K_DIV, index, kb_i32(c->b, (int32_t)ir_int(self(c), A_BLOCK)));
    index = kb_cvt(c->b, KT_U32, index);
    KVal high = kb_u32(c->b, 0), stream = kb_u32(c->b, (uint32_t)ir_int(self(c), A_STREAM));
    KVal seed = kb_cvt(c->b, KT_U32, in[2]), step = kb_cvt(c->b, KT_U32, in[3]);
    KVal draw = kb_philox(c->b, seed, high, stream, step, index);
    KVal noisy = op2(c, K_LT, draw, kb_u32(c->b, (uint32_t)(p * 0x1p32)));
    return one(out, choose(c, noisy, in[1], in[0]));
}

/* ---- What is watched --------------------------------------------------------------------------------------------- */

static KVal as_number(const BodyCtx *c, KVal cond)
{
    return kb_cvt(c->b, KT_F32, cond);
}

/* 1 where rint(t) is beyond the limits */
int32_t body_count_clipped(BodyCtx *c, const KVal *in, KVal out[2])
{
    Limits l = limits(c, in, 2);
    KVal   t = kb_op1(c->b, K_RINT, in_steps(c, in[0], in[1]));
    KVal   below = op2(c, K_LT, t, l.lo);
    KVal   above = op2(c, K_GT, t, l.hi);
    return one(out, as_number(c, op2(c, K_OR, below, above)));
}

int32_t body_squared_error(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal d = op2(c, K_SUB, in[0], in[1]);
    return one(out, op2(c, K_MUL, d, d));
}

/* 1 where x - x is not 0 */
int32_t body_count_nonfinite(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal d = op2(c, K_SUB, in[0], in[0]);
    return one(out, as_number(c, op2(c, K_NE, d, number(c, 0))));
}
