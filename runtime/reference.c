/* reference.c: convolutions, matrix products and their gradients in plain loops: the oracle for libraries, and what a
 * build without one runs on.
 *
 * Each element of a result is gathered in one accumulator in double precision and rounded once, so the only error is
 * that of the final rounding (products of floats are exact in double). Nothing is skipped: a NaN or an infinity reaches
 * every element it should. A matrix product is a convolution of 1x1 images.
 *
 * Tested by tests/unit/test_exec.c (closed forms, and the identity <y, conv x> = <conv' y, x>). */
#include <math.h>
#include <stdlib.h>

#include "runtime/narrow/narrow.h"
#include "runtime/program.h"

/* A sum of products together with the sum of their sizes. */
typedef struct Acc {
    double sum, abs;
} Acc;

static inline void acc_add(Acc *a, double x, double y)
{
    a->sum += x * y;
    a->abs += fabs(x * y);
}

static void acc_store(Acc a, float *out, float *abs_sums, int64_t i)
{
    out[i] = (float)a.sum;
    if (abs_sums)
        abs_sums[i] = (float)a.abs;
}

/* Element distances of the weights. */
typedef struct WeightAt {
    int64_t k, c, r, s;
} WeightAt;

static WeightAt weight_strides(const CallDesc *d)
{
    const int64_t cg = d->c / d->groups;
    if (d->krsc)
        return (WeightAt){ .k = d->r * d->s * cg, .r = d->s * cg, .s = cg, .c = 1 };
    return (WeightAt){ .k = cg * d->r * d->s, .c = d->r * d->s, .r = d->s, .s = 1 };
}

/* What the window at an output pixel covers: the pixel of the image under tap (r, s); -1: padding. */
static inline int64_t pixel_under(const CallDesc *d, int64_t n, int64_t oh, int64_t ow, int64_t r, int64_t s)
{
    int64_t h = oh * d->stride + r - d->pad[0], v = ow * d->stride + s - d->pad[1];
    return h < 0 || h >= d->h || v < 0 || v >= d->w ? -1 : (n * d->h + h) * d->w + v;
}

/* y[n,k,oh,ow] = bias[k] + sum over c, r, s of x[n, c, oh stride + r - top, ow stride + s - left] w[k,c,r,s] */
static void conv_forward(const CallDesc *d, const float *x, const float *w, const float *bias, float *y,
                         float *abs_sums)
{
    const int64_t  cg = d->c / d->groups, kg = d->k / d->groups;
    const WeightAt at = weight_strides(d);
    for (int64_t i = 0; i < d->n * d->oh * d->ow * d->k; i++) {
        int64_t k = i % d->k, ow = i / d->k % d->ow, oh = i / d->k / d->ow % d->oh, n = i / d->k / d->ow / d->oh;
        Acc     a = { 0 };
        for (int64_t r = 0; r < d->r; r++)
            for (int64_t s = 0; s < d->s; s++) {
                int64_t pixel = pixel_under(d, n, oh, ow, r, s);
                if (pixel < 0)
                    continue;
                const float *xs = x + pixel * d->c + k / kg * cg;
                const float *ws = w + k * at.k + r * at.r + s * at.s;
                for (int64_t c = 0; c < cg; c++)
                    acc_add(&a, xs[c], ws[c * at.c]);
            }
        if (bias)
            acc_add(&a, bias[k], 1);
        acc_store(a, y, abs_sums, i);
    }
}

/* dx[n,c,h,v] = sum over k, r, s of dy[n, k, (h + top - r) / stride, (v + left - s) / stride] w[k,c,r,s], where whole
 */
static void conv_grad_x(const CallDesc *d, const float *dy, const float *w, float *dx, float *abs_sums)
{
    const int64_t  cg = d->c / d->groups, kg = d->k / d->groups;
    const WeightAt at = weight_strides(d);
    for (int64_t i = 0; i < d->n * d->h * d->w * d->c; i++) {
        int64_t c = i % d->c, v = i / d->c % d->w, h = i / d->c / d->w % d->h, n = i / d->c / d->w / d->h;
        Acc     a = { 0 };
        for (int64_t r = 0; r < d->r; r++)
            for (int64_t s = 0; s < d->s; s++) {
                int64_t top = h + d->pad[0] - r, left = v + d->pad[1] - s, oh = top / d->stride, ow = left / d->stride;
                if (top < 0 || left < 0 || top % d->stride || left % d->stride || oh >= d->oh || ow >= d->ow)
                    continue;
                int64_t      first = c / cg * kg; /* of the group's output channels */
                const float *gs = dy + ((n * d->oh + oh) * d->ow + ow) * d->k + first;
                const float *ws = w + first * at.k + c % cg * at.c + r * at.r + s * at.s;
                for (int64_t k = 0; k < kg; k++)
                    acc_add(&a, gs[k], ws[k * at.k]);
            }
        acc_store(a, dx, abs_sums, i);
    }
}

/* dw[k,c,r,s] = sum over n, oh, ow of dy[n,k,oh,ow] x[n, c, oh stride + r - top, ow stride + s - left] */
static void conv_grad_w(const CallDesc *d, const float *dy, const float *x, float *dw, float *abs_sums)
{
    const int64_t  cg = d->c / d->groups, kg = d->k / d->groups;
    const WeightAt at = weight_strides(d);
    for (int64_t i = 0; i < d->k * cg * d->r * d->s; i++) {
        int64_t s = i % d->s, r = i / d->s % d->r, c = i / d->s / d->r % cg, k = i / d->s / d->r / cg;
        Acc     a = { 0 };
        for (int64_t n = 0; n < d->n; n++)
            for (int64_t oh = 0; oh < d->oh; oh++)
                for (int64_t ow = 0; ow < d->ow; ow++) {
                    int64_t pixel = pixel_under(d, n, oh, ow, r, s);
                    if (pixel >= 0)
                        acc_add(&a, dy[((n * d->oh + oh) * d->ow + ow) * d->k + k], x[pixel * d->c + k / kg * cg + c]);
                }
        acc_store(a, dw, abs_sums, k * at.k + c * at.c + r * at.r + s * at.s);
    }
}

/* Code i of a buffer of bytes. */
static inline int64_t code_at(DType t, const void *codes, int64_t i)
{
    return t == DTYPE_U8 ? ((const uint8_t *)codes)[i] : ((const int8_t *)codes)[i];
}

/* y[n,k,oh,ow] = (f32)sum scale[k]: one rounding of the exact sum, one of the product. Padding is code 0. */
static void conv_forward_int(const CallDesc *d, const void *x, const void *w, const float *scale, float *y,
                             float *abs_sums)
{
    const int64_t  cg = d->c / d->groups, kg = d->k / d->groups;
    const WeightAt at = weight_strides(d);
    DT_ASSERT((d->x_type == DTYPE_S8 || d->x_type == DTYPE_U8) && d->w_type == DTYPE_S8, "codes of %s by %s",
              dtype_name(d->x_type), dtype_name(d->w_type));
    for (int64_t i = 0; i < d->n * d->oh * d->ow * d->k; i++) {
        int64_t k = i % d->k, ow = i / d->k % d->ow, oh = i / d->k / d->ow % d->oh, n = i / d->k / d->ow / d->oh;
        int64_t sum = 0, abs = 0;
        for (int64_t r = 0; r < d->r; r++)
            for (int64_t s = 0; s < d->s; s++) {
                int64_t pixel = pixel_under(d, n, oh, ow, r, s), from = pixel * d->c + k / kg * cg;
                int64_t tap = k * at.k + r * at.r + s * at.s;
                for (int64_t c = 0; c < cg && pixel >= 0; c++) {
                    int64_t product = code_at(d->x_type, x, from + c) * code_at(d->w_type, w, tap + c * at.c);
                    sum += product;
                    abs += llabs(product);
                }
            }
        DT_ASSERT(sum >= INT32_MIN && sum <= INT32_MAX, "a sum of codes is %lld", (long long)sum);
        float by = scale[d->scale_per_k ? k : 0];
        y[i] = (float)(int32_t)sum * by;
        if (abs_sums)
            abs_sums[i] = (float)abs * fabsf(by);
    }
}

/* A matrix product as the convolution that it is. */
static CallDesc as_conv(const CallDesc *call)
{
    CallDesc d = *call;
    if (call->kind >= CALL_LINEAR_FWD && call->kind <= CALL_LINEAR_BWD_W) {
        d = (CallDesc){ .kind = call->kind - CALL_LINEAR_FWD + CALL_CONV_FWD, .bias = call->bias };
        d.n = call->n, d.c = call->c, d.k = call->k;
        d.h = d.w = d.r = d.s = d.oh = d.ow = d.stride = d.groups = 1;
    }
    return d;
}

/* What gradients in bf16 read of n numbers. */
static float *rounded(Arena *a, DType t, const void *from, int64_t n)
{
    float *to = arena_alloc(a, sizeof(float) * (size_t)n);
    for (int64_t i = 0; i < n; i++)
        to[i] = bf16_value(bf16_bits(t == DTYPE_F32 ? ((const float *)from)[i] : (float)code_at(t, from, i)));
    return to;
}

static void call_rounded(const CallDesc *d, void *const *bufs, float *abs_sums)
{
    Arena    a = arena_new("bf16");
    CallDesc plain = *d;
    bool     of_x = d->kind == CALL_CONV_BWD_X;
    int64_t  dy = d->n * d->oh * d->ow * d->k, x = d->n * d->h * d->w * d->c,
            w = d->k * (d->c / d->groups) * d->r * d->s;
    plain.bf16 = false;
    DT_ASSERT(of_x || d->kind == CALL_CONV_BWD_W, "call kind %d in bf16", (int)d->kind);
    void *operands[] = { rounded(&a, DTYPE_F32, bufs[0], dy),
                         of_x ? rounded(&a, d->w_type, bufs[1], w) : rounded(&a, d->x_type, bufs[1], x), bufs[2] };
    reference_call(&plain, operands, abs_sums);
    arena_free(&a);
}

void reference_call(const CallDesc *call, void *const *bufs, float *abs_sums)
{
    CallDesc d = as_conv(call);
    if (d.bf16) {
        call_rounded(&d, bufs, abs_sums);
        return;
    }
    switch (d.kind) {
    case CALL_CONV_FWD:
        conv_forward(&d, bufs[0], bufs[1], d.bias ? bufs[2] : NULL, bufs[d.bias ? 3 : 2], abs_sums);
        return;
    case CALL_CONV_BWD_X:
        conv_grad_x(&d, bufs[0], bufs[1], bufs[2], abs_sums);
        return;
    case CALL_CONV_BWD_W:
        conv_grad_w(&d, bufs[0], bufs[1], bufs[2], abs_sums);
        return;
    case CALL_CONV_FWD_INT:
        conv_forward_int(&d, bufs[0], bufs[1], bufs[2], bufs[3], abs_sums);
        return;
    default:
        DT_UNREACHABLE("call kind %d", (int)call->kind);
    }
}

/* ---- CallLib --------------------------------------------------------------------------------------------------- */

typedef struct Reference {
    CallLib face;
    Arena  *arena;
} Reference;

static int64_t lib_scratch_bytes(void *self, const CallDesc *call)
{
    (void)self, (void)call;
    return 0;
}

static void *lib_prepare(void *self, Diag *d, const CallDesc *call)
{
    (void)d;
    Reference *l = self;
    return arena_copy(l->arena, call, sizeof *call);
}

static bool lib_run(void *self, void *prepared, void *const *bufs, void *scratch)
{
    (void)self, (void)scratch;
    reference_call(prepared, bufs, NULL);
    return true;
}

static void lib_release(void *self)
{
    (void)self; /* descriptions live in the arena */
}

CallLib *calllib_reference(Arena *a)
{
    Reference *l = ARENA_NEW(a, Reference);
    l->arena = a;
    l->face = (CallLib){
        .name = "reference loops",
        .self = l,
        .scratch_bytes = lib_scratch_bytes,
        .prepare = lib_prepare,
        .run = lib_run,
        .release = lib_release,
    };
    return &l->face;
}
