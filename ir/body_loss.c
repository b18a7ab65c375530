/* body_loss.c: what losses and their gradients compute at one element, as kernel IR. Formulas stand at the functions;
 * which sums they are parts of: passes/decompose.c.
 *
 * Tested by tests/unit/test_body.c, test_body_act.c and the op matrix. */
#include "ir/body_impl.h"

/* ---- Cross entropy ------------------------------------------------------------------------------------------------
 */

/* 1 where this element is the class of the label, else 0. */
static KVal is_class(const BodyCtx *c, KVal label)
{
    KVal hit = op2(c, K_EQ, kb_index(c->b, c->out[1].at), label);
    return kb_cvt(c->b, KT_F32, hit);
}

/* q: 1 at the label; or share at the first and 1 - share at the second; smoothed: q (1 - eps) + eps / C. */
static KVal target_share(const BodyCtx *c, const KVal *in)
{
    double smoothing = ir_float(self(c), A_SMOOTHING);
    KVal   q = is_class(c, in[2]);
    if (self(c)->n_in > 4) {
        KVal second = is_class(c, in[4]);
        q = fma3(c, in[5], op2(c, K_SUB, q, second), second);
    }
    if (smoothing == 0)
        return q;
    KVal all = number(c, smoothing / (double)in_type(c, 0).shape.dim[1]);
    return fma3(c, q, number(c, 1 - smoothing), all);
}

/* (exp(x - lse) - q) scale g */
int32_t body_xent_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal p = kb_op1(c->b, K_EXP, op2(c, K_SUB, in[0], in[1]));
    KVal d = op2(c, K_SUB, p, target_share(c, in));
    return one(out, op2(c, K_MUL, times(c, d, attr_f32(c, A_SCALE)), in[3]));
}

/* ---- Differences to a target --------------------------------------------------------------------------------------
 */

/* sign(x - target) scale g */
int32_t body_l1_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal d = op2(c, K_SUB, in[0], in[1]), zero = number(c, 0);
    KVal up = kb_f32(c->b, attr_f32(c, A_SCALE)), down = kb_f32(c->b, -attr_f32(c, A_SCALE));
    KVal negative = choose(c, op2(c, K_LT, d, zero), down, zero);
    KVal slope = choose(c, op2(c, K_GT, d, zero), up, negative);
    return one(out, op2(c, K_MUL, slope, in[2]));
}

/* sqrt(d^2 + eps) */
static KVal rooted(const BodyCtx *c, KVal d)
{
    return kb_op1(c->b, K_SQRT, fma3(c, d, d, number(c, ir_float(self(c), A_EPS))));
}

int32_t body_charbonnier(BodyCtx *c, const KVal *in, KVal out[2])
{
    return one(out, rooted(c, op2(c, K_SUB, in[0], in[1])));
}

/* d / sqrt(d^2 + eps) scale g */
int32_t body_charbonnier_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal d = op2(c, K_SUB, in[0], in[1]);
    KVal slope = op2(c, K_DIV, d, rooted(c, d));
    return one(out, op2(c, K_MUL, times(c, slope, attr_f32(c, A_SCALE)), in[2]));
}

/* |alpha - [x < target]| d, 0 where the target is not known */
static KVal lopsided(const BodyCtx *c, KVal x, KVal target, KVal d)
{
    double alpha = ir_float(self(c), A_ALPHA);
    KVal   zero = number(c, 0), above = number(c, alpha), below = number(c, 1 - alpha);
    KVal   weight = choose(c, op2(c, K_LT, x, target), below, above);
    KVal   weighted = op2(c, K_MUL, weight, d);
    return choose(c, op2(c, K_GE, target, zero), weighted, zero);
}

int32_t body_asymmetric(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal d = op2(c, K_SUB, in[0], in[1]);
    KVal weighted = lopsided(c, in[0], in[1], d);
    return one(out, op2(c, K_MUL, weighted, d));
}

int32_t body_asymmetric_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal d = op2(c, K_SUB, in[0], in[1]);
    KVal weighted = lopsided(c, in[0], in[1], d);
    return one(out, op2(c, K_MUL, times(c, weighted, 2 * attr_f32(c, A_SCALE)), in[2]));
}

/* ---- Total variation ----------------------------------------------------------------------------------------------
 */

/* 1 / how many pairs of neighbours there are along dimension d (2 or 3); 0: none. */
static double pair_weight(const BodyCtx *c, int32_t d)
{
    const Shape s = in_type(c, 0).shape;
    return s.dim[d] < 2 ? 0 : (double)s.dim[d] / (double)(s.dim[d] - 1) / (double)shape_elems(s);
}

static KVal here(BodyCtx *c)
{
    return c->load(c, 0, c->out, KVAL_NONE);
}

/* x - the neighbour before this element along d (by -1), the neighbour after - x (by 1); 0 where there is none. */
static KVal difference(BodyCtx *c, int32_t d, int32_t by)
{
    Coord at[4] = { c->out[0], c->out[1], c->out[2], c->out[3] };
    at[d] = coord_step(c, at[d], 1, affine_const(by));
    KVal there = inside(c, at[d], in_dim(c, 0, d), by < 0, by > 0);
    KVal x = here(c), other = c->load(c, 0, at, there);
    KVal step = by < 0 ? op2(c, K_SUB, x, other) : op2(c, K_SUB, other, x);
    return choose(c, there, step, number(c, 0));
}

int32_t body_tv_each(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    KVal sum = number(c, 0);
    for (int32_t d = 2; d < 4; d++) {
        if (pair_weight(c, d) == 0)
            continue;
        KVal step = difference(c, d, 1);
        KVal weighted = op2(c, K_MUL, step, number(c, pair_weight(c, d)));
        sum = fma3(c, weighted, step, sum);
    }
    return one(out, sum);
}

/* An element is the later one of a pair, and the earlier one of another. */
int32_t body_tv_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    KVal sum = number(c, 0);
    for (int32_t d = 2; d < 4; d++) {
        if (pair_weight(c, d) == 0)
            continue;
        KVal before = difference(c, d, -1);
        KVal after = difference(c, d, 1);
        KVal slope = op2(c, K_SUB, before, after);
        sum = fma3(c, slope, number(c, 2 * pair_weight(c, d)), sum);
    }
    return one(out, sum);
}

/* ---- Distance from a teacher ------------------------------------------------------------------------------------- */

/* exp(b) (b - a), a = s - lse, b = t - lse_t: a term of the KL divergence of two rows */
int32_t body_kl_term(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal a = op2(c, K_SUB, in[0], in[1]), b = op2(c, K_SUB, in[2], in[3]);
    KVal q = kb_op1(c->b, K_EXP, b), step = op2(c, K_SUB, b, a);
    return one(out, op2(c, K_MUL, q, step));
}

/* (exp(a) - exp(b)) scale g */
int32_t body_kl_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    KVal a = op2(c, K_SUB, in[0], in[1]), b = op2(c, K_SUB, in[2], in[3]);
    KVal p = kb_op1(c->b, K_EXP, a), q = kb_op1(c->b, K_EXP, b);
    KVal d = op2(c, K_SUB, p, q);
    return one(out, op2(c, K_MUL, times(c, d, attr_f32(c, A_SCALE)), in[4]));
}
