/* depthwise_loops.c: depthwise convolution and its gradients as one would write them by hand for a machine with wide
 * vectors: channels in vectors, windows of 3 x 3 and 5 x 5 written out by the compiler where all taps are inside the
 * image, loops over the taps that are inside at its border. The weight gradient holds the sums of one vector of
 * channels in registers while it walks the rows of the image. Compiled with -O3 -march=native. */
#include "bench/depthwise_loops.h"

#include <stdbool.h>
#include <string.h>

#ifdef __AVX512F__
enum { W = 16 };
#elif defined(__AVX__)
enum { W = 8 };
#else
enum { W = 4 };
#endif
enum { HALF = W / 2 };

typedef float Vec __attribute__((vector_size(W * 4)));
typedef float Half __attribute__((vector_size(HALF * 4)));

#define INLINE static inline __attribute__((always_inline))

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Everything once for whole vectors and once for halves: no number of channels that networks have is odd. */
#define LOOPS(V, suffix)                                                                                               \
    INLINE V load_##suffix(const float *p)                                                                             \
    {                                                                                                                  \
        V v;                                                                                                           \
        memcpy(&v, p, sizeof v);                                                                                       \
        return v;                                                                                                      \
    }                                                                                                                  \
    INLINE void store_##suffix(float *p, V v)                                                                          \
    {                                                                                                                  \
        memcpy(p, &v, sizeof v);                                                                                       \
    }                                                                                                                  \
    /* taps [r0, r1) x [s0, s1): x and w stand at tap (0, 0), `row` and `step` lead to the next row, column of x */    \
    INLINE V window_##suffix(const float *x, const float *w, int64_t row, int64_t step, int64_t c, int64_t k,          \
                             int64_t r0, int64_t r1, int64_t s0, int64_t s1)                                           \
    {                                                                                                                  \
        V sum = { 0 };                                                                                                 \
        for (int64_t r = r0; r < r1; r++) {                                                                            \
            V part = { 0 };                                                                                            \
            for (int64_t s = s0; s < s1; s++)                                                                          \
                part += load_##suffix(x + r * row + s * step) * load_##suffix(w + (r * k + s) * c);                    \
            sum += part;                                                                                               \
        }                                                                                                              \
        return sum;                                                                                                    \
    }                                                                                                                  \
    /* columns [from, to) of one row of dy, taps [r0, r1) and those inside; x stands at tap (0, 0) of column 0 */      \
    INLINE void border_##suffix(const DepthwiseShape *d, V *sum, const float *dy, const float *x, int64_t k,           \
                                int64_t from, int64_t to, int64_t r0, int64_t r1)                                      \
    {                                                                                                                  \
        const int64_t c = d->c, pad = (k - 1) / 2;                                                                     \
        for (int64_t o = from; o < to; o++) {                                                                          \
            const int64_t v = o * d->stride - pad, s0 = most(0, -v), s1 = least(k, d->size - v);                       \
            const V       g = load_##suffix(dy + o * c);                                                               \
            for (int64_t r = r0; r < r1; r++)                                                                          \
                for (int64_t s = s0; s < s1; s++)                                                                      \
                    sum[r * k + s] += g * load_##suffix(x + r * d->size * c + (o * d->stride + s) * c);                \
        }                                                                                                              \
    }                                                                                                                  \
    /* all taps inside: sums in registers */                                                                           \
    INLINE void inner_##suffix(const DepthwiseShape *d, V *sums, const float *dy, const float *x, int64_t k,           \
                               int64_t stride, int64_t from, int64_t to)                                               \
    {                                                                                                                  \
        V sum[LOOP_MOST_TAPS];                                                                                         \
        memcpy(sum, sums, sizeof sum);                                                                                 \
        for (int64_t o = from; o < to; o++) {                                                                          \
            const V g = load_##suffix(dy + o * d->c);                                                                  \
            _Pragma("GCC unroll 5") for (int64_t r = 0; r < k; r++)                                                    \
                _Pragma("GCC unroll 5") for (int64_t s = 0; s < k; s++) sum[r * k + s] +=                              \
                g * load_##suffix(x + r * d->size * d->c + (o * stride + s) * d->c);                                   \
        }                                                                                                              \
        memcpy(sums, sum, sizeof sum);                                                                                 \
    }
LOOPS(Vec, vec)
LOOPS(Half, half)

/* ---- Forward ------------------------------------------------------------------------------------------------------
 */

INLINE void forward(const DepthwiseShape *d, const float *x, const float *w, float *y, int64_t lo, int64_t hi,
                    int64_t k, int64_t stride)
{
    const int64_t c = d->c, row = d->size * c, pad = (k - 1) / 2;
    for (int64_t i = lo; i < hi; i++) {
        const int64_t h = i % d->out * stride - pad, r0 = most(0, -h), r1 = least(k, d->size - h);
        const float  *image = x + (i / d->out * d->size + h) * row;
        for (int64_t o = 0; o < d->out; o++) {
            const int64_t v = o * stride - pad, s0 = most(0, -v), s1 = least(k, d->size - v);
            const float  *at = image + v * c;
            float        *to = y + (i * d->out + o) * c;
            int64_t       e = 0;
            if (r1 - r0 == k && s1 - s0 == k) {
                for (; e + W <= c; e += W)
                    store_vec(to + e, window_vec(at + e, w + e, row, c, c, k, 0, k, 0, k));
                for (; e < c; e += HALF)
                    store_half(to + e, window_half(at + e, w + e, row, c, c, k, 0, k, 0, k));
                continue;
            }
            for (; e + W <= c; e += W)
                store_vec(to + e, window_vec(at + e, w + e, row, c, c, k, r0, r1, s0, s1));
            for (; e < c; e += HALF)
                store_half(to + e, window_half(at + e, w + e, row, c, c, k, r0, r1, s0, s1));
        }
    }
}

/* ---- Input gradient ------------------------------------------------------------------------------------------------
 */

/* With stride 1 a window, turned by half; with stride 2 only every second tap meets dy, which two depends on the
 * pixel. */
INLINE void grad_x(const DepthwiseShape *d, const float *dy, const float *w, float *dx, int64_t lo, int64_t hi,
                   int64_t k, int64_t stride)
{
    const int64_t c = d->c, row = d->out * c, pad = (k - 1) / 2;
    for (int64_t i = lo; i < hi; i++) {
        const int64_t h = i % d->size + pad, n = i / d->size;
        for (int64_t o = 0; o < d->size; o++) {
            const int64_t v = o + pad;
            float        *to = dx + (i * d->size + o) * c;
            for (int64_t e = 0; e < c;) {
                const bool whole = e + W <= c;
                Vec        sum = { 0 };
                Half       half = { 0 };
                for (int64_t r = h % stride; r < k; r += stride) {
                    const int64_t p = (h - r) / stride;
                    if (h < r || p >= d->out)
                        continue;
                    for (int64_t s = v % stride; s < k; s += stride) {
                        const int64_t q = (v - s) / stride;
                        if (v < s || q >= d->out)
                            continue;
                        const float *from = dy + (n * d->out + p) * row + q * c + e, *tap = w + (r * k + s) * c + e;
                        if (whole)
                            sum += load_vec(from) * load_vec(tap);
                        else
                            half += load_half(from) * load_half(tap);
                    }
                }
                if (whole)
                    store_vec(to + e, sum);
                else
                    store_half(to + e, half);
                e += whole ? W : HALF;
            }
        }
    }
}

/* dx by windows of dy from its row and column (h - pad) on, taps turned: stride 1. */
INLINE void grad_x_turned(const DepthwiseShape *d, const float *dy, const float *w, float *dx, int64_t lo, int64_t hi,
                          int64_t k)
{
    float turned[LOOP_MOST_TAPS * LOOP_CHANNELS];
    for (int64_t t = 0; t < k * k; t++)
        memcpy(turned + t * d->c, w + (k * k - 1 - t) * d->c, sizeof(float) * (size_t)d->c);
    forward(d, dy, turned, dx, lo, hi, k, 1);
}

/* ---- Weight gradient ------------------------------------------------------------------------------------------------
 */

/* The sums of one vector of channels, from channel e on, over rows [lo, hi) of dy. */
#define WEIGHTS(V, suffix)                                                                                             \
    INLINE void column_##suffix(const DepthwiseShape *d, const float *dy, const float *x, float *dw, int64_t lo,       \
                                int64_t hi, int64_t k, int64_t stride, int64_t e)                                      \
    {                                                                                                                  \
        const int64_t c = d->c, row = d->size * c, pad = (k - 1) / 2;                                                  \
        const int64_t from = (pad + stride - 1) / stride, to = (d->size + pad - k) / stride + 1;                       \
        V             sum[LOOP_MOST_TAPS] = { 0 };                                                                     \
        for (int64_t i = lo; i < hi; i++) {                                                                            \
            const int64_t h = i % d->out * stride - pad, r0 = most(0, -h), r1 = least(k, d->size - h);                 \
            const float  *at = x + (i / d->out * d->size + h) * row - pad * c + e, *g = dy + i * d->out * c + e;       \
            if (r1 - r0 < k || from >= to) {                                                                           \
                border_##suffix(d, sum, g, at, k, 0, d->out, r0, r1);                                                  \
                continue;                                                                                              \
            }                                                                                                          \
            border_##suffix(d, sum, g, at, k, 0, from, 0, k);                                                          \
            inner_##suffix(d, sum, g, at, k, stride, from, to);                                                        \
            border_##suffix(d, sum, g, at, k, to, d->out, 0, k);                                                       \
        }                                                                                                              \
        for (int64_t t = 0; t < k * k; t++)                                                                            \
            store_##suffix(dw + t * c + e, sum[t]);                                                                    \
    }
WEIGHTS(Vec, vec)
WEIGHTS(Half, half)

INLINE void grad_w(const DepthwiseShape *d, const float *dy, const float *x, float *dw, int64_t lo, int64_t hi,
                   int64_t k, int64_t stride)
{
    int64_t e = 0;
    for (; e + W <= d->c; e += W)
        column_vec(d, dy, x, dw, lo, hi, k, stride, e);
    for (; e < d->c; e += HALF)
        column_half(d, dy, x, dw, lo, hi, k, stride, e);
}

/* ---- By size --------------------------------------------------------------------------------------------------------
 */

#define BY_SIZE(fn, ...)                                                                                               \
    do {                                                                                                               \
        if (d->kernel == 3 && d->stride == 1)                                                                          \
            fn(__VA_ARGS__, 3, 1);                                                                                     \
        else if (d->kernel == 3)                                                                                       \
            fn(__VA_ARGS__, 3, 2);                                                                                     \
        else if (d->stride == 1)                                                                                       \
            fn(__VA_ARGS__, 5, 1);                                                                                     \
        else                                                                                                           \
            fn(__VA_ARGS__, 5, 2);                                                                                     \
    } while (0)

void hand_depthwise(const DepthwiseShape *d, const float *x, const float *w, float *y, int64_t lo, int64_t hi)
{
    BY_SIZE(forward, d, x, w, y, lo, hi);
}

void hand_depthwise_grad_x(const DepthwiseShape *d, const float *dy, const float *w, float *dx, int64_t lo, int64_t hi)
{
    if (d->stride > 1)
        BY_SIZE(grad_x, d, dy, w, dx, lo, hi);
    else if (d->kernel == 3)
        grad_x_turned(d, dy, w, dx, lo, hi, 3);
    else
        grad_x_turned(d, dy, w, dx, lo, hi, 5);
}

void hand_depthwise_grad_w(const DepthwiseShape *d, const float *dy, const float *x, float *dw, int64_t lo, int64_t hi)
{
    BY_SIZE(grad_w, d, dy, x, dw, lo, hi);
}

/* ---- Statistics -----------------------------------------------------------------------------------------------------
 */

void hand_statistics(int64_t c, const float *restrict y, const float *restrict shift, float *restrict sums, int64_t lo,
                     int64_t hi)
{
    memset(sums, 0, sizeof(float) * 2 * (size_t)c);
    for (int64_t i = lo; i < hi; i++)
        for (int64_t e = 0; e < c; e++) {
            float d = y[i * c + e] - shift[e];
            sums[e] += d;
            sums[c + e] += d * d;
        }
}
