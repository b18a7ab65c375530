/* parse_call.c: calls: what CUDA provides, by one table, and functions of the text, which are read again in place of
 * the call. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/parse.h"

#include <string.h>

typedef enum FuncKind {
    FUNC_OP,     /* one instruction: op(args) */
    FUNC_CAST,   /* the same bits as another type */
    FUNC_MINMAX, /* op of int, unsigned, long long, unsigned long long, float: five in a row of the table below */
    FUNC_ABS,
    FUNC_DP4A,
    FUNC_LOAD,
    FUNC_STORE,
    FUNC_SYNC,  /* no value */
    FUNC_SHFL,  /* mask, value, lane, [width] */
    FUNC_VOTE,  /* mask, condition */
    FUNC_ATOMIC /* address, value */
} FuncKind;

// clang-format off
/*      name                 kind         op               result  arguments */
#define SIM_FUNCS(X)                                                                                                   \
    X(fmaf,                  FUNC_OP,     OP_fma,          T_F32, 3, T_F32, T_F32, T_F32)                              \
    X(__fmaf_rn,             FUNC_OP,     OP_fma,          T_F32, 3, T_F32, T_F32, T_F32)                              \
    X(__fadd_rn,             FUNC_OP,     OP_fadd,         T_F32, 2, T_F32, T_F32, 0)                                  \
    X(__fsub_rn,             FUNC_OP,     OP_fsub,         T_F32, 2, T_F32, T_F32, 0)                                  \
    X(__fmul_rn,             FUNC_OP,     OP_fmul,         T_F32, 2, T_F32, T_F32, 0)                                  \
    X(__fdiv_rn,             FUNC_OP,     OP_fdiv,         T_F32, 2, T_F32, T_F32, 0)                                  \
    X(__fsqrt_rn,            FUNC_OP,     OP_fsqrt,        T_F32, 1, T_F32, 0, 0)                                      \
    X(sqrtf,                 FUNC_OP,     OP_fsqrt,        T_F32, 1, T_F32, 0, 0)                                      \
    X(rintf,                 FUNC_OP,     OP_frint,        T_F32, 1, T_F32, 0, 0)                                      \
    X(floorf,                FUNC_OP,     OP_ffloor,       T_F32, 1, T_F32, 0, 0)                                      \
    X(ceilf,                 FUNC_OP,     OP_fceil,        T_F32, 1, T_F32, 0, 0)                                      \
    X(truncf,                FUNC_OP,     OP_ftrunc,       T_F32, 1, T_F32, 0, 0)                                      \
    X(fabsf,                 FUNC_OP,     OP_fabs,         T_F32, 1, T_F32, 0, 0)                                      \
    X(fminf,                 FUNC_OP,     OP_fmin,         T_F32, 2, T_F32, T_F32, 0)                                  \
    X(fmaxf,                 FUNC_OP,     OP_fmax,         T_F32, 2, T_F32, T_F32, 0)                                  \
    X(__float2int_rz,        FUNC_OP,     OP_f2i,          T_I32, 1, T_F32, 0, 0)                                      \
    X(__float2uint_rz,       FUNC_OP,     OP_f2u,          T_U32, 1, T_F32, 0, 0)                                      \
    X(__float2int_rn,        FUNC_OP,     OP_f2i_rn,       T_I32, 1, T_F32, 0, 0)                                      \
    X(__float2uint_rn,       FUNC_OP,     OP_f2u_rn,       T_U32, 1, T_F32, 0, 0)                                      \
    X(__int2float_rn,        FUNC_OP,     OP_i2f,          T_F32, 1, T_I32, 0, 0)                                      \
    X(__uint2float_rn,       FUNC_OP,     OP_u2f,          T_F32, 1, T_U32, 0, 0)                                      \
    X(__int_as_float,        FUNC_CAST,   0,               T_F32, 1, T_I32, 0, 0)                                      \
    X(__uint_as_float,       FUNC_CAST,   0,               T_F32, 1, T_U32, 0, 0)                                      \
    X(__float_as_int,        FUNC_CAST,   0,               T_I32, 1, T_F32, 0, 0)                                      \
    X(__float_as_uint,       FUNC_CAST,   0,               T_U32, 1, T_F32, 0, 0)                                      \
    X(__umulhi,              FUNC_OP,     OP_umulhi,       T_U32, 2, T_U32, T_U32, 0)                                  \
    X(__mulhi,               FUNC_OP,     OP_imulhi,       T_I32, 2, T_I32, T_I32, 0)                                  \
    X(__umul64hi,            FUNC_OP,     OP_umulhi64,     T_U64, 2, T_U64, T_U64, 0)                                  \
    X(__popc,                FUNC_OP,     OP_popc,         T_I32, 1, T_U32, 0, 0)                                      \
    X(__clz,                 FUNC_OP,     OP_clz,          T_I32, 1, T_I32, 0, 0)                                      \
    X(__ffs,                 FUNC_OP,     OP_ffs,          T_I32, 1, T_I32, 0, 0)                                      \
    X(__brev,                FUNC_OP,     OP_brev,         T_U32, 1, T_U32, 0, 0)                                      \
    X(__byte_perm,           FUNC_OP,     OP_byteperm,     T_U32, 3, T_U32, T_U32, T_U32)                              \
    X(__dp4a,                FUNC_DP4A,   OP_dp4a_s,             T_I32, 3, T_I32, T_I32, T_I32)                              \
    X(min,                   FUNC_MINMAX, 0,               T_I32, 2, T_I32, T_I32, 0)                                  \
    X(max,                   FUNC_MINMAX, 1,               T_I32, 2, T_I32, T_I32, 0)                                  \
    X(abs,                   FUNC_ABS,    0,               T_I32, 1, T_I32, 0, 0)                                      \
    X(__ldg,                 FUNC_LOAD,   0,               0,     1, 0, 0, 0)                                          \
    X(__ldca,                FUNC_LOAD,   0,               0,     1, 0, 0, 0)                                          \
    X(__ldcg,                FUNC_LOAD,   0,               0,     1, 0, 0, 0)                                          \
    X(__ldcs,                FUNC_LOAD,   0,               0,     1, 0, 0, 0)                                          \
    X(__ldcv,                FUNC_LOAD,   0,               0,     1, 0, 0, 0)                                          \
    X(__stcg,                FUNC_STORE,  0,               0,     2, 0, 0, 0)                                          \
    X(__stcs,                FUNC_STORE,  0,               0,     2, 0, 0, 0)                                          \
    X(__stwb,                FUNC_STORE,  0,               0,     2, 0, 0, 0)                                          \
    X(__stwt,                FUNC_STORE,  0,               0,     2, 0, 0, 0)                                          \
    X(__syncthreads,         FUNC_SYNC,   OP_barrier,      0,     0, 0, 0, 0)                                          \
    X(__syncwarp,            FUNC_SYNC,   OP_syncwarp,     0,     1, 0, 0, 0)                                          \
    X(__threadfence,         FUNC_SYNC,   OP_fence,        0,     0, 0, 0, 0)                                          \
    X(__shfl_sync,           FUNC_SHFL,   OP_shfl,         0,     3, 0, 0, 0)                                          \
    X(__shfl_up_sync,        FUNC_SHFL,   OP_shfl_up,      0,     3, 0, 0, 0)                                          \
    X(__shfl_down_sync,      FUNC_SHFL,   OP_shfl_down,    0,     3, 0, 0, 0)                                          \
    X(__shfl_xor_sync,       FUNC_SHFL,   OP_shfl_xor,     0,     3, 0, 0, 0)                                          \
    X(__ballot_sync,         FUNC_VOTE,   OP_ballot,       T_U32, 2, T_U32, T_BOOL, 0)                                 \
    X(__any_sync,            FUNC_VOTE,   OP_any,          T_I32, 2, T_U32, T_BOOL, 0)                                 \
    X(__all_sync,            FUNC_VOTE,   OP_all,          T_I32, 2, T_U32, T_BOOL, 0)                                 \
    X(atomicAdd,             FUNC_ATOMIC, ATOMIC_ADD,      0,     2, 0, 0, 0)                                          \
    X(atomicSub,             FUNC_ATOMIC, ATOMIC_SUB,      0,     2, 0, 0, 0)                                          \
    X(atomicMin,             FUNC_ATOMIC, ATOMIC_MIN,      0,     2, 0, 0, 0)                                          \
    X(atomicMax,             FUNC_ATOMIC, ATOMIC_MAX,      0,     2, 0, 0, 0)                                          \
    X(atomicAnd,             FUNC_ATOMIC, ATOMIC_AND,      0,     2, 0, 0, 0)                                          \
    X(atomicOr,              FUNC_ATOMIC, ATOMIC_OR,       0,     2, 0, 0, 0)                                          \
    X(atomicXor,             FUNC_ATOMIC, ATOMIC_XOR,      0,     2, 0, 0, 0)                                          \
    X(atomicExch,            FUNC_ATOMIC, ATOMIC_EXCH,     0,     2, 0, 0, 0)                                          \
    X(atomicInc,             FUNC_ATOMIC, ATOMIC_INC,      0,     2, 0, 0, 0)
// clang-format on

typedef struct Func {
    FuncKind kind;
    int32_t  op;
    SimBase  result;
    int32_t  n;
    SimBase  arg[3];
} Func;
static const Func funcs[] = {
#define X(name, kind, op, result, n, a, b, c) { kind, (int32_t)(op), (SimBase)(result), n, { a, b, c } },
    SIM_FUNCS(X)
#undef X
};

void sim_words_new(SimModule *m)
{
    static const char *const words[] = {
#define X(name) #name,
        SIM_KEYWORDS(X)
#undef X
#define X(name, base, n) #name,
            SIM_VECTORS(X)
#undef X
#define X(name, base, n) "make_" #name,
                SIM_VECTORS(X)
#undef X
                    "x",
        "y", "z", "w",
#define X(name, kind, op, result, n, a, b, c) #name,
        SIM_FUNCS(X)
#undef X
    };
    for (int32_t i = 0; i < DT_COUNT(words); i++) {
        int32_t id = word_id(m, words[i], (int32_t)strlen(words[i]));
        DT_ASSERT(id == i, "word '%s' has id %d, not %d", words[i], id, i);
    }
}

/* ---- What CUDA provides ---- */

static Val call_op(Parser *p, const Func *f, const Val *args)
{
    Val v[3];
    for (int32_t i = 0; i < f->n; i++)
        v[i] = val_convert(p, args[i], sim_type_of(f->arg[i]), false);
    return val_op(p, (SimOp)f->op, sim_type_of(f->result), v, f->n);
}

static Val call_cast(Parser *p, const Func *f, const Val *args)
{
    Val v = val_convert(p, args[0], sim_type_of(f->arg[0]), false);
    v.t.base = f->result;
    return v;
}

static Val call_minmax(Parser *p, const Func *f, const Val *args)
{
    static const SimOp ops[2][T_COUNT] = {
        { [T_I32] = OP_imin, [T_U32] = OP_umin, [T_F32] = OP_fmin, [T_I64] = OP_lmin, [T_U64] = OP_ulmin },
        { [T_I32] = OP_imax, [T_U32] = OP_umax, [T_F32] = OP_fmax, [T_I64] = OP_lmax, [T_U64] = OP_ulmax },
    };
    if (!sim_type_is_scalar(args[0].t) || !sim_type_is_scalar(args[1].t)) {
        parse_error(p, "min and max take numbers");
        return val_none();
    }
    SimBase a = args[0].t.base, b = args[1].t.base, base = a > b ? a : b;
    if (a == T_F32 || b == T_F32)
        base = T_F32;
    base = base < T_I32 ? T_I32 : base;
    Val v[2] = { val_convert(p, args[0], sim_type_of(base), false), val_convert(p, args[1], sim_type_of(base), false) };
    return val_op(p, ops[f->op][base], sim_type_of(base), v, 2);
}

static Val call_abs(Parser *p, const Val *args)
{
    bool real = args[0].t.base == T_F32;
    Val  v = val_convert(p, args[0], sim_type_of(real ? T_F32 : T_I32), false);
    return val_op(p, real ? OP_fabs : OP_iabs, v.t, &v, 1);
}

/* Four products of bytes and a sum, all signed or all unsigned. */
static Val call_dp4a(Parser *p, const Val *args)
{
    bool is_unsigned = args[0].t.base == T_U32;
    Type t = sim_type_of(is_unsigned ? T_U32 : T_I32);
    Val  v[3];
    for (int32_t i = 0; i < 3; i++) {
        if (!p->failed && (args[i].t.base == T_U32) != is_unsigned)
            parse_error(p, "__dp4a takes three ints or three unsigned");
        v[i] = val_convert(p, args[i], t, false);
    }
    return val_op(p, is_unsigned ? OP_dp4a_u : OP_dp4a_s, t, v, 3);
}

static Val call_store(Parser *p, const Val *args)
{
    Val to = val_deref(p, args[0]);
    if (!p->failed && to.t.is_const)
        parse_error(p, "this is const");
    if (!p->failed)
        val_assign(p, to, val_convert(p, args[1], to.t, false));
    return val_none();
}

static Val call_sync(Parser *p, const Func *f, const Val *args, int32_t n)
{
    Val mask = n ? val_convert(p, args[0], sim_type_of(T_U32), false) : val_bits(sim_type_of(T_U32), UINT32_MAX);
    sim_emit_op(p, (SimOp)f->op, 0, 0, 0, val_slot(p, &mask, 0));
    p->k->fences = p->k->fences || f->op == OP_fence;
    return val_none();
}

static Val call_shfl(Parser *p, const Func *f, const Val *args, int32_t n)
{
    Val     mask = val_convert(p, args[0], sim_type_of(T_U32), false), v = args[1];
    Val     lane = val_convert(p, args[2], sim_type_of(T_I32), false);
    int64_t width = 32;
    if (n > 3) {
        Val w = args[3];
        width = w.kind == VAL_CONST && sim_type_is_int(w.t) ? (int64_t)w.bits : 0;
    }
    if (!p->failed && (!sim_type_is_scalar(v.t) || width < 1 || width > 32 || (width & (width - 1))))
        parse_error(p, sim_type_is_scalar(v.t) ? "the width of a shuffle is a constant: 1, 2, 4, 8, 16 or 32"
                                               : "a shuffle moves a number");
    if (p->failed)
        return val_none();
    bool wide = sim_type_is_wide(v.t);
    Val  to = val_new(p, v.t);
    sim_emit(p, (Inst){ .op = (uint16_t)(f->op + (wide ? OP_shfl64 - OP_shfl : 0)),
                        .d = { to.slot[0] },
                        .a = val_slot(p, &v, 0),
                        .b = val_slot(p, &lane, 0),
                        .c = val_slot(p, &mask, 0),
                        .imm = width });
    return to;
}

static Val call_vote(Parser *p, const Func *f, const Val *args)
{
    Val mask = val_convert(p, args[0], sim_type_of(T_U32), false), c = val_condition(p, args[1]);
    Val to = val_new(p, sim_type_of(f->result));
    sim_emit_op(p, (SimOp)f->op, to.slot[0], val_slot(p, &c, 0), 0, val_slot(p, &mask, 0));
    return to;
}

static Val call_atomic(Parser *p, const Func *f, const Val *args)
{
    Val at = val_deref(p, args[0]);
    if (!p->failed &&
        (at.kind != VAL_MEM || at.t.is_const || at.t.n != 1 || (at.t.base != T_I32 && at.t.base != T_U32)))
        parse_error(
            p, "atomics work on int and unsigned in global or shared memory (floats would be summed in any order)");
    if (!p->failed && f->op == ATOMIC_INC && at.t.base != T_U32)
        parse_error(p, "atomicInc works on unsigned");
    Val v = val_convert(p, args[1], sim_type_of(at.t.base), false), old = val_new(p, sim_type_of(at.t.base));
    sim_emit(p, (Inst){ .op = OP_atomic,
                        .base = (uint8_t)at.t.base,
                        .n = 1,
                        .index = at.addr.kind,
                        .d = { old.slot[0], f->op },
                        .a = at.addr.base,
                        .b = at.addr.index,
                        .c = val_slot(p, &v, 0),
                        .region = at.addr.region,
                        .imm = at.addr.imm,
                        .scale = at.addr.scale });
    return old;
}

static Val call_func(Parser *p, const Func *f, const Val *args, int32_t n)
{
    bool more = f->kind == FUNC_SHFL && n == 4, fewer = f->kind == FUNC_SYNC && n == 0;
    if (n != f->n && !more && !fewer) {
        parse_error(p, "%d arguments are expected, not %d", f->n, n);
        return val_none();
    }
    switch (f->kind) {
    case FUNC_OP:
        return call_op(p, f, args);
    case FUNC_CAST:
        return call_cast(p, f, args);
    case FUNC_MINMAX:
        return call_minmax(p, f, args);
    case FUNC_ABS:
        return call_abs(p, args);
    case FUNC_DP4A:
        return call_dp4a(p, args);
    case FUNC_LOAD:
        return val_load(p, val_deref(p, args[0]));
    case FUNC_STORE:
        return call_store(p, args);
    case FUNC_SYNC:
        return call_sync(p, f, args, n);
    case FUNC_SHFL:
        return call_shfl(p, f, args, n);
    case FUNC_VOTE:
        return call_vote(p, f, args);
    case FUNC_ATOMIC:
        return call_atomic(p, f, args);
    }
    return val_none();
}

static Val call_make(Parser *p, int32_t word, const Val *args, int32_t n)
{
    static const Type types[] = {
#define X(name, vector_base, count) { .base = vector_base, .n = count },
        SIM_VECTORS(X)
#undef X
    };
    Type t = types[word - WORD_MAKE - 1];
    if (n != t.n) {
        parse_error(p, "%d components are expected, not %d", t.n, n);
        return val_none();
    }
    Val v = val_new(p, t);
    for (int32_t i = 0; i < n; i++) {
        Val part = val_convert(p, args[i], sim_type_of(t.base), false);
        sim_emit_op(p, OP_mov, v.slot[i], val_slot(p, &part, 0), 0, 0);
    }
    return v;
}

/* ---- Functions of the text ---- */

/* The value's registers stay when those of the function's variables are free again. */
static Val keep_result(Parser *p, Val v, int32_t mark)
{
    p->next_slot = mark;
    if (v.kind == VAL_MEM) {
        int32_t slots[2] = { v.addr.base, v.addr.index };
        for (int32_t i = 0; i < 2; i++)
            if (slots[i] >= 0 && slots[i] + 2 > p->next_slot)
                p->next_slot = slots[i] + 2;
        return v;
    }
    if (v.kind != VAL_REG)
        return v;
    int32_t each = sim_type_is_wide(v.t) ? 2 : 1;
    for (int32_t i = 0; i < v.t.n; i++)
        if (v.slot[i] >= 0 && v.slot[i] + each > p->next_slot)
            p->next_slot = v.slot[i] + each;
    v.temp = v.slot[0] >= mark;
    return v;
}

/* Can the function change variables of its caller? */
static bool writes_locals(const Parser *p, const Val *args, int32_t n)
{
    bool writes = false;
    for (int32_t i = 0; i < n; i++) {
        int32_t region = args[i].addr.region;
        bool    pointer = args[i].kind == VAL_MEM && args[i].t.ptr && !args[i].t.is_const;
        writes = writes || (pointer && (region == REGION_NONE || p->k->regions.at[region].kind == REGION_LOCAL));
    }
    return writes;
}

static Val call_inline(Parser *p, Sym s, const Val *args, int32_t n, int32_t token)
{
    enum { MAX_CALLS = 20000 };
    Val *own = arena_copy(p->a, args, sizeof *args * (size_t)n);
    if (++p->calls > MAX_CALLS) {
        parse_error_at(p, token, "too many calls: all are inlined, at most %d a kernel", MAX_CALLS);
        return val_none();
    }
    Body    body = { .result = s.result, .call = token }, *outer = p->body;
    int32_t at = p->at, floor = p->scope_floor, syms = p->syms.len, left = p->left, mark = p->next_slot;
    Loop   *loop = p->loop;
    Jumps  *jumps = p->jumps;
    if (writes_locals(p, args, n)) /* then no argument may be a variable of the caller itself */
        for (int32_t i = 0; i < n; i++)
            own[i] = args[i].kind == VAL_REG ? val_copy(p, args[i]) : args[i];
    p->body = &body;
    p->loop = NULL;
    p->scope_floor = syms;
    parse_function(p, s.params, &body, own, n);
    p->body = outer;
    p->loop = loop;
    p->jumps = jumps;
    p->scope_floor = floor;
    p->syms.len = syms;
    p->left = left;
    if (p->failed)
        return val_none();
    p->at = at;
    return keep_result(p, body.value, mark);
}

Val parse_call(Parser *p, int32_t name, int32_t token)
{
    VEC(Val) args = { 0 };
    if (!parse_deeper(p))
        return val_none();
    while (!p->failed && !parse_is(p, ')')) {
        Val v = val_load(p, parse_assignment(p));
        vec_push(p->a, &args, v);
        if (!parse_accept(p, ','))
            break;
    }
    parse_expect(p, ')', "after the arguments of a call");
    p->depth--;
    if (p->failed)
        return val_none();
    bool known = name >= WORD_FUNCS && name < WORD_FUNCS + DT_COUNT(funcs);
    for (int32_t i = 0; i < args.len; i++) {
        if (args.at[i].kind == VAL_NONE)
            parse_error_at(p, token, "argument %d has no value", i + 1);
        if (!known || funcs[name - WORD_FUNCS].kind != FUNC_OP)
            args.at[i].temp = false; /* each lives until all are used */
    }
    int32_t at = p->at;
    p->at = token;
    Val        v = val_none();
    const Sym *s = parse_find(p, name);
    if (name > WORD_MAKE && name < WORD_x)
        v = call_make(p, name, args.at, args.len);
    else if (known)
        v = call_func(p, &funcs[name - WORD_FUNCS], args.at, args.len);
    else if (s && s->kind == SYM_FUNC)
        v = call_inline(p, *s, args.at, args.len, token);
    else
        parse_error(p, "there is no function '%s'", parse_token_text(p, token));
    if (!p->failed)
        p->at = at;
    return v;
}
