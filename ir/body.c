/* body.c: what element-wise ops and reductions compute, as kernel IR. One function a row of ops.def; lowering,
 * interpreter and code generators all derive from these.
 *
 * A body returns how many results it has: one, or for a reduction the number of sums. Formulas stand at the functions.
 * Two emitting calls are never arguments of one call: C does not say which runs first, and the text of a kernel must
 * not depend on the compiler that built Detent.
 *
 * Quantizers are in body_quant.c and body_penalty.c, windows and rows in body_nest.c, activations in body_act.c, losses
 * in body_loss.c. Tested by tests/unit/test_body.c
 * (each op against doubles and known answers). */
#include "ir/body_impl.h"

/* sqrt(var + eps) */
static KVal deviation(const BodyCtx *c, KVal var)
{
    KVal sum = op2(c, K_ADD, var, number(c, ir_float(self(c), A_EPS)));
    return kb_op1(c->b, K_SQRT, sum);
}

/* ---- Arithmetic ------------------------------------------------------------------------------------------------- */

int32_t body_const(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    return one(out, kb_f32(c->b, attr_f32(c, A_VALUE)));
}

int32_t body_relu(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, at_least(c, in[0], 0.0f));
}

int32_t body_relu_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal zero = number(c, 0);
    return one(out, choose(c, op2(c, K_GT, in[0], zero), in[1], zero));
}

int32_t body_add(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, op2(c, K_ADD, in[0], in[1]));
}
int32_t body_sub(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, op2(c, K_SUB, in[0], in[1]));
}
int32_t body_mul(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, op2(c, K_MUL, in[0], in[1]));
}
int32_t body_affine(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, fma3(c, in[0], in[1], in[2]));
}

/* g a + (x k + b) */
int32_t body_affine2(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal inner = fma3(c, in[2], in[3], in[4]);
    return one(out, fma3(c, in[0], in[1], inner));
}

int32_t body_scale(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, times(c, in[0], attr_f32(c, A_SCALE)));
}

/* Kept where the draw of the element is at least p 2^32, as a u32. */
int32_t body_dropout(BodyCtx *c, const KVal *in, KVal out[2])
{
    double   p = ir_float(self(c), A_P);
    uint32_t threshold = (uint32_t)(p * 0x1p32);
    KVal     high = kb_u32(c->b, 0), stream = kb_u32(c->b, (uint32_t)ir_int(self(c), A_STREAM));
    KVal     index = kb_cvt(c->b, KT_U32, flat_index(c));
    KVal     seed = kb_cvt(c->b, KT_U32, in[1]), step = kb_cvt(c->b, KT_U32, in[2]);
    KVal     draw = kb_philox(c->b, seed, high, stream, step, index);
    KVal     keep = op2(c, K_GE, draw, kb_u32(c->b, threshold));
    KVal     scaled = times(c, in[0], (float)(1 / (1 - p)));
    return one(out, choose(c, keep, scaled, number(c, 0)));
}

/* ---- Batch norm -------------------------------------------------------------------------------------------------- */

/* gamma / sqrt(var + eps) */
int32_t body_bn_scale(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, op2(c, K_DIV, in[0], deviation(c, in[1])));
}

int32_t body_rsqrt_mul(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, op2(c, K_DIV, in[0], deviation(c, in[1])));
}

/* gamma no nearer to 0 than 1e-8, its sign kept: somebody divides by it, or by what was multiplied by it */
static KVal folded_gamma(BodyCtx *c, KVal gamma)
{
    KVal size = at_least(c, kb_op1(c->b, K_ABS, gamma), 1e-8f);
    KVal negative = op2(c, K_GT, number(c, 0), gamma);
    return choose(c, negative, kb_op1(c->b, K_NEG, size), size);
}

int32_t body_bn_fold(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal gamma = folded_gamma(c, in[0]);
    return one(out, op2(c, K_DIV, gamma, deviation(c, in[1])));
}

int32_t body_bn_unfold(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal gamma = folded_gamma(c, in[0]);
    return one(out, op2(c, K_DIV, deviation(c, in[1]), gamma));
}

int32_t body_bn_deviation(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, deviation(c, in[0]));
}

/* beta - mean a */
int32_t body_bn_shift(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, fma3(c, kb_op1(c->b, K_NEG, in[1]), in[2], in[0]));
}

/* With y = a (x - mean) + beta, a = gamma / sqrt(var + eps), M elements, dx_dot = sum dy (x - mean), dbeta = sum dy:
 *   dx = a dy - a dbeta / M - a dx_dot (x - mean) / ((var + eps) M) = a dy + kx x + k1
 *   kx = -a dx_dot / ((var + eps) M),  k1 = -a dbeta / M - kx mean.   Here: kx. */
int32_t body_bn_grad_x(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal var = op2(c, K_ADD, in[0], number(c, ir_float(self(c), A_EPS)));
    KVal below = op2(c, K_MUL, var, number(c, (double)ir_int(self(c), A_COUNT)));
    KVal above = kb_op1(c->b, K_NEG, op2(c, K_MUL, in[1], in[2]));
    return one(out, op2(c, K_DIV, above, below));
}

/* k1 from a, dbeta, kx, mean */
int32_t body_bn_grad_1(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal sum = op2(c, K_MUL, in[0], in[1]);
    KVal mean = op2(c, K_DIV, sum, number(c, (double)ir_int(self(c), A_COUNT)));
    return one(out, kb_op1(c->b, K_NEG, fma3(c, in[2], in[3], mean)));
}

/* old + momentum (scale now - old) */
int32_t body_ema(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal now = times(c, in[1], attr_f32(c, A_SCALE));
    KVal step = op2(c, K_SUB, now, in[0]);
    return one(out, fma3(c, number(c, ir_float(self(c), A_MOMENTUM)), step, in[0]));
}

/* ---- Reductions: what is summed ---------------------------------------------------------------------------------- */

int32_t body_pass(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)c;
    return one(out, in[0]);
}

int32_t body_gap(BodyCtx *c, const KVal *in, KVal out[2])
{
    return body_pass(c, in, out);
}
int32_t body_mul1(BodyCtx *c, const KVal *in, KVal out[2])
{
    return body_mul(c, in, out);
}
int32_t body_abs(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, kb_op1(c->b, K_ABS, in[0]));
}

/* x - shift: near the mean, so that the sum keeps its digits */
int32_t body_bn_mean(BodyCtx *c, const KVal *in, KVal out[2])
{
    return body_sub(c, in, out);
}

int32_t body_bn_var(BodyCtx *c, const KVal *in, KVal out[2])
{
    out[0] = op2(c, K_SUB, in[0], in[1]);
    out[1] = op2(c, K_MUL, out[0], out[0]);
    return 2;
}

/* dy (x - mean) */
int32_t body_bn_dgamma(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal d = op2(c, K_SUB, in[1], in[2]);
    return one(out, op2(c, K_MUL, in[0], d));
}

/* ---- Reductions: what becomes of the sums ------------------------------------------------------------------------ */

/* 1 / M with M elements of the input for each of the result */
static KVal inverse_count(const BodyCtx *c)
{
    int64_t each = shape_elems(in_type(c, 0).shape) / shape_elems(self(c)->type.shape);
    return number(c, 1 / (double)each);
}

KVal final_mean(BodyCtx *c, const KVal *in, const KVal *sum)
{
    (void)in;
    return op2(c, K_MUL, sum[0], inverse_count(c));
}

KVal final_scale(BodyCtx *c, const KVal *in, const KVal *sum)
{
    (void)in;
    return times(c, sum[0], attr_f32(c, A_SCALE));
}

KVal final_scale1(BodyCtx *c, const KVal *in, const KVal *sum)
{
    (void)c, (void)in;
    return sum[0];
}

/* shift + sum / M */
KVal final_bn_mean(BodyCtx *c, const KVal *in, const KVal *sum)
{
    return fma3(c, sum[0], inverse_count(c), in[1]);
}

/* sum d^2 / M - (sum d / M)^2, not below 0 */
KVal final_bn_var(BodyCtx *c, const KVal *in, const KVal *sum)
{
    (void)in;
    KVal inverse = inverse_count(c);
    KVal mean = op2(c, K_MUL, sum[0], inverse), square = op2(c, K_MUL, sum[1], inverse);
    return at_least(c, fma3(c, kb_op1(c->b, K_NEG, mean), mean, square), 0.0f);
}
