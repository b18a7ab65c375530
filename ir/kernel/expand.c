/* expand.c: exp and log as fixed polynomials over the other opcodes, and the removal of what nobody uses.
 *
 * Every consumer runs the result, so that exp and log, too, have one answer to the last bit on every machine.
 *
 * exp x = 2^n e^r with n = rint(x / ln 2), |r| <= ln 2 / 2; r is taken in two parts so that it is exact to the last
 * bit, and e^r is Horner with fma. 2^n is applied as two factors: each is representable, the first product is exact,
 * and the second rounds once more where the result is denormal. log x = e ln 2 + log m with m in [sqrt 1/2, sqrt 2); ln
 * 2 again in two parts. A denormal x is first scaled by 2^23.
 *
 * Coefficients: Cephes (S. Moshier, expf and logf). Errors against double libm over all floats: exp 1.01 ulp (of
 * a denormal in the tail, which underflows gradually), log 0.80 ulp.
 *
 * Tested by tests/unit/test_kernel.c (a dense sample of all floats, the special values) and test_kernel_ir.c (dead
 * code). */
#include <math.h>

#include "ir/kernel/kernel_priv.h"

static KVal horner(KBuilder *b, KVal x, const float *coef, int32_t n)
{
    KVal p = kb_f32(b, coef[0]);
    for (int32_t i = 1; i < n; i++)
        p = kb_op3(b, K_FMA, p, x, kb_f32(b, coef[i]));
    return p;
}

/* ln 2: the first part has so few digits that its product with an exponent is exact. */
#define LN2_HI 0.693359375f
#define LN2_LO -2.12194440e-4f

/* 2^n for i32 n in -126..127. */
static KVal power_of_two(KBuilder *b, KVal n)
{
    KVal biased = kb_op2(b, K_ADD, n, kb_i32(b, 127));
    return kb_bitcast(b, KT_F32, kb_cvt(b, KT_U32, kb_op2(b, K_SHL, biased, kb_i32(b, 23))));
}

static KVal expand_exp(KBuilder *b, KVal x)
{
    static const float coef[] = { 1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                  4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f };
    /* Beyond these the result is 0 and inf already; within, both factors below are normal numbers. */
    KVal clipped = kb_op2(b, K_MAX, x, kb_f32(b, -104.0f));
    clipped = kb_op2(b, K_MIN, clipped, kb_f32(b, 89.0f));
    KVal n = kb_op1(b, K_RINT, kb_op2(b, K_MUL, clipped, kb_f32(b, 1.44269504f)));
    KVal r = kb_op3(b, K_FMA, n, kb_f32(b, -LN2_HI), clipped);
    r = kb_op3(b, K_FMA, n, kb_f32(b, -LN2_LO), r);
    KVal p = horner(b, r, coef, DT_COUNT(coef));
    p = kb_op3(b, K_FMA, p, kb_op2(b, K_MUL, r, r), r);
    p = kb_op2(b, K_ADD, p, kb_f32(b, 1.0f));

    KVal whole = kb_cvt(b, KT_I32, n);
    KVal half = kb_op2(b, K_SHR, whole, kb_i32(b, 1));
    KVal rest = kb_op2(b, K_SUB, whole, half);
    p = kb_op2(b, K_MUL, p, power_of_two(b, half));
    p = kb_op2(b, K_MUL, p, power_of_two(b, rest));
    return kb_op3(b, K_SELECT, kb_op2(b, K_EQ, x, x), p, x);
}

static KVal expand_log(KBuilder *b, KVal x)
{
    static const float coef[] = { 7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                  -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                  2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f };
    enum { SQRT_HALF_BITS = 0x3f3504f3 };
    KVal small = kb_op2(b, K_LT, x, kb_f32(b, 0x1p-126f));
    KVal normal = kb_op3(b, K_SELECT, small, kb_op2(b, K_MUL, x, kb_f32(b, 0x1p23f)), x);
    KVal bits = kb_cvt(b, KT_I32, kb_bitcast(b, KT_U32, normal));
    KVal above = kb_op2(b, K_SUB, bits, kb_i32(b, SQRT_HALF_BITS));
    KVal exponent = kb_op2(b, K_SHR, above, kb_i32(b, 23));
    KVal mantissa = kb_op2(b, K_SUB, bits, kb_op2(b, K_SHL, exponent, kb_i32(b, 23)));
    KVal m = kb_bitcast(b, KT_F32, kb_cvt(b, KT_U32, mantissa));
    m = kb_op2(b, K_SUB, m, kb_f32(b, 1.0f));
    KVal e = kb_cvt(b, KT_F32, exponent);
    e = kb_op3(b, K_SELECT, small, kb_op2(b, K_SUB, e, kb_f32(b, 23.0f)), e);

    KVal m2 = kb_op2(b, K_MUL, m, m);
    KVal y = horner(b, m, coef, DT_COUNT(coef));
    y = kb_op2(b, K_MUL, y, kb_op2(b, K_MUL, m, m2));
    y = kb_op3(b, K_FMA, e, kb_f32(b, LN2_LO), y);
    y = kb_op3(b, K_FMA, m2, kb_f32(b, -0.5f), y);
    y = kb_op2(b, K_ADD, m, y);
    y = kb_op3(b, K_FMA, e, kb_f32(b, LN2_HI), y);

    /* y where x > 0 and finite; else inf and NaN stay, 0 gives -inf, less than 0 NaN. */
    KVal zero = kb_f32(b, 0.0f), nan = kb_f32(b, NAN), inf = kb_f32(b, INFINITY), minus_inf = kb_f32(b, -INFINITY);
    KVal is_negative = kb_op2(b, K_LT, x, zero), is_zero = kb_op2(b, K_EQ, x, zero);
    KVal is_positive = kb_op2(b, K_GT, x, zero), is_below_inf = kb_op2(b, K_LT, x, inf);
    KVal special = kb_op3(b, K_SELECT, is_negative, nan, x);
    special = kb_op3(b, K_SELECT, is_zero, minus_inf, special);
    return kb_op3(b, K_SELECT, kb_op2(b, K_AND, is_positive, is_below_inf), y, special);
}

/* ---- What is used ------------------------------------------------------------------------------------------------ */

static void mark_used(bool *live, KVal v)
{
    if (v != KVAL_NONE)
        live[v] = true;
}

/* Backwards: an instruction is live when it stores or a live one uses it; a loop, when something in it is. */
static bool mark_region(const Kernel *k, const KRegion *region, bool *live)
{
    bool any = false;
    for (int32_t i = region->len - 1; i >= 0; i--) {
        KVal         v = region->at[i];
        const KInst *in = &k->insts.at[v];
        live[v] = live[v] || in->op == K_STORE;
        if (in->op == K_LOOP)
            live[v] = mark_region(k, &in->region, live);
        if (!live[v])
            continue;
        any = true;
        for (int32_t arg = 0; arg < k_ops[in->op].n_args; arg++)
            mark_used(live, in->arg[arg]);
        mark_used(live, in->dyn);
        mark_used(live, in->guard);
    }
    return any;
}

/* ---- The copy ---------------------------------------------------------------------------------------------------- */

typedef struct Copy {
    const Kernel *from;
    KBuilder      b;
    const bool   *live;
    KVal         *map;
} Copy;

static KVal mapped(const Copy *c, KVal v)
{
    return v == KVAL_NONE ? KVAL_NONE : c->map[v];
}

static void copy_region(Copy *c, const KRegion *region)
{
    for (int32_t i = 0; i < region->len; i++) {
        KVal  v = region->at[i];
        KInst in = c->from->insts.at[v];
        if (!c->live[v])
            continue;
        for (int32_t arg = 0; arg < k_ops[in.op].n_args; arg++)
            in.arg[arg] = mapped(c, in.arg[arg]);
        in.dyn = mapped(c, in.dyn);
        in.guard = mapped(c, in.guard);
        switch (in.op) {
        case K_EXP:
            c->map[v] = expand_exp(&c->b, in.arg[0]);
            break;
        case K_LOG:
            c->map[v] = expand_log(&c->b, in.arg[0]);
            break;
        case K_LOOP:
            kb_loop(&c->b, in.imm.i);
            copy_region(c, &in.region);
            kb_end(&c->b);
            break;
        default:
            c->map[v] = kb_inst(&c->b, in);
        }
    }
}

Kernel *kernel_expand(Arena *a, const Kernel *k)
{
    Arena scratch = arena_new("kernel_expand");
    bool *live = ARENA_ARRAY(&scratch, bool, k->insts.len + 1);
    mark_region(k, &k->final, live);
    mark_region(k, &k->body, live);
    Kernel *out = kernel_copy_head(a, k);
    Copy    c = { .from = k, .b = kb_new(out), .live = live, .map = ARENA_ARRAY(&scratch, KVal, k->insts.len + 1) };
    copy_region(&c, &k->body);
    kb_final(&c.b);
    copy_region(&c, &k->final);
    arena_free(&scratch);
    return out;
}
