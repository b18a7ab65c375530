/* body_act.c: activations and their gradients, and the masks of drop-connect, as kernel IR.
 *
 * exp is a fixed polynomial of the kernel IR, so sigmoid and silu have the same bits everywhere. Measured against
 * double over a dense sample of all floats: sigmoid is off by less than 2.1 ulp, silu by less than 2.4, the slope of
 * silu by less than 1e-6. exp(-x) overflows to infinity below -88.7, where their results are taken for 0: no finite x
 * gives a NaN.
 *
 * A gradient is taken by the result where the result decides (relu6, leaky_relu, sigmoid, hard_sigmoid), else by x:
 * nothing is kept that forward does not keep.
 *
 * Tested by tests/unit/test_body_act.c, and by the op matrix. */
#include "ir/body_impl.h"

/* x, or `most` where x is above it; a NaN stays one. */
static KVal at_most(const BodyCtx *c, KVal x, float most)
{
    KVal m = number(c, (double)most);
    return choose(c, op2(c, K_GT, x, m), m, x);
}

/* Is x strictly between both? */
static KVal between(const BodyCtx *c, KVal x, double low, double high)
{
    KVal above = op2(c, K_GT, x, number(c, low));
    KVal below = op2(c, K_LT, x, number(c, high));
    return op2(c, K_AND, above, below);
}

/* 1 / (1 + exp(-x)) */
static KVal sigmoid(const BodyCtx *c, KVal x)
{
    KVal unit = number(c, 1), e = kb_op1(c->b, K_EXP, kb_op1(c->b, K_NEG, x));
    return op2(c, K_DIV, unit, op2(c, K_ADD, e, unit));
}

/* ---- Piecewise linear ---------------------------------------------------------------------------------------------
 */

int32_t body_relu6(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, at_most(c, at_least(c, in[0], 0), 6));
}

int32_t body_relu6_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal inside = between(c, in[0], 0, 6);
    return one(out, choose(c, inside, in[1], number(c, 0)));
}

/* x or slope x, by the sign of `by`. */
static KVal leak(const BodyCtx *c, KVal by, KVal x)
{
    KVal positive = op2(c, K_GT, by, number(c, 0));
    KVal less = op2(c, K_MUL, x, kb_f32(c->b, attr_f32(c, A_SLOPE)));
    return choose(c, positive, x, less);
}

int32_t body_leaky_relu(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, leak(c, in[0], in[0]));
}

int32_t body_leaky_relu_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, leak(c, in[0], in[1]));
}

/* clip(x + 3, 0, 6) (1 / 6): 1 to the bit from 3 on */
static KVal hard_sigmoid(const BodyCtx *c, KVal x)
{
    KVal clipped = at_most(c, at_least(c, op2(c, K_ADD, x, number(c, 3)), 0), 6);
    return op2(c, K_MUL, clipped, number(c, 1.0 / 6));
}

int32_t body_hard_sigmoid(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, hard_sigmoid(c, in[0]));
}

int32_t body_hard_sigmoid_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal inside = between(c, in[0], 0, 1);
    KVal sixth = op2(c, K_MUL, in[1], number(c, 1.0 / 6));
    return one(out, choose(c, inside, sixth, number(c, 0)));
}

int32_t body_hard_swish(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, op2(c, K_MUL, in[0], hard_sigmoid(c, in[0])));
}

/* (x^2 + 3 x) / 6 between -3 and 3: its slope is x / 3 + 1 / 2 */
int32_t body_hard_swish_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal slope = fma3(c, in[0], number(c, 1.0 / 3), number(c, 0.5));
    KVal above = op2(c, K_GT, in[0], number(c, -3));
    slope = choose(c, above, slope, number(c, 0));
    slope = choose(c, op2(c, K_GE, in[0], number(c, 3)), number(c, 1), slope);
    return one(out, op2(c, K_MUL, in[1], slope));
}

/* ---- Smooth --------------------------------------------------------------------------------------------------------
 */

int32_t body_sigmoid(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, sigmoid(c, in[0]));
}

/* y (1 - y) g */
int32_t body_sigmoid_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal rest = op2(c, K_SUB, number(c, 1), in[0]);
    KVal slope = op2(c, K_MUL, in[0], rest);
    return one(out, op2(c, K_MUL, slope, in[1]));
}

/* A product: backward, where the slope stands beside it, both share one division. */
int32_t body_silu(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, op2(c, K_MUL, in[0], sigmoid(c, in[0])));
}

/* s (1 + x (1 - s)) g */
int32_t body_silu_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal unit = number(c, 1), s = sigmoid(c, in[0]);
    KVal rest = op2(c, K_SUB, unit, s);
    KVal slope = op2(c, K_MUL, s, fma3(c, in[0], rest, unit));
    return one(out, op2(c, K_MUL, slope, in[1]));
}

/* ---- Random --------------------------------------------------------------------------------------------------------
 */

/* Kept where the draw of the sample is at least p 2^32, as a u32. */
int32_t body_sample_mask(BodyCtx *c, const KVal *in, KVal out[2])
{
    double p = ir_float(self(c), A_P);
    KVal   high = kb_u32(c->b, 0), stream = kb_u32(c->b, (uint32_t)ir_int(self(c), A_STREAM));
    KVal   sample = kb_cvt(c->b, KT_U32, flat_index(c)); /* one element a sample */
    KVal   seed = kb_cvt(c->b, KT_U32, in[0]), step = kb_cvt(c->b, KT_U32, in[1]);
    KVal   draw = kb_philox(c->b, seed, high, stream, step, sample);
    KVal   keep = op2(c, K_GE, draw, kb_u32(c->b, (uint32_t)(p * 0x1p32)));
    KVal   kept = number(c, 1 / (1 - p));
    return one(out, choose(c, keep, kept, number(c, 0)));
}
