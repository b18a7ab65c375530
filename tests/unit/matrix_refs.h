/* matrix_refs.h: what every op computes, a second time: plain loops over doubles in logical order, written from the
 * ops' descriptions and the equations they cite, with nothing of the kernels in them. One function a row of ops.def.
 *
 * A point rule gets the operands of an element-wise op at one element (broadcast already). A sum rule gives what a
 * reduction adds up there, a finish rule what becomes of the sums. Everything else walks its tensors itself.
 *
 * Quantizers are in matrix_refs_quant.inc. */
#ifndef DETENT_TESTS_MATRIX_REFS_H
#define DETENT_TESTS_MATRIX_REFS_H

#include "ir/ir.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REF_MAX_INPUTS = 5 };

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

/* ---- Convolution, linear: y[n,k,oh,ow] = bias[k] + sum x[n,c,..] w[k,c,r,s], and what it is linear in
 * ----------------- */

typedef struct RefConv {
    int64_t n, c, h, w, k, cg, r, oh, ow, stride, groups;
    int64_t pad[4];
} RefConv;

/* Calls f for each product of the convolution: indices of x, w and y. */
#define REF_EACH_PRODUCT(d, X, W, Y, body)                                                                             \
    for (int64_t n_ = 0; n_ < (d).n; n_++)                                                                             \
        for (int64_t k_ = 0; k_ < (d).k; k_++)                                                                         \
            for (int64_t p_ = 0; p_ < (d).oh * (d).ow; p_++)                                                           \
                for (int64_t q_ = 0; q_ < (d).cg * (d).r * (d).r; q_++) {                                              \
                    int64_t c_ = q_ / ((d).r * (d).r) + k_ / ((d).k / (d).groups) * (d).cg;                            \
                    int64_t y_ = p_ / (d).ow * (d).stride + q_ / (d).r % (d).r - (d).pad[0];                           \
                    int64_t x_ = p_ % (d).ow * (d).stride + q_ % (d).r - (d).pad[1];                                   \
                    if (y_ < 0 || y_ >= (d).h || x_ < 0 || x_ >= (d).w)                                                \
                        continue;                                                                                      \
                    int64_t X = ((n_ * (d).c + c_) * (d).h + y_) * (d).w + x_;                                         \
                    int64_t W = k_ * (d).cg * (d).r * (d).r + q_;                                                      \
                    int64_t Y = (n_ * (d).k + k_) * (d).oh * (d).ow + p_;                                              \
                    body;                                                                                              \
                }

static RefConv ref_conv_desc(const Ref *r, Shape x, Shape w, Shape y)
{
    RefConv d = { .n = x.dim[0],
                  .c = x.dim[1],
                  .h = 1,
                  .w = 1,
                  .k = w.dim[0],
                  .cg = w.dim[1],
                  .r = 1,
                  .oh = 1,
                  .ow = 1,
                  .stride = 1,
                  .groups = 1 };
    if (x.rank == 4) {
        d.h = x.dim[2], d.w = x.dim[3], d.r = w.dim[2], d.oh = y.dim[2], d.ow = y.dim[3];
        d.stride = ref_attr(r, A_STRIDE);
        d.groups = ref_attr(r, A_GROUPS);
        memcpy(d.pad, ir_pads(r->v, A_PAD), sizeof(d.pad));
    }
    return d;
}

static void ref_zero(Ref *r)
{
    memset(r->out, 0, sizeof(double) * (size_t)shape_elems(r->out_s));
}

static void ref_conv(Ref *r)
{
    RefConv d = ref_conv_desc(r, r->s[0], r->s[1], r->out_s);
    for (int64_t i = 0; i < shape_elems(r->out_s); i++)
        r->out[i] = r->v->n_in == 3 ? r->in[2][i / (d.oh * d.ow) % d.k] : 0;
    REF_EACH_PRODUCT(d, x, w, y, r->out[y] += r->in[0][x] * r->in[1][w])
}
/* Sums of codes are whole numbers far below 2^53; the product with the scale is one of single precision. */
static void ref_conv_int(Ref *r)
{
    RefConv d = ref_conv_desc(r, r->s[0], r->s[1], r->out_s);
    ref_zero(r);
    REF_EACH_PRODUCT(d, x, w, y, r->out[y] += r->in[0][x] * r->in[1][w])
    for (int64_t i = 0; i < shape_elems(r->out_s); i++) {
        int64_t k = r->s[2].rank == 1 ? i / (d.oh * d.ow) % d.k : 0;
        r->out[i] = (double)((float)r->out[i] * (float)r->in[2][k]);
    }
}
static void ref_conv_grad_x(Ref *r)
{
    RefConv d = ref_conv_desc(r, r->out_s, r->s[1], r->s[0]);
    ref_zero(r);
    REF_EACH_PRODUCT(d, x, w, y, r->out[x] += r->in[0][y] * r->in[1][w])
}
static void ref_conv_grad_w(Ref *r)
{
    RefConv d = ref_conv_desc(r, r->s[1], r->out_s, r->s[0]);
    ref_zero(r);
    REF_EACH_PRODUCT(d, x, w, y, r->out[w] += r->in[0][y] * r->in[1][x])
}

/* ---- Windows
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct RefPool {
    int64_t planes, h, w, oh, ow, kernel, stride, top, left;
} RefPool;

static RefPool ref_pool_desc(const Ref *r, Shape image, Shape pooled)
{
    const int64_t *pad = ir_pads(r->v, A_PAD);
    return (RefPool){ image.dim[0] * image.dim[1], image.dim[2],          image.dim[3], pooled.dim[2], pooled.dim[3],
                      ref_attr(r, A_KERNEL),       ref_attr(r, A_STRIDE), pad[0],       pad[1] };
}

/* The image element under tap t of window p of a plane; -1: padding. */
static int64_t ref_tap(const RefPool *d, int64_t plane, int64_t p, int64_t t)
{
    int64_t y = p / d->ow * d->stride + t / d->kernel - d->top, x = p % d->ow * d->stride + t % d->kernel - d->left;
    return y < 0 || y >= d->h || x < 0 || x >= d->w ? -1 : (plane * d->h + y) * d->w + x;
}

static int64_t ref_first_largest(const RefPool *d, const double *x, int64_t plane, int64_t p)
{
    int64_t best = -1;
    for (int64_t t = 0; t < d->kernel * d->kernel; t++) {
        int64_t i = ref_tap(d, plane, p, t);
        if (i >= 0 && (best < 0 || x[i] > x[ref_tap(d, plane, p, best)]))
            best = t;
    }
    return best;
}

#define REF_EACH_WINDOW(d, plane, p)                                                                                   \
    for (int64_t plane = 0; plane < (d).planes; plane++)                                                               \
        for (int64_t p = 0; p < (d).oh * (d).ow; p++)

static void ref_maxpool(Ref *r)
{
    RefPool d = ref_pool_desc(r, r->s[0], r->out_s);
    REF_EACH_WINDOW(d, plane, p)
    r->out[plane * d.oh * d.ow + p] = r->in[0][ref_tap(&d, plane, p, ref_first_largest(&d, r->in[0], plane, p))];
}
static void ref_maxpool_tap(Ref *r)
{
    RefPool d = ref_pool_desc(r, r->s[0], r->out_s);
    REF_EACH_WINDOW(d, plane, p)
    r->out[plane * d.oh * d.ow + p] = (double)ref_first_largest(&d, r->in[0], plane, p);
}
static void ref_maxpool_grad(Ref *r)
{
    RefPool d = ref_pool_desc(r, r->out_s, r->s[1]);
    ref_zero(r);
    REF_EACH_WINDOW(d, plane, p)
    {
        int64_t i = ref_tap(&d, plane, p, (int64_t)r->in[0][plane * d.oh * d.ow + p]);
        if (i >= 0)
            r->out[i] += r->in[1][plane * d.oh * d.ow + p];
    }
}

static int64_t ref_taps_inside(const RefPool *d, int64_t p)
{
    int64_t n = 0;
    for (int64_t t = 0; t < d->kernel * d->kernel; t++)
        n += ref_tap(d, 0, p, t) >= 0;
    return n;
}

static void ref_avgpool_both(Ref *r, Shape image, Shape pooled, bool backward)
{
    RefPool d = ref_pool_desc(r, image, pooled);
    ref_zero(r);
    REF_EACH_WINDOW(d, plane, p)
    for (int64_t t = 0; t < d.kernel * d.kernel; t++) {
        int64_t i = ref_tap(&d, plane, p, t), o = plane * d.oh * d.ow + p;
        if (i >= 0)
            r->out[backward ? i : o] += r->in[0][backward ? o : i] / (double)ref_taps_inside(&d, p);
    }
}
static void ref_avgpool(Ref *r)
{
    ref_avgpool_both(r, r->s[0], r->out_s, false);
}
static void ref_avgpool_grad(Ref *r)
{
    ref_avgpool_both(r, r->out_s, r->s[0], true);
}

/* Image [n,c,h,w] <-> [n,channels,ceil(h / stride),ceil(w / stride)] with the image's channels in the middle. */
static void ref_shortcut_both(Ref *r, Shape image, Shape small, bool backward)
{
    int64_t stride = ref_attr(r, A_STRIDE), before = (small.dim[1] - image.dim[1]) / 2;
    ref_zero(r);
    for (int64_t i = 0; i < shape_elems(image); i++) {
        int64_t at[DT_MAX_RANK];
        ref_coords(image, i, at);
        if (at[2] % stride != 0 || at[3] % stride != 0)
            continue;
        int64_t o =
            ((at[0] * small.dim[1] + at[1] + before) * small.dim[2] + at[2] / stride) * small.dim[3] + at[3] / stride;
        r->out[backward ? i : o] = r->in[0][backward ? o : i];
    }
}
static void ref_shortcut(Ref *r)
{
    ref_shortcut_both(r, r->s[0], r->out_s, false);
}
static void ref_shortcut_grad(Ref *r)
{
    ref_shortcut_both(r, r->out_s, r->s[0], true);
}

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
static void ref_correct(Ref *r)
{
    for (int64_t n = 0; n < r->s[0].dim[0]; n++) {
        r->out[n] = 1;
        for (int64_t c = 0; c < r->s[0].dim[1]; c++)
            if (r->in[0][n * r->s[0].dim[1] + c] > ref_picked(r, n))
                r->out[n] = 0;
    }
}
static void ref_cross_entropy(Ref *r)
{
    r->out[0] = 0;
    for (int64_t n = 0; n < r->s[0].dim[0]; n++)
        r->out[0] += (ref_lse(r, n) - ref_picked(r, n)) / (double)r->s[0].dim[0];
}
static void ref_mse(Ref *r)
{
    int64_t n = shape_elems(r->s[0]);
    r->out[0] = 0;
    for (int64_t i = 0; i < n; i++)
        r->out[0] += (r->in[0][i] - r->in[1][i]) * (r->in[0][i] - r->in[1][i]) / (double)n;
}
static void ref_xent_grads(Ref *r)
{
    int64_t classes = r->s[0].dim[1];
    for (int64_t i = 0; i < shape_elems(r->s[0]); i++) {
        double hit = (int64_t)r->in[2][i / classes] == i % classes;
        r->out[i] = (exp(r->in[0][i] - r->in[1][i / classes]) - hit) * ir_float(r->v, A_SCALE) * r->in[3][0];
    }
}

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

/* data: what the operands hold, a letter each. x: numbers around 0 (special ones, too, in a second run), w: some of
 * them special in every run, p: 1/2 to 3/2,
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
    [OP_CROSS_ENTROPY] = { NULL, ref_cross_entropy, "xl", 1e-6 },
    [OP_MSE] = { NULL, ref_mse, "xx", 1e-6 },
    [OP_LOGSUMEXP] = { NULL, ref_logsumexp, "x", 1e-6 },
    [OP_PICK] = { NULL, ref_pick, "xl", 0 },
    [OP_CORRECT] = { NULL, ref_correct, "xl", 0 },
    [OP_XENT_GRAD] = { NULL, ref_xent_grads, "xxlx", 1e-6 },
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
    [OP_QUANTIZE] = { ref_quantize, NULL, "xs", 0 },
    [OP_CONV2D_INT] = { NULL, ref_conv_int, "bbs", 0 },
    [OP_LINEAR_INT] = { NULL, ref_conv_int, "bbs", 0 },
    [OP_LSQ_INIT] = { ref_lsq_init, NULL, "pp", 1e-6 },
    [OP_CONV2D_GRAD_X] = { NULL, ref_conv_grad_x, "xx", 1e-6 },
    [OP_CONV2D_GRAD_W] = { NULL, ref_conv_grad_w, "xx", 1e-6 },
    [OP_LINEAR_GRAD_X] = { NULL, ref_conv_grad_x, "xx", 1e-6 },
    [OP_LINEAR_GRAD_W] = { NULL, ref_conv_grad_w, "xx", 1e-6 },
    [OP_RELU_GRAD] = { ref_relu_grad, NULL, "xx", 0 },
    [OP_MAXPOOL_TAP] = { NULL, ref_maxpool_tap, "x", 0 },
    [OP_MAXPOOL_GRAD] = { NULL, ref_maxpool_grad, "tx", 1e-6 },
    [OP_AVGPOOL_GRAD] = { NULL, ref_avgpool_grad, "x", 1e-6 },
    [OP_BROADCAST] = { ref_scale, NULL, "x", 1e-7 },
    [OP_SHORTCUT_A_GRAD] = { NULL, ref_shortcut_grad, "x", 0 },
    [OP_SGD_VELOCITY] = { ref_sgd_velocity, NULL, "xxx", 1e-6 },
    [OP_SGD_STEP] = { ref_sgd_step, NULL, "xxxx", 1e-6 },
    [OP_RELAYOUT] = { NULL, ref_same, "x", 0 },
};
/* clang-format on */
#undef F
#undef POINT

#endif
