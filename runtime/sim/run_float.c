/* run_float.c: IEEE single precision, to nearest even, nothing contracted; conversions as the hardware's (saturating,
 * NaN is 0). Written so that compilers make vector code of each loop: without libm's rint and floor, which are calls
 * where the instruction set is the common one. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/sim_impl.h"

#include <math.h>
#include <string.h>

#define UNARY(name, D, A, expr)                                                                                        \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        D       *d = run_reg(r, in->d[0]);                                                                             \
        const A *x = run_reg(r, in->a);                                                                                \
        LANES    d[i] = (expr);                                                                                        \
    }
#define BINARY(name, D, A, expr)                                                                                       \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        D       *d = run_reg(r, in->d[0]);                                                                             \
        const A *x = run_reg(r, in->a), *y = run_reg(r, in->b);                                                        \
        LANES    d[i] = (expr);                                                                                        \
    }

static inline uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Half to even: adding 2^23 leaves no room for a fraction. Larger numbers, infinities and NaN are integers or stay. */
static inline float round_even(float x)
{
    uint32_t sign = bits_of(x) & UINT32_C(0x80000000);
    float    magic = float_of(sign | UINT32_C(0x4B000000)), sum = x + magic;
    float    whole = float_of((bits_of(sum - magic) & UINT32_C(0x7FFFFFFF)) | sign); /* -0.2 gives -0 */
    return fabsf(x) < 0x1p23f ? whole : x;
}

static inline float round_down(float x)
{
    float whole = round_even(x);
    return whole > x ? whole - 1.0f : whole;
}

static inline float round_up(float x)
{
    return -round_down(-x);
}

static inline float round_to_zero(float x)
{
    float whole = round_down(fabsf(x));
    return float_of(bits_of(whole) | (bits_of(x) & UINT32_C(0x80000000)));
}

static inline int32_t to_int(float x)
{
    float   low = x > -0x1p31f ? x : -0x1p31f; /* NaN, too */
    float   in_range = low < 0x1p31f ? low : 0.0f;
    int32_t i = (int32_t)in_range;
    i = low < 0x1p31f ? i : INT32_MAX;
    return x == x ? i : 0;
}

static inline uint32_t to_uint(float x)
{
    float    low = x > 0.0f ? x : 0.0f;
    bool     high = low >= 0x1p31f;
    float    rest = high ? low - 0x1p31f : low;
    uint32_t u = (uint32_t)(int32_t)(rest < 0x1p31f ? rest : 0.0f) + (high ? UINT32_C(0x80000000) : 0);
    return low >= 0x1p32f ? UINT32_MAX : u;
}

static inline int64_t to_long(float x)
{
    if (x != x)
        return 0;
    return x >= 0x1p63f ? INT64_MAX : x <= -0x1p63f ? INT64_MIN : (int64_t)x;
}

static inline uint64_t to_ulong(float x)
{
    if (!(x > 0.0f))
        return 0;
    return x >= 0x1p64f ? UINT64_MAX : (uint64_t)x;
}

static inline float smaller(float x, float y)
{
    float f = x < y ? x : y;
    f = x == y ? float_of(bits_of(x) | bits_of(y)) : f; /* -0 is smaller than +0 */
    f = y != y ? x : f;
    return x != x ? y : f;
}

static inline float larger(float x, float y)
{
    float f = x > y ? x : y;
    f = x == y ? float_of(bits_of(x) & bits_of(y)) : f;
    f = y != y ? x : f;
    return x != x ? y : f;
}

BINARY(fadd, f32a, f32a, x[i] + y[i])
BINARY(fsub, f32a, f32a, x[i] - y[i])
BINARY(fmul, f32a, f32a, x[i] * y[i])
BINARY(fdiv, f32a, f32a, x[i] / y[i])
BINARY(fmin, f32a, f32a, smaller(x[i], y[i]))
BINARY(fmax, f32a, f32a, larger(x[i], y[i]))
BINARY(flt, u32a, f32a, x[i] < y[i])
BINARY(fle, u32a, f32a, x[i] <= y[i])
BINARY(feq, u32a, f32a, x[i] == y[i])
BINARY(fne, u32a, f32a, x[i] != y[i])
UNARY(fbool, u32a, f32a, x[i] != 0.0f)
UNARY(fneg, u32a, u32a, x[i] ^ UINT32_C(0x80000000))
UNARY(fabs, u32a, u32a, x[i] & UINT32_C(0x7FFFFFFF))
UNARY(frint, f32a, f32a, round_even(x[i]))
UNARY(ffloor, f32a, f32a, round_down(x[i]))
UNARY(fceil, f32a, f32a, round_up(x[i]))
UNARY(ftrunc, f32a, f32a, round_to_zero(x[i]))
UNARY(fsqrt, f32a, f32a, sqrtf(x[i]))
UNARY(f2i, i32a, f32a, to_int(x[i]))
UNARY(f2u, u32a, f32a, to_uint(x[i]))
UNARY(f2i_rn, i32a, f32a, to_int(round_even(x[i])))
UNARY(f2u_rn, u32a, f32a, to_uint(round_even(x[i])))
UNARY(f2l, i64a, f32a, to_long(x[i]))
UNARY(f2ul, u64a, f32a, to_ulong(x[i]))
UNARY(i2f, f32a, i32a, (float)x[i])
UNARY(u2f, f32a, u32a, (float)x[i])
UNARY(l2f, f32a, i64a, (float)x[i])
UNARY(ul2f, f32a, u64a, (float)x[i])

/* ---- Multiply and add with one rounding ---- */

static void fma_lanes(f32a *d, const f32a *x, const f32a *y, const f32a *z, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        d[i] = fmaf(x[i], y[i], z[i]);
}

#if defined(__x86_64__) /* one instruction where there is one: the library's function costs ten times as much */
__attribute__((target("avx2,fma"))) static void fma_lanes_avx2(f32a *d, const f32a *x, const f32a *y, const f32a *z,
                                                               int32_t n)
{
    LANES d[i] = __builtin_fmaf(x[i], y[i], z[i]);
}
#endif

void op_fma(Run *r, const Inst *in)
{
    f32a       *d = run_reg(r, in->d[0]);
    const f32a *x = run_reg(r, in->a), *y = run_reg(r, in->b), *z = run_reg(r, in->c);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2")) {
        fma_lanes_avx2(d, x, y, z, r->lanes);
        return;
    }
#endif
    fma_lanes(d, x, y, z, r->lanes);
}
