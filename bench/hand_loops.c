/* hand_loops.c: what one would write by hand for the kernels in kernels.c: GNU C vectors as wide as the machine's,
 * intrinsics where C has no word for it, accumulators in registers, loads of scales and shifts outside of loops.
 * Compiled with -O3 -march=native. */
#include "bench/hand_loops.h"

#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
enum { W = 16 };
#elif defined(__AVX__)
enum { W = 8 };
#else
enum { W = 4 };
#endif
enum { C = 16, V = C / W };

typedef float     Vec __attribute__((vector_size(W * 4)));
typedef int32_t   IVec __attribute__((vector_size(W * 4)));
typedef uint32_t  UVec __attribute__((vector_size(W * 4)));
typedef uint64_t  Wide __attribute__((vector_size(W * 8)));
typedef uint8_t   Bytes __attribute__((vector_size(W)));

static inline Vec load(const float *p)
{
    Vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store(float *p, Vec v)
{
    memcpy(p, &v, sizeof v);
}
static inline Vec splat(float x)
{
    return x - (Vec){ 0 };
}

#if defined(__AVX512F__)
static inline Vec vmax(Vec x, Vec y)
{
    return (Vec)_mm512_max_ps((__m512)x, (__m512)y);
}
static inline Vec vmin(Vec x, Vec y)
{
    return (Vec)_mm512_min_ps((__m512)x, (__m512)y);
}
static inline Vec vrint(Vec x)
{
    return (Vec)_mm512_roundscale_ps((__m512)x, 0);
}
static inline Vec vselect(IVec c, Vec x, Vec y)
{
    return (Vec)_mm512_mask_blend_ps(_mm512_cmplt_epi32_mask((__m512i)c, _mm512_setzero_si512()), (__m512)y, (__m512)x);
}
static inline void store_codes(void *to, Vec v)
{
    _mm_storeu_si128(to, _mm512_cvtepi32_epi8(_mm512_cvttps_epi32((__m512)v)));
}
static inline UVec high_word(UVec x, uint32_t m)
{
    __m512i k = _mm512_set1_epi32((int)m), even = _mm512_mul_epu32((__m512i)x, k);
    __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)x, 32), k);
    return (UVec)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}
#elif defined(__AVX__)
static inline Vec vmax(Vec x, Vec y)
{
    return (Vec)_mm256_max_ps((__m256)x, (__m256)y);
}
static inline Vec vmin(Vec x, Vec y)
{
    return (Vec)_mm256_min_ps((__m256)x, (__m256)y);
}
static inline Vec vrint(Vec x)
{
    return (Vec)_mm256_round_ps((__m256)x, 8);
}
static inline Vec vselect(IVec c, Vec x, Vec y)
{
    return (Vec)_mm256_blendv_ps((__m256)y, (__m256)x, (__m256)c);
}
static inline void store_codes(void *to, Vec v)
{
    __m256i i = _mm256_cvttps_epi32((__m256)v);
    __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extractf128_si256(i, 1));
    _mm_storel_epi64(to, _mm_shuffle_epi8(halves, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 0, 0, 0, 0, 0, 0, 0, 0)));
}
#else
static inline Vec vselect(IVec c, Vec x, Vec y)
{
    return (Vec)((c & (IVec)x) | (~c & (IVec)y));
}
static inline Vec vmax(Vec x, Vec y)
{
    return vselect(x > y, x, y);
}
static inline Vec vmin(Vec x, Vec y)
{
    return vselect(x < y, x, y);
}
static inline Vec vrint(Vec x)
{
    for (int i = 0; i < W; i++)
        x[i] = __builtin_rintf(x[i]);
    return x;
}
static inline void store_codes(void *to, Vec v)
{
    Bytes c = __builtin_convertvector(__builtin_convertvector(v, IVec), Bytes);
    memcpy(to, &c, sizeof c);
}
#endif
#ifndef __AVX512F__
#ifdef __AVX2__
static inline UVec high_word(UVec x, uint32_t m)
{
    __m256i k = _mm256_set1_epi32((int)m), even = _mm256_mul_epu32((__m256i)x, k);
    __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)x, 32), k);
    return (UVec)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
#else
static inline UVec high_word(UVec x, uint32_t m)
{
    return __builtin_convertvector(__builtin_convertvector(x, Wide) * m >> 32, UVec);
}
#endif
#endif

/* y = max(x a + b, 0) */
void hand_bn_relu(void *const *bufs, float *partial, int64_t lo, int64_t hi)
{
    (void)partial;
    const float *x = bufs[0];
    float       *y = bufs[3];
    Vec          a[V], b[V];
    for (int j = 0; j < V; j++) {
        a[j] = load((const float *)bufs[1] + j * W);
        b[j] = load((const float *)bufs[2] + j * W);
    }
    for (int64_t i = lo; i < hi; i += C)
        for (int j = 0; j < V; j++)
            store(y + i + j * W, vmax(load(x + i + j * W) * a[j] + b[j], splat(0)));
}

/* q = rint(min(max(x a + b, 0) inv, 15)) */
void hand_bn_relu_codes(void *const *bufs, float *partial, int64_t lo, int64_t hi)
{
    (void)partial;
    const float *x = bufs[0];
    uint8_t     *q = bufs[4];
    float        inv = *(const float *)bufs[3];
    Vec          a[V], b[V];
    for (int j = 0; j < V; j++) {
        a[j] = load((const float *)bufs[1] + j * W);
        b[j] = load((const float *)bufs[2] + j * W);
    }
    for (int64_t i = lo; i < hi; i += C)
        for (int j = 0; j < V; j++) {
            Vec v = vmax(load(x + i + j * W) * a[j] + b[j], splat(0)) * inv;
            store_codes(q + i + j * W, vrint(vmin(v, splat(15))));
        }
}

/* Sums and sums of squares by channel. */
void hand_bn_stats(void *const *bufs, float *partial, int64_t lo, int64_t hi)
{
    const float *x = bufs[0];
    Vec          s[4][V] = { 0 }, ss[4][V] = { 0 };
    for (int64_t i = lo; i + 4 * C <= hi; i += 4 * C)
        for (int r = 0; r < 4; r++)
            for (int j = 0; j < V; j++) {
                Vec v = load(x + i + r * C + j * W);
                s[r][j] += v;
                ss[r][j] += v * v;
            }
    for (int j = 0; j < V; j++) {
        store(partial + j * W, (s[0][j] + s[2][j]) + (s[1][j] + s[3][j]));
        store(partial + C + j * W, (ss[0][j] + ss[2][j]) + (ss[1][j] + ss[3][j]));
    }
}

/* dx = -8 < t < 7 ? g : 0; ds += g (t <= -8 ? -8 : t >= 7 ? 7 : rint(t) - t) with t = x / step */
void hand_lsq_backward(void *const *bufs, float *partial, int64_t lo, int64_t hi)
{
    const float *x = bufs[0], *g = bufs[1];
    float       *dx = bufs[3];
    Vec          inv = splat(1.0f / *(const float *)bufs[2]), sum[4] = { 0 }, n = splat(-8), p = splat(7);
    for (int64_t i = lo; i + 4 * W <= hi; i += 4 * W)
        for (int j = 0; j < 4; j++) {
            Vec t = load(x + i + j * W) * inv, gi = load(g + i + j * W);
            store(dx + i + j * W, (Vec)((IVec)gi & (t > n) & (t < p)));
            sum[j] += gi * vselect(t <= n, n, vselect(t >= p, p, vrint(t) - t));
        }
    store(partial, (sum[0] + sum[2]) + (sum[1] + sum[3]));
}

/* codes = rint(clip(w / step)); used = codes step */
void hand_weights(void *const *bufs, float *partial, int64_t lo, int64_t hi)
{
    (void)partial;
    const float *w = bufs[0];
    float        step = *(const float *)bufs[1], *used = bufs[2];
    int8_t      *codes = bufs[3];
    Vec          inv = splat(1.0f / step);
    for (int64_t i = lo; i + W <= hi; i += W) {
        Vec v = vrint(vmin(vmax(load(w + i) * inv, splat(-8)), splat(7)));
        store_codes(codes + i, v);
        store(used + i, v * step);
    }
}

static inline UVec philox(UVec c0, UVec c2, UVec c3, uint32_t k0, uint32_t k1)
{
    UVec c1 = { 0 };
    for (int round = 0; round < 10; round++) {
        UVec h0 = high_word(c0, 0xD2511F53u), h1 = high_word(c2, 0xCD9E8D57u), l0 = c0 * 0xD2511F53u,
             l1 = c2 * 0xCD9E8D57u;
        c0 = h1 ^ c1 ^ k0;
        c2 = h0 ^ c3 ^ k1;
        c1 = l1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c0;
}

/* The same with half of the weights left in float, at random. */
void hand_weights_noise(void *const *bufs, float *partial, int64_t lo, int64_t hi)
{
    (void)partial;
    const float    *w = bufs[0];
    const uint32_t *seed = bufs[4];
    float           step = *(const float *)bufs[1], *used = bufs[2];
    int8_t         *codes = bufs[3];
    Vec             inv = splat(1.0f / step);
    UVec            lane, zero = { 0 };
    for (int i = 0; i < W; i++)
        lane[i] = (uint32_t)i;
    for (int64_t i = lo; i + W <= hi; i += W) {
        Vec  x = load(w + i), v = vrint(vmin(vmax(x * inv, splat(-8)), splat(7)));
        UVec u = philox(lane + (uint32_t)i, zero + seed[2], zero + 40u, seed[0], seed[1]);
        store_codes(codes + i, v);
        store(used + i, vselect(u < 0x80000000u, v * step, x));
    }
}
