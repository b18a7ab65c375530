/* body_optimizer.c: what an optimizer's step computes, element by element: velocities, moving averages of squares,
 * updates of params, and the few numbers that all params share (bias correction, clipping, the rate of averages).
 *
 * Tested by tests/unit/test_body.c, test_matrix.c and, against PyTorch's, test_optimizers.c. */
#include "ir/body_impl.h"

/* p, no lower than the floor where there is one: a quantizer divides by a step size */
static KVal floored(const BodyCtx *c, KVal p)
{
    float floor = attr_f32(c, A_FLOOR);
    return floor == 0 ? p : at_least(c, p, floor);
}

/* g + decay p */
static KVal decayed(const BodyCtx *c, KVal g, KVal p)
{
    float decay = attr_f32(c, A_DECAY);
    return decay == 0 ? g : fma3(c, number(c, (double)decay), p, g);
}

int32_t body_decayed(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, decayed(c, in[0], in[1]));
}

/* ---- SGD --------------------------------------------------------------------------------------------------------- */

/* momentum v + (g + decay p) */
static KVal velocity(const BodyCtx *c, KVal v, KVal g, KVal p)
{
    float momentum = attr_f32(c, A_MOMENTUM);
    KVal  now = decayed(c, g, p);
    return momentum == 0 ? now : fma3(c, number(c, (double)momentum), v, now);
}

int32_t body_sgd_velocity(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, velocity(c, in[0], in[1], in[2]));
}

/* p - lr u from p, g, v, lr */
int32_t body_sgd_step(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal u = ir_int(self(c), A_NESTEROV) ? velocity(c, in[2], in[1], in[0]) : in[2];
    KVal p = fma3(c, kb_op1(c->b, K_NEG, in[3]), u, in[0]);
    return one(out, floored(c, p));
}

/* ---- Optimizers with moments ------------------------------------------------------------------------------------- */

/* (1 - momentum) old + momentum now^2 */
int32_t body_square_ema(BodyCtx *c, const KVal *in, KVal out[2])
{
    double momentum = ir_float(self(c), A_MOMENTUM);
    KVal   kept = times(c, in[0], (float)(1 - momentum)), share = times(c, in[1], (float)momentum);
    return one(out, fma3(c, share, in[1], kept));
}

/* p (1 - lr decay) - rate m / (sqrt(v) / root + eps) from p, m, v, rate, root (, lr) */
int32_t body_adam_step(BodyCtx *c, const KVal *in, KVal out[2])
{
    float decay = attr_f32(c, A_DECAY);
    KVal  p = in[0];
    if (decay != 0) {
        KVal share = kb_op1(c->b, K_NEG, times(c, in[5], decay));
        p = fma3(c, share, p, p);
    }
    KVal size = op2(c, K_DIV, kb_op1(c->b, K_SQRT, in[2]), in[4]);
    KVal below = op2(c, K_ADD, size, number(c, ir_float(self(c), A_EPS)));
    KVal u = op2(c, K_DIV, in[1], below);
    return one(out, floored(c, fma3(c, kb_op1(c->b, K_NEG, in[3]), u, p)));
}

/* g / (sqrt(v) + eps) */
int32_t body_rms_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal size = kb_op1(c->b, K_SQRT, in[1]);
    KVal below = op2(c, K_ADD, size, number(c, ir_float(self(c), A_EPS)));
    return one(out, op2(c, K_DIV, in[0], below));
}

/* g sqrt(d + eps) / sqrt(v + eps) from g, v, d */
int32_t body_adadelta(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal eps = number(c, ir_float(self(c), A_EPS));
    KVal moved = op2(c, K_ADD, in[2], eps), seen = op2(c, K_ADD, in[1], eps);
    KVal above = kb_op1(c->b, K_SQRT, moved), below = kb_op1(c->b, K_SQRT, seen);
    return one(out, op2(c, K_MUL, op2(c, K_DIV, above, below), in[0]));
}

/* ---- Numbers that params share ----------------------------------------------------------------------------------- */

int32_t body_div(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, op2(c, K_DIV, in[0], in[1]));
}

int32_t body_sqrt(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, kb_op1(c->b, K_SQRT, in[0]));
}

/* From left to right. It reads memory, so that a tree of sums is not one kernel with hundreds of operands. */
int32_t body_total(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    KVal sum = c->load(c, 0, NULL, KVAL_NONE);
    for (int32_t i = 1; i < self(c)->n_in; i++) {
        KVal next = c->load(c, i, NULL, KVAL_NONE);
        sum = op2(c, K_ADD, sum, next);
    }
    return one(out, sum);
}

/* limit / (sqrt(n) + 1e-6) where that is below 1 */
int32_t body_clip_factor(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal size = kb_op1(c->b, K_SQRT, in[0]);
    KVal norm = op2(c, K_ADD, size, number(c, 1e-6));
    KVal factor = op2(c, K_DIV, number(c, ir_float(self(c), A_LIMIT)), norm);
    KVal small = op2(c, K_LT, number(c, 1), factor);
    return one(out, choose(c, small, number(c, 1), factor));
}

/* Unlike min and max, a NaN stays one: a gradient that is none must be seen. */
int32_t body_clip_value(BodyCtx *c, const KVal *in, KVal out[2])
{
    float limit = attr_f32(c, A_LIMIT);
    KVal  high = number(c, (double)limit), low = at_least(c, in[0], -limit);
    return one(out, choose(c, op2(c, K_GT, low, high), high, low));
}

/* old + rate (scale now - old) from old, now, rate */
int32_t body_lerp(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal now = times(c, in[1], attr_f32(c, A_SCALE));
    KVal step = op2(c, K_SUB, now, in[0]);
    return one(out, fma3(c, in[2], step, in[0]));
}

/* 1 - decay, or with `warm` 9 / (10 + t) while that is more */
int32_t body_ema_rate(BodyCtx *c, const KVal *in, KVal out[2])
{
    double decay = ir_float(self(c), A_DECAY);
    KVal   rate = number(c, 1 - decay);
    if (ir_int(self(c), A_WARM)) {
        KVal later = op2(c, K_ADD, in[0], number(c, 10));
        KVal early = op2(c, K_DIV, number(c, 9), later);
        rate = op2(c, K_MAX, early, rate);
    }
    return one(out, rate);
}
