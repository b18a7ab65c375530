/* emit_build.c: LLVM IR in small pieces: constants, values of mixed shape, loops that carry values.
 *
 * Tested by tests/unit/test_llvm.c. */
#include <string.h>

#include "codegen/llvm/emit.h"

/* ---- Constants and types ---------------------------------------------------------------------------------------- */

LLVMValueRef e_int(const Emit *e, int64_t x)
{
    return LLVMConstInt(e->i64, (uint64_t)x, true);
}
LLVMValueRef e_i32(const Emit *e, int64_t x)
{
    return LLVMConstInt(e->i32, (uint64_t)x, true);
}

/* By bits: a double on the way would lose the payload of a NaN. */
LLVMValueRef e_f32(const Emit *e, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return LLVMConstBitCast(LLVMConstInt(e->i32, bits, false), e->f32);
}

LLVMTypeRef e_type(const Emit *e, KType t, int32_t width)
{
    LLVMTypeRef elem = t == KT_F32 ? e->f32 : t == KT_BOOL ? e->i1 : e->i32;
    return width == 1 ? elem : LLVMVectorType(elem, (unsigned)width);
}

bool e_is_vector(LLVMValueRef v)
{
    return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind;
}

static int32_t width_of(LLVMValueRef v)
{
    return e_is_vector(v) ? (int32_t)LLVMGetVectorSize(LLVMTypeOf(v)) : 1;
}

LLVMTypeRef e_like(LLVMTypeRef elem, LLVMValueRef shape)
{
    return e_is_vector(shape) ? LLVMVectorType(elem, (unsigned)width_of(shape)) : elem;
}

bool e_is_const(LLVMValueRef v, int64_t *x)
{
    if (!LLVMIsAConstantInt(v))
        return false;
    *x = LLVMConstIntGetSExtValue(v);
    return true;
}

/* ---- Vectors ---------------------------------------------------------------------------------------------------- */

enum { MOST_LANES = 64 };

LLVMValueRef e_ints(Emit *e, LLVMTypeRef elem, const int64_t *x, int32_t n)
{
    LLVMValueRef lanes[MOST_LANES];
    DT_ASSERT(n <= MOST_LANES, "kernel %s: a vector of %d", e->k->name, n);
    for (int32_t i = 0; i < n; i++)
        lanes[i] = LLVMConstInt(elem, (uint64_t)x[i], true);
    return LLVMConstVector(lanes, (unsigned)n);
}

LLVMValueRef e_ramp(Emit *e, LLVMTypeRef elem, int64_t step, int32_t n)
{
    int64_t x[MOST_LANES];
    for (int32_t i = 0; i < n; i++)
        x[i] = i * step;
    return e_ints(e, elem, x, n);
}

LLVMValueRef e_splat(Emit *e, LLVMValueRef v, int32_t width)
{
    if (width == 1 || e_is_vector(v))
        return v;
    LLVMValueRef lanes[MOST_LANES];
    if (LLVMIsConstant(v)) {
        for (int32_t i = 0; i < width; i++)
            lanes[i] = v;
        return LLVMConstVector(lanes, (unsigned)width);
    }
    LLVMValueRef none = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(v), (unsigned)width));
    LLVMValueRef first = LLVMBuildInsertElement(e->b, none, v, e_i32(e, 0), "");
    LLVMValueRef mask = LLVMConstNull(LLVMVectorType(e->i32, (unsigned)width));
    return LLVMBuildShuffleVector(e->b, first, none, mask, "");
}

LLVMValueRef e_lane(Emit *e, LLVMValueRef v, int32_t lane)
{
    return e_is_vector(v) ? LLVMBuildExtractElement(e->b, v, e_i32(e, lane), "") : v;
}

LLVMValueRef e_same(Emit *e, LLVMTypeRef elem, int64_t x, LLVMValueRef shape)
{
    int64_t same[MOST_LANES];
    int32_t n = width_of(shape);
    for (int32_t i = 0; i < n; i++)
        same[i] = x;
    return e_is_vector(shape) ? e_ints(e, elem, same, n) : LLVMConstInt(elem, (uint64_t)x, true);
}

/* ---- Operations on values of mixed shape ------------------------------------------------------------------------ */

static void match(Emit *e, LLVMValueRef *x, LLVMValueRef *y)
{
    int32_t width = (int32_t)dt_max64(width_of(*x), width_of(*y));
    *x = e_splat(e, *x, width);
    *y = e_splat(e, *y, width);
}

LLVMValueRef e_op(Emit *e, LLVMOpcode op, LLVMValueRef x, LLVMValueRef y)
{
    match(e, &x, &y);
    return LLVMBuildBinOp(e->b, op, x, y, "");
}

LLVMValueRef e_icmp(Emit *e, LLVMIntPredicate how, LLVMValueRef x, LLVMValueRef y)
{
    match(e, &x, &y);
    return LLVMBuildICmp(e->b, how, x, y, "");
}

LLVMValueRef e_fcmp(Emit *e, LLVMRealPredicate how, LLVMValueRef x, LLVMValueRef y)
{
    match(e, &x, &y);
    return LLVMBuildFCmp(e->b, how, x, y, "");
}

LLVMValueRef e_select(Emit *e, LLVMValueRef c, LLVMValueRef x, LLVMValueRef y)
{
    match(e, &x, &y);
    match(e, &c, &x);
    match(e, &c, &y);
    return LLVMBuildSelect(e->b, c, x, y, "");
}

LLVMValueRef e_min_int(Emit *e, LLVMValueRef x, LLVMValueRef y)
{
    int64_t a, b;
    if (e_is_const(x, &a) && e_is_const(y, &b))
        return e_int(e, dt_min64(a, b));
    return LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, x, y, ""), x, y, "");
}

LLVMValueRef e_add(Emit *e, LLVMValueRef x, LLVMValueRef y)
{
    return !x ? y : !y ? x : LLVMBuildNSWAdd(e->b, x, y, "");
}

LLVMValueRef e_mul(Emit *e, LLVMValueRef x, int64_t factor)
{
    return factor == 1 ? x : LLVMBuildNSWMul(e->b, x, e_int(e, factor), "");
}

LLVMValueRef e_intrinsic(Emit *e, const char *name, const LLVMTypeRef *types, size_t n_types, LLVMValueRef *args,
                         unsigned n_args)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    DT_ASSERT(id != 0, "LLVM has no %s", name);
    LLVMTypeRef  overloads[3];
    LLVMValueRef fn;
    memcpy(overloads, types, n_types * sizeof *types);
    fn = LLVMGetIntrinsicDeclaration(e->mod, id, overloads, n_types);
    return LLVMBuildCall2(e->b, LLVMIntrinsicGetType(e->ctx, id, overloads, n_types), fn, args, n_args, "");
}

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

LLVMValueRef e_at(Emit *e, LLVMTypeRef elem, LLVMValueRef base, LLVMValueRef index, int64_t constant)
{
    LLVMValueRef c = e_int(e, constant);
    if (index)
        base = LLVMBuildGEP2(e->b, elem, base, &index, 1, "");
    return constant ? LLVMBuildGEP2(e->b, elem, base, &c, 1, "") : base;
}

LLVMValueRef e_load(Emit *e, LLVMTypeRef t, LLVMValueRef at, int64_t align)
{
    LLVMValueRef v = LLVMBuildLoad2(e->b, t, at, "");
    LLVMSetAlignment(v, (unsigned)align);
    return v;
}

LLVMValueRef e_store(Emit *e, LLVMValueRef v, LLVMValueRef at, int64_t align)
{
    LLVMValueRef s = LLVMBuildStore(e->b, v, at);
    LLVMSetAlignment(s, (unsigned)align);
    return s;
}

/* ---- Control flow ----------------------------------------------------------------------------------------------- */

static LLVMBasicBlockRef new_block(Emit *e)
{
    return LLVMAppendBasicBlockInContext(e->ctx, e->fn, "");
}

void loop_begin(Emit *e, Loop *l, LLVMValueRef from, LLVMValueRef to, int64_t step, LLVMValueRef *carried, int32_t n)
{
    int64_t lo, hi;
    bool    runs = e_is_const(from, &lo) && e_is_const(to, &hi) && lo < hi;
    *l = (Loop){ .before = LLVMGetInsertBlock(e->b),
                 .head = new_block(e),
                 .exit = new_block(e),
                 .to = to,
                 .step = step,
                 .n = n,
                 .guarded = !runs };
    l->init = arena_copy(e->arena, carried, sizeof *carried * (size_t)n);
    l->phi = ARENA_ARRAY(e->arena, LLVMValueRef, n + 1);
    if (l->guarded)
        LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, from, to, ""), l->head, l->exit);
    else
        LLVMBuildBr(e->b, l->head);
    LLVMPositionBuilderAtEnd(e->b, l->head);
    l->i = LLVMBuildPhi(e->b, e->i64, "");
    LLVMAddIncoming(l->i, &from, &l->before, 1);
    for (int32_t i = 0; i < n; i++) {
        carried[i] = l->phi[i] = LLVMBuildPhi(e->b, LLVMTypeOf(l->init[i]), "");
        LLVMAddIncoming(l->phi[i], &l->init[i], &l->before, 1);
    }
}

void loop_end(Emit *e, Loop *l, LLVMValueRef *carried)
{
    LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->b);
    LLVMValueRef      next = LLVMBuildNSWAdd(e->b, l->i, e_int(e, l->step), "");
    LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, next, l->to, ""), l->head, l->exit);
    LLVMAddIncoming(l->i, &next, &latch, 1);
    LLVMPositionBuilderAtEnd(e->b, l->exit);
    for (int32_t i = 0; i < l->n; i++) {
        LLVMAddIncoming(l->phi[i], &carried[i], &latch, 1);
        LLVMValueRef out = LLVMBuildPhi(e->b, LLVMTypeOf(l->init[i]), "");
        LLVMAddIncoming(out, &carried[i], &latch, 1);
        if (l->guarded)
            LLVMAddIncoming(out, &l->init[i], &l->before, 1);
        carried[i] = out;
    }
}

void if_begin(Emit *e, If *f, LLVMValueRef cond)
{
    LLVMBasicBlockRef then = new_block(e);
    f->exit = new_block(e);
    LLVMBuildCondBr(e->b, cond, then, f->exit);
    LLVMPositionBuilderAtEnd(e->b, then);
}

void if_end(Emit *e, If *f)
{
    LLVMBuildBr(e->b, f->exit);
    LLVMPositionBuilderAtEnd(e->b, f->exit);
}
