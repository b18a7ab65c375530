/* matrix_refs.h: what every op computes, a second time: plain loops over doubles in logical order, written from the
 * ops' descriptions and the equations they cite, with nothing of the kernels in them. One function a row of ops.def.
 *
 * A point rule gets the operands of an element-wise op at one element (broadcast already). A sum rule gives what a
 * reduction adds up there, a finish rule what becomes of the sums. Everything else walks its tensors itself.
 *
 * Quantizers are in matrix_refs_quant.inc, what moves elements in matrix_refs_shape.inc, activations and losses in
 * matrix_refs_act.inc and matrix_refs_loss.inc, windows in matrix_refs_window.inc. */
#ifndef DETENT_TESTS_MATRIX_REFS_H
#define DETENT_TESTS_MATRIX_REFS_H

#include "ir/ir.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REF_MAX_INPUTS = 16 };

typedef struct Ref {
    const Graph *g;
    const Value *v;
    double      *in[REF_MAX_INPUTS];
    Shape        s[REF_MAX_INPUTS], out_s;
    double      *out;
} Ref;

typedef double (*RefPoint)(const Value *v, const double *x);
typedef struct RefSums {
    double  sum, square, most, least;
    int64_t n;
} RefSums;
typedef double (*RefFinish)(const Ref *r, RefSums s, int64_t k);

static int64_t ref_attr(const Ref *r, AttrId id)
{
    return ir_int(r->v, id);
}

/* ---- Indices ----------------------------------------------------------------------------------------------------- */

static void ref_coords(Shape s, int64_t i, int64_t at[DT_MAX_RANK])
{
    for (int32_t d = s.rank - 1; d >= 0; d--) {
        at[d] = i % s.dim[d];
        i /= s.dim[d];
    }
}

/* Element of an operand that stands at element `at` of a result of rank `rank`. */
static int64_t ref_operand(Shape s, int32_t rank, int64_t axis, const int64_t at[DT_MAX_RANK])
{
    if (s.rank == 1 && rank > 1)
        return at[axis];
    int64_t i = 0;
    for (int32_t d = 0; d < s.rank; d++)
        i = i * s.dim[d] + (s.dim[d] == 1 ? 0 : at[d]);
    return i;
}

static int64_t ref_axis(const Value *v)
{
    for (int32_t i = 0; i < ir_ops[v->op].n_attrs; i++)
        if (ir_ops[v->op].attrs[i].id == A_AXIS)
            return v->attr[i].i;
    return 1;
}

static void ref_points(Ref *r, RefPoint f)
{
    for (int64_t i = 0; i < shape_elems(r->out_s); i++) {
        int64_t at[DT_MAX_RANK] = { 0 };
        double  x[REF_MAX_INPUTS + 1] = { 0 };
        ref_coords(r->out_s, i, at);
        for (int32_t k = 0; k < r->v->n_in; k++)
            x[k] = r->in[k][ref_operand(r->s[k], r->out_s.rank, ref_axis(r->v), at)];
        x[r->v->n_in] = (double)i;
        r->out[i] = f(r->v, x);
    }
}

/* Which element of the result an element of the operand goes to. */
static int64_t ref_kept(Shape s, const char *keep, const int64_t at[DT_MAX_RANK])
{
    bool first = str_eq(keep, "n") || str_eq(keep, "o");
    return str_eq(keep, "c") ? at[1] : first ? at[0] : str_eq(keep, "nc") ? at[0] * s.dim[1] + at[1] : 0;
}

static void ref_reduce(Ref *r, const char *keep, RefPoint f, RefFinish finish)
{
    int64_t  n = shape_elems(r->out_s);
    RefSums *sums = calloc((size_t)n, sizeof(RefSums));
    for (int64_t i = 0; i < shape_elems(r->s[0]); i++) {
        int64_t at[DT_MAX_RANK] = { 0 };
        double  x[REF_MAX_INPUTS] = { 0 };
        ref_coords(r->s[0], i, at);
        for (int32_t k = 0; k < r->v->n_in; k++)
            x[k] = r->in[k][ref_operand(r->s[k], r->s[0].rank, ref_axis(r->v), at)];
        double   term = f(r->v, x);
        RefSums *s = &sums[ref_kept(r->s[0], keep, at)];
        s->sum += term;
        s->square += term * term;
        s->most = s->n ? fmax(s->most, term) : term;
        s->least = s->n ? fmin(s->least, term) : term;
        s->n++;
    }
    for (int64_t k = 0; k < n; k++)
        r->out[k] = finish(r, sums[k], k);
    free(sums);
}

/* ---- Point rules ------------------------------------------------------------------------------------------------- */

#define POINT(name, expr)                                                                                              \
    static double name(const Value *v, const double *x)                                                                \
    {                                                                                                                  \
        (void)v;                                                                                                       \
        return expr;                                                                                                   \
    }
#define F(id) ((double)(float)ir_float(v, A_##id))
#define I(id) ((double)ir_int(v, A_##id))

static double ref_folded_gamma(double gamma)
{
    return fabs(gamma) < (double)1e-8f ? (gamma < 0 ? -1 : 1) * (double)1e-8f : gamma;
}

/* clang-format off */
POINT(ref_copy, x[0])
POINT(ref_relu, isnan(x[0]) ? x[0] : x[0] > 0 ? x[0] : 0)
POINT(ref_add, x[0] + x[1])
POINT(ref_sub, x[0] - x[1])
POINT(ref_mul, x[0] * x[1])
POINT(ref_scale, F(SCALE) * x[0])
POINT(ref_batchnorm, x[3] * (x[0] - x[1]) / sqrt(x[2] + F(EPS)) + x[4])
POINT(ref_bn_scale, x[0] / sqrt(x[1] + F(EPS)))
POINT(ref_bn_fold, ref_folded_gamma(x[0]) / sqrt(x[1] + F(EPS)))
POINT(ref_bn_unfold, sqrt(x[1] + F(EPS)) / ref_folded_gamma(x[0]))
POINT(ref_bn_deviation, sqrt(x[0] + F(EPS)))
POINT(ref_bn_shift, x[0] - x[1] * x[2])
POINT(ref_affine, x[0] * x[1] + x[2])
POINT(ref_affine2, x[0] * x[1] + (x[2] * x[3] + x[4]))
POINT(ref_rsqrt_mul, x[0] / sqrt(x[1] + F(EPS)))
POINT(ref_bn_grad_x, -x[1] * x[2] / ((x[0] + F(EPS)) * I(COUNT)))
POINT(ref_bn_grad_1, -x[0] * x[1] / I(COUNT) - x[2] * x[3])
POINT(ref_ema, x[0] + F(MOMENTUM) * (F(SCALE) * x[1] - x[0]))
POINT(ref_relu_grad, x[0] > 0 ? x[1] : 0)
POINT(ref_abs, fabs(x[0]))
POINT(ref_near_mean, x[0] - x[1])
POINT(ref_bn_dgamma, x[0] * (x[1] - x[2]))
/* clang-format on */

static double ref_const(const Value *v, const double *x)
{
    (void)x;
    return F(VALUE);
}

static double ref_dropout(const Value *v, const double *x)
{
    uint32_t draw = rng_u32((uint64_t)x[1], (uint32_t)ir_int(v, A_STREAM), (uint32_t)x[2], (uint64_t)x[3]);
    return draw < ir_float(v, A_P) * 0x1p32 ? 0 : x[0] / (1 - ir_float(v, A_P));
}

#include "tests/unit/matrix_refs_act.inc"
#include "tests/unit/matrix_refs_quant.inc"

static double ref_decayed(const Value *v, double g, double p)
{
    return g + F(DECAY) * p;
}
static double ref_sgd_velocity(const Value *v, const double *x)
{
    return F(MOMENTUM) * x[0] + ref_decayed(v, x[1], x[2]);
}
static double ref_sgd_step(const Value *v, const double *x)
{
    double u = ir_int(v, A_NESTEROV) ? ref_decayed(v, x[1], x[0]) + F(MOMENTUM) * x[2] : x[2];
    double p = x[0] - x[3] * u;
    return F(FLOOR) != 0 && p < F(FLOOR) ? F(FLOOR) : p;
}
static double ref_decayed2(const Value *v, const double *x)
{
    return ref_decayed(v, x[0], x[1]);
}
static double ref_kl_term(const Value *v, const double *x)
{
    return (void)v, exp(x[2] - x[3]) * ((x[2] - x[3]) - (x[0] - x[1]));
}
static double ref_kl_grad(const Value *v, const double *x)
{
    return (exp(x[0] - x[1]) - exp(x[2] - x[3])) * F(SCALE) * x[4];
}
static double ref_square_ema(const Value *v, const double *x)
{
    return x[0] + F(MOMENTUM) * (x[1] * x[1] - x[0]);
}
static double ref_adam_step(const Value *v, const double *x)
{
    double p = F(DECAY) != 0 ? x[0] * (1 - x[5] * F(DECAY)) : x[0];
    p -= x[3] * x[1] / (sqrt(x[2]) / x[4] + F(EPS));
    return F(FLOOR) != 0 && p < F(FLOOR) ? F(FLOOR) : p;
}
static double ref_rms_grad(const Value *v, const double *x)
{
    return x[0] / (sqrt(x[1]) + F(EPS));
}
static double ref_adadelta(const Value *v, const double *x)
{
    return x[0] * sqrt((x[2] + F(EPS)) / (x[1] + F(EPS)));
}
static double ref_div(const Value *v, const double *x)
{
    return (void)v, x[0] / x[1];
}
static double ref_sqrt(const Value *v, const double *x)
{
    return (void)v, sqrt(x[0]);
}
static double ref_clip_factor(const Value *v, const double *x)
{
    double factor = F(LIMIT) / (sqrt(x[0]) + 1e-6);
    return factor > 1 ? 1 : factor;
}
static double ref_clip_value(const Value *v, const double *x)
{
    return x[0] > F(LIMIT) ? F(LIMIT) : x[0] < -F(LIMIT) ? -F(LIMIT) : x[0];
}
static double ref_lerp(const Value *v, const double *x)
{
    return x[0] + x[2] * (F(SCALE) * x[1] - x[0]);
}
static double ref_ema_rate(const Value *v, const double *x)
{
    double warm = ir_int(v, A_WARM) ? 9 / (10 + x[0]) : 0;
    return fmax(1 - F(DECAY), warm);
}
#undef I

/* ---- Reductions -------------------------------------------------------------------------------------------------- */

static double finish_scale(const Ref *r, RefSums s, int64_t k)
{
    (void)k;
    return ir_float(r->v, A_SCALE) * s.sum;
}
static double finish_most(const Ref *r, RefSums s, int64_t k)
{
    (void)k;
    return ir_float(r->v, A_SCALE) * s.most;
}
static double finish_least(const Ref *r, RefSums s, int64_t k)
{
    (void)k;
    return ir_float(r->v, A_SCALE) * s.least;
}
static double finish_sum(const Ref *r, RefSums s, int64_t k)
{
    (void)r, (void)k;
    return s.sum;
}
static double finish_mean(const Ref *r, RefSums s, int64_t k)
{
    (void)r, (void)k;
    return s.sum / (double)s.n;
}
static double finish_bn_mean(const Ref *r, RefSums s, int64_t k)
{
    return r->in[1][k] + s.sum / (double)s.n;
}
static double finish_bn_var(const Ref *r, RefSums s, int64_t k)
{
    (void)r, (void)k;
    double mean = s.sum / (double)s.n;
    return s.square / (double)s.n - mean * mean;
}

/* The op's own `keep`. */
#define KEEPING(name, term, finish)                                                                                    \
    static void name(Ref *r)                                                                                           \
    {                                                                                                                  \
        ref_reduce(r, ir_text(r->v, A_KEEP), term, finish);                                                            \
    }
/* clang-format off */
KEEPING(ref_reduce_sum, ref_copy, finish_scale)
KEEPING(ref_reduce_dot, ref_mul, finish_scale)
KEEPING(ref_reduce_abs, ref_abs, finish_scale)
KEEPING(ref_reduce_max, ref_copy, finish_most)
KEEPING(ref_reduce_min, ref_copy, finish_least)
KEEPING(ref_reduce_maxabs, ref_abs, finish_most)
KEEPING(ref_lsq_step, ref_lsq_grad_step, finish_scale)
KEEPING(ref_lsq_offset, ref_lsq_grad_offset, finish_scale)
KEEPING(ref_penalties, ref_penalty, finish_scale)
KEEPING(ref_penalties_step, ref_penalty_grad_step, finish_scale)
KEEPING(ref_count_clipped, ref_clipped, finish_scale)
KEEPING(ref_squared_error, ref_square, finish_scale)
KEEPING(ref_count_nonfinite, ref_nonfinite, finish_scale)
KEEPING(ref_reduce_charbonnier, ref_charbonnier_term, finish_scale)
KEEPING(ref_reduce_asymmetric, ref_asymmetric_term, finish_scale)
/* clang-format on */
#undef KEEPING

static void ref_gap(Ref *r)
{
    ref_reduce(r, "nc", ref_copy, finish_mean);
}
static void ref_bn_mean(Ref *r)
{
    ref_reduce(r, "c", ref_near_mean, finish_bn_mean);
}
static void ref_bn_var(Ref *r)
{
    ref_reduce(r, "c", ref_near_mean, finish_bn_var);
}
static void ref_bn_gamma(Ref *r)
{
    ref_reduce(r, "c", ref_bn_dgamma, finish_sum);
}

#include "tests/unit/matrix_refs_window.inc"

/* ---- Rows of logits
 * ----------------------------------------------------------------------------------------------------- */

static double ref_lse(const Ref *r, int64_t n)
{
    double sum = 0;
    for (int64_t c = 0; c < r->s[0].dim[1]; c++)
        sum += exp(r->in[0][n * r->s[0].dim[1] + c]);
    return log(sum);
}
static double ref_picked(const Ref *r, int64_t n)
{
    return r->in[0][n * r->s[0].dim[1] + (int64_t)r->in[1][n]];
}

static void ref_logsumexp(Ref *r)
{
    for (int64_t n = 0; n < r->s[0].dim[0]; n++)
        r->out[n] = ref_lse(r, n);
}
static void ref_pick(Ref *r)
{
    for (int64_t n = 0; n < r->s[0].dim[0]; n++)
        r->out[n] = ref_picked(r, n);
}
static void ref_total(Ref *r)
{
    r->out[0] = 0;
    for (int32_t i = 0; i < r->v->n_in; i++)
        r->out[0] += r->in[i][0];
}
static double ref_lse_of(const double *x, int64_t n, double t)
{
    double sum = 0;
    for (int64_t c = 0; c < n; c++)
        sum += exp(x[c] / t);
    return log(sum);
}
static void ref_distill(Ref *r)
{
    int64_t n = r->s[0].dim[0], classes = r->s[0].dim[1];
    double  t = ir_float(r->v, A_TEMPERATURE);
    r->out[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const double *s = r->in[0] + i * classes, *q = r->in[1] + i * classes;
        double        ls = ref_lse_of(s, classes, t), lq = ref_lse_of(q, classes, t);
        for (int64_t c = 0; c < classes; c++)
            r->out[0] += t * t / (double)n * exp(q[c] / t - lq) * ((q[c] / t - lq) - (s[c] / t - ls));
    }
}
#include "tests/unit/matrix_refs_loss.inc"

/* ---- The rest
 * ----------------------------------------------------------------------------------------------------------- */

/* [G] and [G count]: each number of the first belongs to `count` neighbours of the second. */
static void ref_repeat(Ref *r)
{
    for (int64_t i = 0; i < shape_elems(r->out_s); i++)
        r->out[i] = r->in[0][i / ref_attr(r, A_COUNT)];
}
static void ref_repeat_grad(Ref *r)
{
    ref_zero(r);
    for (int64_t i = 0; i < shape_elems(r->s[0]); i++)
        r->out[i / ref_attr(r, A_COUNT)] += r->in[0][i];
}
static void ref_group_max(Ref *r)
{
    for (int64_t i = 0; i < shape_elems(r->s[0]); i++) {
        double *most = &r->out[i / ref_attr(r, A_COUNT)];
        *most = i % ref_attr(r, A_COUNT) == 0 ? r->in[0][i] : fmax(*most, r->in[0][i]);
    }
}

static void ref_same(Ref *r)
{
    memcpy(r->out, r->in[r->v->n_in == 2 ? 1 : 0], sizeof(double) * (size_t)shape_elems(r->out_s));
}

/* data: what the operands hold, a letter each. x: numbers around 0 (special ones, too, in a second run), a: the same,
 * but four times as far apart, w: some of them special in every run, p: 1/2 to 3/2,
 * s: step sizes, z: zero points, l: labels, u: random seeds, t: taps, b: codes of a byte. */
/* clang-format off */
static const struct {
    RefPoint    point;
    void      (*whole)(Ref *r);
    const char *data;
    double      tol; /* relative to the larger of 1 and the result */
} ref_table[OP_COUNT] = {
    [OP_INPUT] = { NULL, ref_same, "x", 0 },
    [OP_PARAM] = { NULL, ref_same, "x", 0 },
    [OP_STATE] = { NULL, ref_same, "x", 0 },
    [OP_OUTPUT] = { NULL, ref_same, "x", 0 },
    [OP_ASSIGN] = { NULL, ref_same, "xx", 0 },
    [OP_CONST] = { ref_const, NULL, "", 0 },
    [OP_CONV2D] = { NULL, ref_conv, "xxx", 1e-6 },
    [OP_LINEAR] = { NULL, ref_conv, "xxx", 1e-6 },
    [OP_BATCHNORM] = { ref_batchnorm, NULL, "xxpxx", 1e-6 },
    [OP_RELU] = { ref_relu, NULL, "x", 0 },
    [OP_RELU6] = { ref_relu6, NULL, "a", 0 },
    [OP_LEAKY_RELU] = { ref_leaky_relu, NULL, "a", 1e-7 },
    [OP_SIGMOID] = { ref_sigmoid, NULL, "a", 3e-7 },
    [OP_SILU] = { ref_silu, NULL, "a", 3e-7 },
    [OP_HARD_SIGMOID] = { ref_hard_sigmoid, NULL, "a", 2e-7 },
    [OP_HARD_SWISH] = { ref_hard_swish, NULL, "a", 2e-7 },
    [OP_ADD] = { ref_add, NULL, "xx", 1e-7 },
    [OP_SUB] = { ref_sub, NULL, "xx", 1e-7 },
    [OP_MUL] = { ref_mul, NULL, "xx", 1e-7 },
    [OP_SCALE] = { ref_scale, NULL, "x", 1e-7 },
    [OP_MAXPOOL] = { NULL, ref_maxpool, "x", 0 },
    [OP_AVGPOOL] = { NULL, ref_avgpool, "x", 1e-6 },
    [OP_GLOBAL_AVGPOOL] = { NULL, ref_gap, "x", 1e-6 },
    [OP_RESHAPE] = { NULL, ref_same, "x", 0 },
    [OP_DROPOUT] = { ref_dropout, NULL, "xuu", 1e-6 },
    [OP_SHORTCUT_A] = { NULL, ref_shortcut, "x", 0 },
    [OP_CONV_TRANSPOSE2D] = { NULL, ref_conv_transpose, "xx", 1e-6 },
    [OP_CONCAT] = { NULL, ref_concat, "xx", 0 },
    [OP_SLICE] = { NULL, ref_slice, "x", 0 },
    [OP_PAD_IMAGE] = { NULL, ref_pad_image, "x", 0 },
    [OP_UPSAMPLE] = { NULL, ref_upsample, "x", 1e-6 },
    [OP_SAMPLE_MASK] = { ref_sample_mask, NULL, "uu", 1e-6 },
    [OP_CROSS_ENTROPY] = { NULL, ref_cross_entropy, "xllx", 1e-6 },
    [OP_DISTILL] = { NULL, ref_distill, "xx", 1e-6 },
    [OP_KL_TERM] = { ref_kl_term, NULL, "xxxx", 1e-6 },
    [OP_KL_GRAD] = { ref_kl_grad, NULL, "xxxxx", 1e-6 },
    [OP_MSE] = { NULL, ref_mse, "xx", 1e-6 },
    [OP_L1] = { NULL, ref_l1, "xx", 1e-6 },
    [OP_CHARBONNIER] = { NULL, ref_charbonnier, "xx", 1e-6 },
    [OP_ASYMMETRIC] = { NULL, ref_asymmetric, "xx", 1e-6 },
    [OP_TV] = { NULL, ref_tv, "x", 1e-6 },
    [OP_LOGSUMEXP] = { NULL, ref_logsumexp, "x", 1e-6 },
    [OP_PICK] = { NULL, ref_pick, "xl", 0 },
    [OP_CORRECT] = { NULL, ref_correct, "xl", 0 },
    [OP_XENT_GRAD] = { NULL, ref_xent_grads, "xxlxlx", 1e-6 },
    [OP_L1_GRAD] = { ref_l1_grad, NULL, "xxx", 1e-6 },
    [OP_REDUCE_CHARBONNIER] = { NULL, ref_reduce_charbonnier, "xx", 1e-6 },
    [OP_CHARBONNIER_GRAD] = { ref_charbonnier_grad, NULL, "xxx", 1e-6 },
    [OP_REDUCE_ASYMMETRIC] = { NULL, ref_reduce_asymmetric, "xx", 1e-6 },
    [OP_ASYMMETRIC_GRAD] = { ref_asymmetric_grad, NULL, "xxx", 1e-6 },
    [OP_TV_EACH] = { NULL, ref_tv_each, "x", 1e-6 },
    [OP_TV_GRAD] = { NULL, ref_tv_grad, "x", 1e-6 },
    [OP_REDUCE_SUM] = { NULL, ref_reduce_sum, "x", 1e-6 },
    [OP_REDUCE_DOT] = { NULL, ref_reduce_dot, "xx", 1e-6 },
    [OP_REDUCE_ABS] = { NULL, ref_reduce_abs, "x", 1e-6 },
    [OP_REDUCE_MAXABS] = { NULL, ref_reduce_maxabs, "x", 0 },
    [OP_BN_MEAN] = { NULL, ref_bn_mean, "xx", 1e-6 },
    [OP_BN_VAR] = { NULL, ref_bn_var, "xx", 1e-6 },
    [OP_BN_SCALE] = { ref_bn_scale, NULL, "xp", 1e-6 },
    [OP_BN_FOLD] = { ref_bn_fold, NULL, "xp", 1e-6 },
    [OP_BN_UNFOLD] = { ref_bn_unfold, NULL, "xp", 1e-6 },
    [OP_BN_DEVIATION] = { ref_bn_deviation, NULL, "p", 1e-6 },
    [OP_BN_SHIFT] = { ref_bn_shift, NULL, "xxx", 1e-6 },
    [OP_AFFINE] = { ref_affine, NULL, "xxx", 1e-6 },
    [OP_BN_DGAMMA] = { NULL, ref_bn_gamma, "xxx", 1e-6 },
    [OP_BN_GRAD_X] = { ref_bn_grad_x, NULL, "pxx", 1e-6 },
    [OP_BN_GRAD_1] = { ref_bn_grad_1, NULL, "xxxx", 1e-6 },
    [OP_AFFINE2] = { ref_affine2, NULL, "xxxxx", 1e-6 },
    [OP_RSQRT_MUL] = { ref_rsqrt_mul, NULL, "xp", 1e-6 },
    [OP_EMA] = { ref_ema, NULL, "xx", 1e-6 },
    [OP_REDUCE_MAX] = { NULL, ref_reduce_max, "x", 1e-7 },
    [OP_REDUCE_MIN] = { NULL, ref_reduce_min, "x", 1e-7 },
    [OP_QDQ] = { ref_qdq, NULL, "xsz", 1e-7 },
    [OP_QDQ_GRAD_X] = { ref_qdq_grad_x, NULL, "xsxz", 0 },
    [OP_LSQ_GRAD_STEP] = { NULL, ref_lsq_step, "xsxz", 1e-5 },
    [OP_LSQ_GRAD_OFFSET] = { NULL, ref_lsq_offset, "xsxz", 1e-6 },
    [OP_ZERO_POINT] = { ref_zero_point, NULL, "xs", 0 },
    [OP_QUANT_NOISE] = { ref_quant_noise, NULL, "xxuu", 0 },
    [OP_GRAD_SCALE] = { ref_copy, NULL, "x", 0 },
    [OP_REPEAT] = { NULL, ref_repeat, "x", 0 },
    [OP_REPEAT_GRAD] = { NULL, ref_repeat_grad, "x", 1e-6 },
    [OP_GROUP_MAX] = { NULL, ref_group_max, "x", 0 },
    [OP_MAX_STEP] = { ref_max_step, NULL, "x", 1e-7 },
    [OP_RANGE_STEP] = { ref_range_step, NULL, "xx", 0 },
    [OP_RANGE_ZERO] = { ref_range_zero, NULL, "xx", 0 },
    [OP_PENALTY] = { NULL, ref_penalties, "xs", 1e-5 },
    [OP_PENALTY_GRAD_X] = { ref_penalty_grad_x, NULL, "xsx", 1e-5 },
    [OP_PENALTY_GRAD_STEP] = { NULL, ref_penalties_step, "xsx", 1e-5 },
    [OP_COUNT_CLIPPED] = { NULL, ref_count_clipped, "xsz", 1e-7 },
    [OP_SQUARED_ERROR] = { NULL, ref_squared_error, "xx", 1e-6 },
    [OP_COUNT_NONFINITE] = { NULL, ref_count_nonfinite, "w", 1e-7 },
    [OP_QUANTIZE] = { ref_quantize, NULL, "xsz", 0 },
    [OP_TAP_OUTPUTS] = { NULL, ref_tap_outputs, "b", 0 },
    [OP_INTERLEAVE] = { NULL, ref_interleave, "x", 0 },
    [OP_CONV2D_INT] = { NULL, ref_conv_int, "bbs", 0 },
    [OP_LINEAR_INT] = { NULL, ref_conv_int, "bbs", 0 },
    [OP_LSQ_INIT] = { ref_lsq_init, NULL, "pp", 1e-6 },
    [OP_CONV2D_GRAD_X] = { NULL, ref_conv_grad_x, "xx", 1e-6 },
    [OP_CONV2D_GRAD_W] = { NULL, ref_conv_grad_w, "xx", 1e-6 },
    [OP_DEPTHWISE_WEIGHT] = { NULL, ref_same_order, "x", 0 },
    [OP_DEPTHWISE] = { NULL, ref_depthwise, "xx", 1e-6 },
    [OP_DEPTHWISE_GRAD_X] = { NULL, ref_depthwise_grad_x, "xx", 1e-6 },
    [OP_DEPTHWISE_GRAD_W] = { NULL, ref_depthwise_grad_w, "xx", 1e-6 },
    [OP_LINEAR_GRAD_X] = { NULL, ref_conv_grad_x, "xx", 1e-6 },
    [OP_LINEAR_GRAD_W] = { NULL, ref_conv_grad_w, "xx", 1e-6 },
    [OP_RELU_GRAD] = { ref_relu_grad, NULL, "xx", 0 },
    [OP_RELU6_GRAD] = { ref_relu6_grad, NULL, "ax", 0 },
    [OP_LEAKY_RELU_GRAD] = { ref_leaky_relu_grad, NULL, "ax", 1e-7 },
    [OP_SIGMOID_GRAD] = { ref_sigmoid_grad, NULL, "px", 3e-7 },
    [OP_SILU_GRAD] = { ref_silu_grad, NULL, "ax", 2e-6 },
    [OP_HARD_SIGMOID_GRAD] = { ref_hard_sigmoid_grad, NULL, "xx", 1e-7 },
    [OP_HARD_SWISH_GRAD] = { ref_hard_swish_grad, NULL, "ax", 1e-6 },
    [OP_MAXPOOL_TAP] = { NULL, ref_maxpool_tap, "x", 0 },
    [OP_MAXPOOL_GRAD] = { NULL, ref_maxpool_grad, "tx", 1e-6 },
    [OP_AVGPOOL_GRAD] = { NULL, ref_avgpool_grad, "x", 1e-6 },
    [OP_BROADCAST] = { ref_scale, NULL, "x", 1e-7 },
    [OP_SHORTCUT_A_GRAD] = { NULL, ref_shortcut_grad, "x", 0 },
    [OP_UPSAMPLE_GRAD] = { NULL, ref_upsample_grad, "x", 1e-6 },
    [OP_SGD_VELOCITY] = { ref_sgd_velocity, NULL, "xxx", 1e-6 },
    [OP_SGD_STEP] = { ref_sgd_step, NULL, "xxxx", 1e-6 },
    [OP_DECAYED] = { ref_decayed2, NULL, "xx", 1e-6 },
    [OP_SQUARE_EMA] = { ref_square_ema, NULL, "px", 1e-6 },
    [OP_ADAM_STEP] = { ref_adam_step, NULL, "xxppxx", 1e-6 },
    [OP_RMS_GRAD] = { ref_rms_grad, NULL, "xp", 1e-6 },
    [OP_ADADELTA] = { ref_adadelta, NULL, "xpp", 1e-6 },
    [OP_DIV] = { ref_div, NULL, "xp", 1e-6 },
    [OP_SQRT] = { ref_sqrt, NULL, "p", 1e-6 },
    [OP_TOTAL] = { NULL, ref_total, "xxxxxxxxxxxxxxxx", 1e-6 },
    [OP_CLIP_FACTOR] = { ref_clip_factor, NULL, "p", 1e-6 },
    [OP_CLIP_VALUE] = { ref_clip_value, NULL, "x", 1e-7 },
    [OP_LERP] = { ref_lerp, NULL, "xxp", 1e-6 },
    [OP_EMA_RATE] = { ref_ema_rate, NULL, "p", 1e-6 },
    [OP_RELAYOUT] = { NULL, ref_same, "x", 0 },
};
/* clang-format on */
#undef F
#undef POINT

#endif
