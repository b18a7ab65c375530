/* emit_value.c: arithmetic of the kernel IR as LLVM values.
 *
 * Every rule of kernel.h to the bit: no fast-math flag is ever set, min and max are compares and selects (one machine
 * instruction when an operand is known to be no NaN), conversions saturate unless bounds prove that they need not,
 * integer division never traps. Philox is written out with 64-bit products.
 *
 * Tested by tests/unit/test_llvm.c against the interpreter. */
#include "codegen/llvm/emit.h"

static const Facts *facts_of(const Emit *e, KVal v)
{
    return &e->plan->facts[v];
}

static LLVMValueRef call1(Emit *e, const char *name, LLVMValueRef x)
{
    LLVMTypeRef t = LLVMTypeOf(x);
    return e_intrinsic(e, name, &t, 1, &x, 1);
}

/* ---- Minimum, maximum, accumulators ----------------------------------------------------------------------------- */

/* By how: 0 min, 1 max. */
static const LLVMRealPredicate ordered[2] = { LLVMRealOLT, LLVMRealOGT }, unordered[2] = { LLVMRealULT, LLVMRealUGT };
static const LLVMIntPredicate  by_sign[2][2] = { { LLVMIntULT, LLVMIntUGT }, { LLVMIntSLT, LLVMIntSGT } };

/* x when it is less (greater) or y is NaN, else y. */
static LLVMValueRef extremum_f32(Emit *e, int how, LLVMValueRef x, LLVMValueRef y, bool x_may_nan, bool y_may_nan)
{
    if (y_may_nan && !x_may_nan)
        return e_select(e, e_fcmp(e, unordered[how], x, y), x, y);
    LLVMValueRef least = e_select(e, e_fcmp(e, ordered[how], x, y), x, y);
    return y_may_nan ? e_select(e, e_fcmp(e, LLVMRealUNO, y, y), x, least) : least;
}

static LLVMValueRef extremum_int(Emit *e, int how, bool is_signed, LLVMValueRef x, LLVMValueRef y)
{
    return e_select(e, e_icmp(e, by_sign[is_signed][how], x, y), x, y);
}

LLVMValueRef emit_combine(Emit *e, const KInst *acc, LLVMValueRef total, LLVMValueRef x)
{
    bool f = acc->type == KT_F32;
    if (acc->imm.i == KACC_SUM)
        return e_op(e, f ? LLVMFAdd : LLVMAdd, total, x);
    int how = acc->imm.i == KACC_MAX;
    return f ? extremum_f32(e, how, total, x, false, facts_of(e, acc->arg[0])->may_nan)
             : extremum_int(e, how, true, total, x);
}

LLVMValueRef emit_identity(Emit *e, const KInst *acc, int32_t width)
{
    static const float   floats[] = { [KACC_SUM] = 0, [KACC_MIN] = __builtin_inff(), [KACC_MAX] = -__builtin_inff() };
    static const int32_t ints[] = { [KACC_SUM] = 0, [KACC_MIN] = INT32_MAX, [KACC_MAX] = INT32_MIN };
    LLVMValueRef         one = acc->type == KT_F32 ? e_f32(e, floats[acc->imm.i]) : e_i32(e, ints[acc->imm.i]);
    return e_splat(e, one, width);
}

/* ---- Integer division ------------------------------------------------------------------------------------------- */

/* floor(x / y) in double precision: with 32-bit operands the quotient is at least 2^-32 away from any integer that it
 * is not, far more than its rounding. Divisors 0 and -1, which would trap or overflow, are put aside first. */
static LLVMValueRef divide_any(Emit *e, bool is_signed, LLVMValueRef x, LLVMValueRef y)
{
    LLVMTypeRef  wide = e_like(e->f64, x);
    LLVMValueRef zero = e_same(e, e->i32, 0, x), one = e_same(e, e->i32, 1, x), minus = e_same(e, e->i32, -1, x);
    LLVMValueRef by_zero = e_icmp(e, LLVMIntEQ, y, zero), by_minus = e_icmp(e, LLVMIntEQ, y, minus);
    LLVMOpcode   to = is_signed ? LLVMSIToFP : LLVMUIToFP, from = is_signed ? LLVMFPToSI : LLVMFPToUI;
    LLVMValueRef safe = e_select(e, is_signed ? e_op(e, LLVMOr, by_zero, by_minus) : by_zero, one, y);
    LLVMValueRef q = e_op(e, LLVMFDiv, LLVMBuildCast(e->b, to, x, wide, ""), LLVMBuildCast(e->b, to, safe, wide, ""));
    q = LLVMBuildCast(e->b, from, call1(e, "llvm.floor", q), e_like(e->i32, x), "");
    if (is_signed)
        q = e_select(e, by_minus, LLVMBuildNeg(e->b, x, ""), q);
    return e_select(e, by_zero, zero, q);
}

/* By a positive constant: LLVM shifts or multiplies; a negative remainder steps the quotient down. */
static LLVMValueRef divide_const(Emit *e, bool may_be_negative, LLVMValueRef x, int64_t divisor)
{
    LLVMValueRef y = e_same(e, e->i32, divisor, x);
    if (!may_be_negative)
        return e_op(e, LLVMUDiv, x, y);
    LLVMValueRef q = e_op(e, LLVMSDiv, x, y), rest = e_op(e, LLVMSub, x, e_op(e, LLVMMul, q, y));
    return e_op(e, LLVMAdd, q, e_op(e, LLVMAShr, rest, e_same(e, e->i32, 31, x)));
}

static LLVMValueRef divide(Emit *e, bool is_signed, LLVMValueRef x, LLVMValueRef y, const Facts *of_x)
{
    int64_t c;
    if (e_is_const(y, &c) && c > 0)
        return divide_const(e, of_x->lo < 0, x, c);
    int32_t width = (int32_t)(e_is_vector(x)   ? LLVMGetVectorSize(LLVMTypeOf(x))
                              : e_is_vector(y) ? LLVMGetVectorSize(LLVMTypeOf(y))
                                               : 1);
    return divide_any(e, is_signed, e_splat(e, x, width), e_splat(e, y, width));
}

static LLVMValueRef remainder_of(Emit *e, bool is_signed, LLVMValueRef x, LLVMValueRef y, const Facts *of_x)
{
    int64_t c;
    if (e_is_const(y, &c) && c > 0 && of_x->lo >= 0)
        return e_op(e, LLVMURem, x, y);
    return e_op(e, LLVMSub, x, e_op(e, LLVMMul, divide(e, is_signed, x, y, of_x), y));
}

/* ---- Conversions ------------------------------------------------------------------------------------------------ */

/* Toward zero, saturating, NaN to 0. Written out, for LLVM takes its own saturating conversions lane by lane; each step
 * only where the bounds ask for it. A NaN takes the lower limit on its way. */
static LLVMValueRef cvt_to_int(Emit *e, LLVMValueRef x, const Facts *f, bool is_signed)
{
    float        least = is_signed ? -0x1p31f : 0, past = is_signed ? 0x1p31f : 0x1p32f;
    LLVMValueRef big = NULL, safe = x, limit = e_i32(e, is_signed ? INT32_MAX : -1);
    if (f->may_nan || f->lo < (double)least)
        safe = e_select(e, e_fcmp(e, LLVMRealOGT, x, e_f32(e, least)), x, e_f32(e, least));
    if (f->hi >= (double)past) {
        big = e_fcmp(e, LLVMRealOGE, x, e_f32(e, past));
        safe = e_select(e, big, e_f32(e, 0), safe);
    }
    LLVMValueRef v = LLVMBuildCast(e->b, is_signed ? LLVMFPToSI : LLVMFPToUI, safe, e_like(e->i32, x), "");
    if (big)
        v = e_select(e, big, limit, v);
    return f->may_nan && is_signed ? e_select(e, e_fcmp(e, LLVMRealUNO, x, x), e_i32(e, 0), v) : v;
}

LLVMValueRef emit_cvt_within(Emit *e, LLVMValueRef x, const Facts *f, int32_t least, int32_t most)
{
    LLVMValueRef safe = x;
    if (f->may_nan || f->lo < least)
        safe = e_select(e, e_fcmp(e, LLVMRealOGT, safe, e_f32(e, (float)least)), safe, e_f32(e, (float)least));
    if (f->hi > most)
        safe = e_select(e, e_fcmp(e, LLVMRealOLT, safe, e_f32(e, (float)most)), safe, e_f32(e, (float)most));
    LLVMValueRef v = LLVMBuildCast(e->b, LLVMFPToSI, safe, e_like(e->i32, x), "");
    return f->may_nan && least != 0 ? e_select(e, e_fcmp(e, LLVMRealUNO, x, x), e_i32(e, 0), v) : v;
}

static LLVMValueRef cvt(Emit *e, KType to, KType from, LLVMValueRef x, const Facts *f)
{
    if (from == KT_F32)
        return cvt_to_int(e, x, f, to == KT_I32);
    if (to == KT_F32) {
        bool is_signed = from == KT_I32 || (from == KT_U32 && f->hi <= INT32_MAX);
        return LLVMBuildCast(e->b, is_signed ? LLVMSIToFP : LLVMUIToFP, x, e_like(e->f32, x), "");
    }
    return from == KT_BOOL ? LLVMBuildZExt(e->b, x, e_like(e->i32, x), "") : x;
}

static LLVMValueRef bitcast(Emit *e, KType to, LLVMValueRef x)
{
    return LLVMBuildBitCast(e->b, x, e_like(to == KT_F32 ? e->f32 : e->i32, x), "");
}

/* ---- Philox 4x32-10 --------------------------------------------------------------------------------------------- */

/* A machine multiplies every second lane to 64 bits at a time. So words stand in 64-bit lanes, those of even and of odd
 * places apart, and only their low halves count: what is above never reaches a result, and nothing is shuffled between
 * the first round and the last. What is the same in all lanes stays scalar; both halves are then the same. */
typedef struct Words {
    LLVMValueRef half[2];
} Words;

static Words words_of(Emit *e, LLVMValueRef x)
{
    if (!e_is_vector(x)) {
        LLVMValueRef wide = LLVMBuildZExt(e->b, x, e->i64, "");
        return (Words){ { wide, wide } };
    }
    unsigned     n = LLVMGetVectorSize(LLVMTypeOf(x));
    LLVMValueRef pairs = LLVMBuildBitCast(e->b, x, LLVMVectorType(e->i64, n / 2), "");
    return (Words){ { pairs, e_op(e, LLVMLShr, pairs, e_int(e, 32)) } };
}

static LLVMValueRef words_join(Emit *e, Words w)
{
    if (!e_is_vector(w.half[0]))
        return LLVMBuildTrunc(e->b, w.half[0], e->i32, "");
    unsigned     n = LLVMGetVectorSize(LLVMTypeOf(w.half[0]));
    LLVMValueRef even = e_op(e, LLVMAnd, w.half[0], e_int(e, UINT32_MAX));
    LLVMValueRef odd = e_op(e, LLVMShl, w.half[1], e_int(e, 32));
    return LLVMBuildBitCast(e->b, e_op(e, LLVMOr, even, odd), LLVMVectorType(e->i32, 2 * n), "");
}

static Words words_multiply(Emit *e, uint32_t m, Words x)
{
    for (int h = 0; h < 2; h++)
        x.half[h] = e_op(e, LLVMMul, e_op(e, LLVMAnd, x.half[h], e_int(e, UINT32_MAX)), e_int(e, m));
    return x;
}

static Words words_add(Emit *e, Words x, uint32_t k)
{
    for (int h = 0; h < 2; h++)
        x.half[h] = e_op(e, LLVMAdd, x.half[h], e_int(e, k));
    return x;
}

/* The high words of products, ^ x ^ key. */
static Words words_mix(Emit *e, Words product, Words x, Words key)
{
    for (int h = 0; h < 2; h++) {
        LLVMValueRef high = e_op(e, LLVMLShr, product.half[h], e_int(e, 32));
        x.half[h] = e_op(e, LLVMXor, high, e_op(e, LLVMXor, x.half[h], key.half[h]));
    }
    return x;
}

/* Word 0 of philox({index, 0, substream, stream}, {seed lo, seed hi}). */
static LLVMValueRef philox(Emit *e, const LLVMValueRef *arg)
{
    Words k0 = words_of(e, arg[0]), k1 = words_of(e, arg[1]);
    Words c0 = words_of(e, arg[4]), c1 = words_of(e, e_i32(e, 0));
    Words c2 = words_of(e, arg[3]), c3 = words_of(e, arg[2]);
    for (int round = 0; round < 10; round++) {
        Words p0 = words_multiply(e, 0xD2511F53u, c0), p1 = words_multiply(e, 0xCD9E8D57u, c2);
        c0 = words_mix(e, p1, c1, k0);
        c2 = words_mix(e, p0, c3, k1);
        c1 = p1;
        c3 = p0;
        k0 = words_add(e, k0, 0x9E3779B9u);
        k1 = words_add(e, k1, 0xBB67AE85u);
    }
    return words_join(e, c0);
}

/* ---- Everything else, by table ---------------------------------------------------------------------------------- */

/* clang-format off */
/* By the arguments' type; LLVMOpcode has no 0. */
static const LLVMOpcode binary[K_COUNT][KT_BOOL + 1] = {
    [K_ADD] = { [KT_F32] = LLVMFAdd, [KT_I32] = LLVMAdd,  [KT_U32] = LLVMAdd },
    [K_SUB] = { [KT_F32] = LLVMFSub, [KT_I32] = LLVMSub,  [KT_U32] = LLVMSub },
    [K_MUL] = { [KT_F32] = LLVMFMul, [KT_I32] = LLVMMul,  [KT_U32] = LLVMMul },
    [K_DIV] = { [KT_F32] = LLVMFDiv },
    [K_AND] = { [KT_I32] = LLVMAnd,  [KT_U32] = LLVMAnd,  [KT_BOOL] = LLVMAnd },
    [K_OR]  = { [KT_I32] = LLVMOr,   [KT_U32] = LLVMOr,   [KT_BOOL] = LLVMOr },
    [K_XOR] = { [KT_I32] = LLVMXor,  [KT_U32] = LLVMXor,  [KT_BOOL] = LLVMXor },
    [K_SHL] = { [KT_I32] = LLVMShl,  [KT_U32] = LLVMShl },
    [K_SHR] = { [KT_I32] = LLVMAShr, [KT_U32] = LLVMLShr },
};
static const struct {
    LLVMRealPredicate f;
    LLVMIntPredicate  i, u;
} compares[K_COUNT] = {
    [K_LT] = { LLVMRealOLT, LLVMIntSLT, LLVMIntULT }, [K_LE] = { LLVMRealOLE, LLVMIntSLE, LLVMIntULE },
    [K_GT] = { LLVMRealOGT, LLVMIntSGT, LLVMIntUGT }, [K_GE] = { LLVMRealOGE, LLVMIntSGE, LLVMIntUGE },
    [K_EQ] = { LLVMRealOEQ, LLVMIntEQ,  LLVMIntEQ  }, [K_NE] = { LLVMRealUNE, LLVMIntNE,  LLVMIntNE  },
};
static const char *const unary[K_COUNT] = {
    [K_ABS] = "llvm.fabs", [K_RINT] = "llvm.rint", [K_FLOOR] = "llvm.floor", [K_SQRT] = "llvm.sqrt",
};
/* clang-format on */

static LLVMValueRef emit_const(const Emit *e, const KInst *in)
{
    if (in->type == KT_F32)
        return e_f32(e, in->imm.f);
    return in->type == KT_BOOL ? LLVMConstInt(e->i1, in->imm.u, false) : e_i32(e, in->imm.i);
}

static LLVMValueRef emit_fma(Emit *e, LLVMValueRef *arg)
{
    int32_t width = 1;
    for (int i = 0; i < 3; i++)
        width = e_is_vector(arg[i]) ? (int32_t)LLVMGetVectorSize(LLVMTypeOf(arg[i])) : width;
    for (int i = 0; i < 3; i++)
        arg[i] = e_splat(e, arg[i], width);
    LLVMTypeRef t = LLVMTypeOf(arg[0]);
    return e_intrinsic(e, "llvm.fma", &t, 1, arg, 3);
}

static LLVMValueRef emit_binary(Emit *e, const KInst *in, KType t, LLVMValueRef x, LLVMValueRef y)
{
    bool is_signed = t == KT_I32;
    switch (k_ops[in->op].rule) {
    case KR_CMP:
        return t == KT_F32 ? e_fcmp(e, compares[in->op].f, x, y)
                           : e_icmp(e, is_signed ? compares[in->op].i : compares[in->op].u, x, y);
    default:
        break;
    }
    switch (in->op) {
    case K_MIN:
    case K_MAX:
        return t == KT_F32 ? extremum_f32(e, in->op == K_MAX, x, y, facts_of(e, in->arg[0])->may_nan,
                                          facts_of(e, in->arg[1])->may_nan)
                           : extremum_int(e, in->op == K_MAX, is_signed, x, y);
    case K_DIV:
        if (t != KT_F32)
            return divide(e, is_signed, x, y, facts_of(e, in->arg[0]));
        break;
    case K_REM:
        return remainder_of(e, is_signed, x, y, facts_of(e, in->arg[0]));
    case K_SHL:
    case K_SHR:
        y = e_op(e, LLVMAnd, y, e_i32(e, 31));
        break;
    default:
        break;
    }
    DT_ASSERT(binary[in->op][t], "kernel %s: no code for %s of type %d", e->k->name, k_ops[in->op].text, t);
    return e_op(e, binary[in->op][t], x, y);
}

LLVMValueRef emit_dot(Emit *e, LLVMValueRef x, LLVMValueRef y, LLVMValueRef total)
{
    return emit_fma(e, (LLVMValueRef[]){ x, y, total });
}

LLVMValueRef emit_value(Emit *e, const Point *p, KVal id)
{
    const KInst *in = &e->k->insts.at[id];
    LLVMValueRef arg[KERNEL_MAX_ARGS] = { NULL };
    KType        t = in->arg[0] >= 0 ? e->k->insts.at[in->arg[0]].type : KT_NONE;
    for (int32_t i = 0; i < k_ops[in->op].n_args; i++) {
        arg[i] = p->val[in->arg[i]];
        DT_ASSERT(arg[i], "kernel %s: %s uses value %d before it is made", e->k->name, k_ops[in->op].text, in->arg[i]);
    }
    switch (in->op) {
    case K_CONST:
        return emit_const(e, in);
    case K_INDEX:
        return emit_index(e, p, in);
    case K_SEGF:
        return e->seg_float[in->imm.i];
    case K_LOAD:
        return emit_load(e, p, id);
    case K_FMA:
        return emit_fma(e, arg);
    case K_NEG:
        return t == KT_F32 ? LLVMBuildFNeg(e->b, arg[0], "") : LLVMBuildNeg(e->b, arg[0], "");
    case K_NOT:
        return LLVMBuildNot(e->b, arg[0], "");
    case K_SELECT:
        return e_select(e, arg[0], arg[1], arg[2]);
    case K_CVT:
        return cvt(e, in->type, t, arg[0], facts_of(e, in->arg[0]));
    case K_BITCAST:
        return bitcast(e, in->type, arg[0]);
    case K_PHILOX:
        return philox(e, arg);
    default:
        return unary[in->op] ? call1(e, unary[in->op], arg[0]) : emit_binary(e, in, t, arg[0], arg[1]);
    }
}
