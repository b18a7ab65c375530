/* run_int.c: 32-bit integers, which wrap; shifts by 32 and more give 0 or the sign, as the hardware's; choices and
 * assignments. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/sim_impl.h"

#include <string.h>

#define UNARY(name, T, expr)                                                                                           \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        u32a    *d = run_reg(r, in->d[0]);                                                                             \
        const T *x = run_reg(r, in->a);                                                                                \
        LANES    d[i] = (uint32_t)(expr);                                                                              \
    }
#define BINARY(name, T, expr)                                                                                          \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        u32a    *d = run_reg(r, in->d[0]);                                                                             \
        const T *x = run_reg(r, in->a), *y = run_reg(r, in->b);                                                        \
        LANES    d[i] = (uint32_t)(expr);                                                                              \
    }
#define TERNARY(name, T, expr)                                                                                         \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        u32a    *d = run_reg(r, in->d[0]);                                                                             \
        const T *x = run_reg(r, in->a), *y = run_reg(r, in->b), *z = run_reg(r, in->c);                                \
        LANES    d[i] = (uint32_t)(expr);                                                                              \
    }
#define SHIFT(name, T, expr, beyond)                                                                                   \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        u32a    *d = run_reg(r, in->d[0]);                                                                             \
        const T *x = run_reg(r, in->a);                                                                                \
        uint32_t by = (uint32_t)in->imm;                                                                               \
        if (by < 32)                                                                                                   \
            LANES d[i] = (uint32_t)(expr);                                                                             \
        else                                                                                                           \
            LANES d[i] = (uint32_t)(beyond);                                                                           \
    }

static inline int32_t sign(int32_t x)
{
    return x < 0 ? -1 : 0;
}

static inline int32_t dp4a_signed(uint32_t x, uint32_t y, uint32_t sum)
{
    for (int k = 0; k < 32; k += 8)
        sum += (uint32_t)((int8_t)(x >> k) * (int8_t)(y >> k));
    return (int32_t)sum;
}

static inline uint32_t dp4a_unsigned(uint32_t x, uint32_t y, uint32_t sum)
{
    for (int k = 0; k < 32; k += 8)
        sum += (x >> k & 255) * (y >> k & 255);
    return sum;
}

static inline uint32_t pick_bytes(uint32_t x, uint32_t y, uint32_t which)
{
    uint64_t both = (uint64_t)y << 32 | x;
    uint32_t out = 0;
    for (int k = 0; k < 4; k++) {
        uint32_t s = which >> (4 * k), byte = (uint32_t)(both >> (8 * (s & 7))) & 255;
        if (s & 8)
            byte = byte & 128 ? 255 : 0;
        out |= byte << (8 * k);
    }
    return out;
}

static inline uint32_t reversed(uint32_t x)
{
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0F0F0F0Fu) | (x & 0x0F0F0F0Fu) << 4;
    return __builtin_bswap32(x);
}

BINARY(iadd, u32a, x[i] + y[i])
BINARY(isub, u32a, x[i] - y[i])
BINARY(imul, u32a, x[i] * y[i])
BINARY(iand, u32a, x[i] & y[i])
BINARY(ior, u32a, x[i] | y[i])
BINARY(ixor, u32a, x[i] ^ y[i])
UNARY(ineg, u32a, 0 - x[i])
UNARY(inot, u32a, ~x[i])
BINARY(ishl, u32a, y[i] < 32 ? x[i] << (y[i] & 31) : 0)
BINARY(ushr, u32a, y[i] < 32 ? x[i] >> (y[i] & 31) : 0)
BINARY(ishr, i32a, (uint32_t)y[i] < 32 ? x[i] >> (y[i] & 31) : sign(x[i]))
SHIFT(ishlc, u32a, x[i] << by, 0)
SHIFT(ushrc, u32a, x[i] >> by, 0)
SHIFT(ishrc, i32a, x[i] >> by, sign(x[i]))
BINARY(ilt, i32a, x[i] < y[i])
BINARY(ile, i32a, x[i] <= y[i])
BINARY(ult, u32a, x[i] < y[i])
BINARY(ule, u32a, x[i] <= y[i])
BINARY(ieq, u32a, x[i] == y[i])
BINARY(ine, u32a, x[i] != y[i])
BINARY(imin, i32a, x[i] < y[i] ? x[i] : y[i])
BINARY(imax, i32a, x[i] > y[i] ? x[i] : y[i])
BINARY(umin, u32a, x[i] < y[i] ? x[i] : y[i])
BINARY(umax, u32a, x[i] > y[i] ? x[i] : y[i])
UNARY(iabs, u32a, (int32_t)x[i] < 0 ? 0 - x[i] : x[i])
BINARY(imulhi, i32a, (int64_t)x[i] * y[i] >> 32)
BINARY(umulhi, u32a, (uint64_t)x[i] * y[i] >> 32)
UNARY(popc, u32a, __builtin_popcount(x[i]))
UNARY(clz, u32a, x[i] ? __builtin_clz(x[i]) : 32)
UNARY(ffs, i32a, __builtin_ffs(x[i]))
UNARY(brev, u32a, reversed(x[i]))
TERNARY(dp4a_s, u32a, dp4a_signed(x[i], y[i], z[i]))
TERNARY(dp4a_u, u32a, dp4a_unsigned(x[i], y[i], z[i]))
TERNARY(byteperm, u32a, pick_bytes(x[i], y[i], z[i]))
UNARY(ibool, u32a, x[i] != 0)
UNARY(lnot, u32a, x[i] == 0)
UNARY(ext_s8, i32a, (int8_t)x[i])
UNARY(ext_u8, u32a, (uint8_t)x[i])
UNARY(ext_s16, i32a, (int16_t)x[i])
UNARY(ext_u16, u32a, (uint16_t)x[i])
TERNARY(select, u32a, (y[i] & (0 - x[i])) | (z[i] & (x[i] - 1))) /* x is 0 or 1 */

/* ---- Division ---- */

/* By way of double, which holds every quotient closely enough: vector code exists for it. */
static inline int32_t quotient(int32_t x, int32_t y)
{
    double q = (double)x / (double)y;
    return q >= 0x1p31 ? INT32_MIN : (int32_t)q; /* -2^31 / -1 wraps */
}

static inline uint32_t unsigned_quotient(uint32_t x, uint32_t y)
{
    return x / y;
}

/* Divisors of lanes that do not take part are not looked at. */
static bool divisors_ok(Run *r, const Inst *in)
{
    int32_t     n = r->lanes;
    uint32_t    bad = 0;
    const u32a *y = run_reg(r, in->b), *mask = r->mask;
#pragma omp simd reduction(| : bad)
    for (int32_t i = 0; i < n; i++)
        bad |= y[i] == 0 ? mask[i] : 0;
    if (!bad)
        return true;
    int32_t lane = 0;
    while (y[lane] || !mask[lane])
        lane++;
    run_fault(r, in, lane, "division by zero");
    return false;
}

#define DIVISION(name, T, expr)                                                                                        \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        u32a    *d = run_reg(r, in->d[0]);                                                                             \
        const T *x = run_reg(r, in->a), *divisor = run_reg(r, in->b);                                                  \
        if (!divisors_ok(r, in))                                                                                       \
            return;                                                                                                    \
        LANES                                                                                                          \
        {                                                                                                              \
            T y = divisor[i] ? divisor[i] : 1;                                                                         \
            d[i] = (uint32_t)(expr);                                                                                   \
        }                                                                                                              \
    }
DIVISION(idiv, i32a, quotient(x[i], y))
DIVISION(irem, i32a, (uint32_t)x[i] - (uint32_t)quotient(x[i], y) * (uint32_t)y)
DIVISION(udiv, u32a, unsigned_quotient(x[i], y))
DIVISION(urem, u32a, x[i] - unsigned_quotient(x[i], y) * y)

/* ---- Copies ---- */

void op_mov(Run *r, const Inst *in)
{
    memmove(run_reg(r, in->d[0]), run_reg(r, in->a), (size_t)r->lanes * 4);
}

void op_set(Run *r, const Inst *in)
{
    if (r->active == r->threads) {
        op_mov(r, in);
        return;
    }
    int32_t     n = r->lanes;
    u32a       *d = run_reg(r, in->d[0]);
    const u32a *x = run_reg(r, in->a), *mask = r->mask;
    LANES       d[i] = (x[i] & mask[i]) | (d[i] & ~mask[i]);
}

/* ---- Variables without a value ---- */

void op_undef(Run *r, const Inst *in)
{
    memset(run_reg(r, in->d[0]), 0, (size_t)in->imm * (size_t)r->lanes * 4);
}

void op_def(Run *r, const Inst *in)
{
    int32_t     n = r->lanes;
    const u32a *mask = r->mask;
    for (int32_t k = 0; k < in->n; k++) {
        u32a *d = run_reg(r, in->d[0] + k);
        LANES d[i] |= mask[i];
    }
}

void op_need(Run *r, const Inst *in)
{
    int32_t     n = r->lanes;
    const u32a *mask = r->mask;
    for (int32_t k = 0; k < in->n; k++) {
        const u32a *set = run_reg(r, in->a + k);
        uint32_t    missing = 0;
#pragma omp simd reduction(| : missing)
        for (int32_t i = 0; i < n; i++)
            missing |= mask[i] & ~set[i];
        if (!missing)
            continue;
        int32_t lane = 0;
        while (!(mask[lane] & ~set[lane]))
            lane++;
        run_fault(r, in, lane, "a variable is read that was never given a value");
        return;
    }
}
