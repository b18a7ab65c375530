/* run_long.c: 64-bit integers and addresses. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/sim_impl.h"

#include <string.h>

#define UNARY(name, D, T, expr)                                                                                        \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        D       *d = run_reg(r, in->d[0]);                                                                             \
        const T *x = run_reg(r, in->a);                                                                                \
        LANES    d[i] = (expr);                                                                                        \
    }
#define BINARY(name, D, T, expr)                                                                                       \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t  n = r->lanes;                                                                                         \
        D       *d = run_reg(r, in->d[0]);                                                                             \
        const T *x = run_reg(r, in->a), *y = run_reg(r, in->b);                                                        \
        LANES    d[i] = (expr);                                                                                        \
    }
#define SHIFT(name, T, expr, beyond)                                                                                   \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        int32_t     n = r->lanes;                                                                                      \
        u64a       *d = run_reg(r, in->d[0]);                                                                          \
        const T    *x = run_reg(r, in->a);                                                                             \
        const u32a *by = run_reg(r, in->b);                                                                            \
        LANES       d[i] = by[i] < 64 ? (uint64_t)(expr) : (uint64_t)(beyond);                                         \
    }

UNARY(i2l, i64a, i32a, x[i])
UNARY(u2l, u64a, u32a, x[i])
UNARY(l2i, u32a, u64a, (uint32_t)x[i])
BINARY(ladd, u64a, u64a, x[i] + y[i])
BINARY(lsub, u64a, u64a, x[i] - y[i])
BINARY(lmul, u64a, u64a, x[i] * y[i])
BINARY(land, u64a, u64a, x[i] & y[i])
BINARY(lor, u64a, u64a, x[i] | y[i])
BINARY(lxor, u64a, u64a, x[i] ^ y[i])
UNARY(lneg, u64a, u64a, 0 - x[i])
UNARY(linv, u64a, u64a, ~x[i])
SHIFT(lshl, u64a, x[i] << (by[i] & 63), 0)
SHIFT(ulshr, u64a, x[i] >> (by[i] & 63), 0)
SHIFT(lshr, i64a, x[i] >> (by[i] & 63), x[i] < 0 ? -1 : 0)
BINARY(llt, u32a, i64a, x[i] < y[i])
BINARY(lle, u32a, i64a, x[i] <= y[i])
BINARY(ullt, u32a, u64a, x[i] < y[i])
BINARY(ulle, u32a, u64a, x[i] <= y[i])
BINARY(leq, u32a, u64a, x[i] == y[i])
BINARY(lne, u32a, u64a, x[i] != y[i])
BINARY(lmin, i64a, i64a, x[i] < y[i] ? x[i] : y[i])
BINARY(lmax, i64a, i64a, x[i] > y[i] ? x[i] : y[i])
BINARY(ulmin, u64a, u64a, x[i] < y[i] ? x[i] : y[i])
BINARY(ulmax, u64a, u64a, x[i] > y[i] ? x[i] : y[i])
UNARY(lbool, u32a, u64a, x[i] != 0)

static inline uint64_t product_high(uint64_t x, uint64_t y)
{
    uint64_t a = x >> 32, b = x & UINT32_MAX, c = y >> 32, e = y & UINT32_MAX;
    uint64_t middle = a * e + (b * e >> 32), other = b * c + (middle & UINT32_MAX);
    return a * c + (middle >> 32) + (other >> 32);
}
BINARY(umulhi64, u64a, u64a, product_high(x[i], y[i]))

static inline int64_t quotient(int64_t x, int64_t y)
{
    return y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y;
}

static inline int64_t remainder_of(int64_t x, int64_t y)
{
    return y == -1 ? 0 : x % y;
}

#define DIVISION(name, T, expr)                                                                                        \
    void op_##name(Run *r, const Inst *in)                                                                             \
    {                                                                                                                  \
        T       *d = run_reg(r, in->d[0]);                                                                             \
        const T *x = run_reg(r, in->a), *divisor = run_reg(r, in->b);                                                  \
        for (int32_t i = 0; i < r->lanes; i++) {                                                                       \
            T y = divisor[i];                                                                                          \
            if (y)                                                                                                     \
                d[i] = (expr);                                                                                         \
            else if (r->mask[i])                                                                                       \
                run_fault(r, in, i, "division by zero");                                                               \
        }                                                                                                              \
    }
DIVISION(ldiv, i64a, quotient(x[i], y))
DIVISION(lrem, i64a, remainder_of(x[i], y))
DIVISION(uldiv, u64a, x[i] / y)
DIVISION(ulrem, u64a, x[i] % y)

void op_select64(Run *r, const Inst *in)
{
    int32_t     n = r->lanes;
    u64a       *d = run_reg(r, in->d[0]);
    const u32a *c = run_reg(r, in->a);
    const u64a *x = run_reg(r, in->b), *y = run_reg(r, in->c);
    LANES       d[i] = c[i] ? x[i] : y[i];
}

void op_mov64(Run *r, const Inst *in)
{
    memmove(run_reg(r, in->d[0]), run_reg(r, in->a), (size_t)r->lanes * 8);
}

void op_set64(Run *r, const Inst *in)
{
    if (r->active == r->threads) {
        op_mov64(r, in);
        return;
    }
    int32_t     n = r->lanes;
    u64a       *d = run_reg(r, in->d[0]);
    const u64a *x = run_reg(r, in->a);
    const u32a *mask = r->mask;
    LANES       d[i] = mask[i] ? x[i] : d[i];
}

void op_lea(Run *r, const Inst *in)
{
    run_addresses(r, in, run_reg(r, in->d[0]));
}
