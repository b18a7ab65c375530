/* parse_value.c: values of expressions and the code that makes them: registers, constants, conversions. A constant is
 * computed by the very function that would run (fold), so it has one meaning. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/parse.h"

#include <string.h>

enum { MAX_SLOTS = 1 << 15, MAX_CODE = 1 << 20 };

const int32_t sim_base_bytes[T_COUNT] = {
#define X(id, text, bytes, is_signed) bytes,
    SIM_BASES(X)
#undef X
};
const char *const sim_base_names[T_COUNT] = {
#define X(id, text, bytes, is_signed) text,
    SIM_BASES(X)
#undef X
};
static const bool base_signed[T_COUNT] = {
#define X(id, text, bytes, is_signed) is_signed,
    SIM_BASES(X)
#undef X
};

/* ---- Types ---- */

bool sim_type_is_wide(Type t)
{
    return t.ptr || t.base == T_I64 || t.base == T_U64;
}

bool sim_type_is_scalar(Type t)
{
    return !t.ptr && !t.n_dims && t.n == 1 && t.base != T_VOID;
}

bool sim_type_is_int(Type t)
{
    return sim_type_is_scalar(t) && t.base != T_F32;
}

bool sim_type_same(Type a, Type b)
{
    bool same = a.base == b.base && a.n == b.n && a.ptr == b.ptr && a.n_dims == b.n_dims;
    for (int32_t i = 0; same && i < a.n_dims; i++)
        same = a.dim[i] == b.dim[i];
    return same;
}

int64_t sim_type_bytes(Type t)
{
    int64_t bytes = (int64_t)sim_base_bytes[t.base] * t.n;
    for (int32_t i = 0; i < t.n_dims; i++)
        bytes *= t.dim[i];
    return bytes;
}

const char *sim_type_name(Arena *a, Type t)
{
    Str s = str_new(a);
    if (t.is_const)
        str_add(&s, "const ");
    static const char *const prefix[T_COUNT] = {
        [T_F32] = "float", [T_I32] = "int", [T_U32] = "uint", [T_U8] = "uchar", [T_S8] = "char"
    };
    if (t.n > 1)
        str_printf(&s, "%s%d", prefix[t.base], t.n);
    else
        str_add(&s, sim_base_names[t.base]);
    if (t.ptr)
        str_add(&s, " *");
    for (int32_t i = 0; i < t.n_dims; i++)
        str_printf(&s, "[%d]", t.dim[i]);
    return s.s;
}

/* ---- Code ---- */

/* May be done for lanes that are not active. */
static bool op_pure(int32_t op)
{
    return (op >= OP_fadd && op <= OP_byteperm) || (op >= OP_ibool && op <= OP_mov) ||
           (op >= OP_i2l && op <= OP_ulmax) || (op >= OP_umulhi64 && op <= OP_mov64) || op == OP_lea;
}

int32_t sim_emit(Parser *p, Inst in)
{
    if (p->failed)
        return 0;
    if (p->k->code.len >= MAX_CODE) {
        parse_error(p, "the kernel is too large: more than %d instructions", MAX_CODE);
        return 0;
    }
    if (!in.token)
        in.token = p->at;
    p->impure += !op_pure(in.op);
    vec_push(p->a, &p->k->code, in);
    return p->k->code.len - 1;
}

int32_t sim_emit_op(Parser *p, SimOp op, int32_t d, int32_t a, int32_t b, int32_t c)
{
    return sim_emit(p, (Inst){ .op = (uint16_t)op, .d = { d }, .a = a, .b = b, .c = c });
}

int32_t slot_new(Parser *p, int32_t n)
{
    int32_t slot = p->next_slot;
    if (n > MAX_SLOTS - slot) {
        parse_error(p, "too many local variables: more than %d", MAX_SLOTS);
        return 0;
    }
    p->next_slot += n;
    if (p->k->slots < p->next_slot)
        p->k->slots = p->next_slot;
    return slot;
}

static int32_t slots_of(Type t)
{
    return sim_type_is_wide(t) ? 2 : 1;
}

static int32_t constant_slot(Parser *p, uint64_t bits, bool wide)
{
    SimKernel *k = p->k;
    for (int32_t i = k->consts.len - 1; i >= 0; i--)
        if (k->consts.at[i].bits == bits && k->consts.at[i].wide == wide)
            return k->consts.at[i].slot;
    k->low_slot -= wide ? 2 : 1;
    vec_push(p->a, &k->consts, (Constant){ bits, k->low_slot, wide });
    return k->low_slot;
}

/* ---- Values ---- */

Val val_none(void)
{
    return (Val){ .kind = VAL_NONE, .t = sim_type_of(T_VOID), .def = SLOT_NONE, .sym = -1, .addr = addr_none() };
}

Val val_bits(Type t, uint64_t bits)
{
    t.is_const = false;
    return (Val){ .kind = VAL_CONST,
                  .t = t,
                  .def = SLOT_NONE,
                  .sym = -1,
                  .bits = sim_type_is_wide(t) ? bits : (uint32_t)bits,
                  .addr = addr_none() };
}

Val val_int(int64_t i)
{
    return val_bits(sim_type_of(T_I32), (uint64_t)i);
}

Val val_new(Parser *p, Type t)
{
    t.is_const = false;
    Val     v = { .kind = VAL_REG, .t = t, .temp = true, .def = SLOT_NONE, .sym = -1, .addr = addr_none() };
    int32_t each = slots_of(t), first = slot_new(p, each * (t.ptr ? 1 : t.n));
    for (int32_t i = 0; i < 4; i++)
        v.slot[i] = first + i * each;
    return v;
}

int32_t val_slot(Parser *p, const Val *v, int32_t component)
{
    if (v->kind == VAL_CONST)
        return constant_slot(p, v->bits, sim_type_is_wide(v->t));
    return v->kind == VAL_REG ? v->slot[component] : 0;
}

/* Gives temporaries on top of the stack back: what is computed of them may take their place. */
static void release(Parser *p, const Val *args, int32_t n, Type result)
{
    for (int32_t i = 0; i < n; i++)
        if (args[i].kind == VAL_REG && slots_of(args[i].t) != slots_of(result))
            return; /* lanes of different width would run over each other */
    for (int32_t i = n - 1; i >= 0; i--)
        if (args[i].kind == VAL_REG && args[i].temp && args[i].t.n == 1 &&
            args[i].slot[0] + slots_of(args[i].t) == p->next_slot)
            p->next_slot -= slots_of(args[i].t);
}

enum { FOLD_LANES = 2 };
static Val fold(Parser *p, SimOp op, Type result, const Val *args, int32_t n)
{
    Inst in = { .op = (uint16_t)op, .d = { 0 }, .a = 2, .b = 4, .c = 6 };
    for (int32_t i = 0; i < n; i++) {
        u32a *to = run_reg(p->fold, 2 + 2 * i);
        for (int32_t lane = 0; lane < FOLD_LANES; lane++) {
            if (sim_type_is_wide(args[i].t))
                ((u64a *)to)[lane] = args[i].bits;
            else
                to[lane] = (uint32_t)args[i].bits;
        }
    }
    sim_op_table[op](p->fold, &in);
    const void *d = run_reg(p->fold, 0);
    return val_bits(result, sim_type_is_wide(result) ? *(const u64a *)d : *(const u32a *)d);
}

static bool is_division(SimOp op)
{
    return (op >= OP_idiv && op <= OP_urem) || (op >= OP_ldiv && op <= OP_ulrem);
}

Val val_op(Parser *p, SimOp op, Type result, const Val *args, int32_t n)
{
    static const struct {
        SimOp var, fixed;
    } shifts[] = { { OP_ishl, OP_ishlc }, { OP_ishr, OP_ishrc }, { OP_ushr, OP_ushrc } };
    if (p->failed)
        return val_none();
    bool constant = true;
    for (int32_t i = 0; i < n; i++)
        constant = constant && args[i].kind == VAL_CONST;
    bool harmless = is_division(op) && args[1].kind == VAL_CONST && args[1].bits;
    if (constant && (op_pure(op) || harmless))
        return fold(p, op, result, args, n);
    Inst    in = { .op = (uint16_t)op };
    int32_t slots[3] = { 0 };
    for (int32_t i = 0; i < n; i++)
        slots[i] = val_slot(p, &args[i], 0);
    for (int32_t i = 0; i < DT_COUNT(shifts); i++) {
        if (op == shifts[i].var && args[1].kind == VAL_CONST) {
            in.op = (uint16_t)shifts[i].fixed;
            in.imm = (int64_t)args[1].bits;
        }
    }
    release(p, args, n, result);
    Val v = val_new(p, result);
    in.d[0] = v.slot[0];
    in.a = slots[0];
    in.b = slots[1];
    in.c = slots[2];
    int32_t impure = p->impure;
    sim_emit(p, in);
    if (harmless)
        p->impure = impure;
    return v;
}

Val val_component(Parser *p, Val v, int32_t component)
{
    Val part = v;
    part.t.n = 1;
    if (v.kind == VAL_MEM) {
        part.addr.imm += (int64_t)component * sim_base_bytes[v.t.base];
        return part;
    }
    if (v.kind != VAL_REG) {
        parse_error(p, "a vector is expected before the dot");
        return val_none();
    }
    part.slot[0] = v.slot[component];
    part.temp = false;
    part.addr.imm += (int64_t)component * sim_base_bytes[v.t.base]; /* an element of a local array has one, too */
    if (part.def != SLOT_NONE)
        part.def += component;
    return part;
}

Val val_load(Parser *p, Val v)
{
    if (v.kind == VAL_MEM && v.t.n_dims && !v.t.ptr) { /* an array becomes a pointer to its first element */
        Type t = v.t;
        t.ptr = true;
        t.n_dims--;
        memmove(t.dim, t.dim + 1, sizeof t.dim - sizeof t.dim[0]);
        return val_pointer(p, t, v.addr);
    }
    if (!v.lvalue)
        return v;
    if (v.kind == VAL_MEM)
        return val_read(p, v);
    if (v.def != SLOT_NONE)
        sim_emit(p, (Inst){ .op = OP_need, .a = v.def, .n = (uint8_t)(v.t.ptr ? 1 : v.t.n) });
    v.lvalue = v.temp = false;
    v.t.is_const = v.t.is_const && v.t.ptr;
    v.def = SLOT_NONE;
    v.sym = -1;
    if (v.t.ptr) {
        Addr a = addr_none();
        a.region = v.addr.region;
        a.base = v.slot[0];
        return val_pointer(p, v.t, a);
    }
    return v;
}

Val val_copy(Parser *p, Val v)
{
    Val to = val_new(p, v.t);
    for (int32_t i = 0; i < v.t.n; i++)
        sim_emit_op(p, sim_type_is_wide(v.t) ? OP_mov64 : OP_mov, to.slot[i], val_slot(p, &v, i), 0, 0);
    return to;
}

Val val_select(Parser *p, Val c, Val a, Val b)
{
    bool wide = sim_type_is_wide(a.t);
    if (c.kind == VAL_CONST)
        return c.bits ? a : b;
    if (a.t.n == 1)
        return val_op(p, wide ? OP_select64 : OP_select, a.t, (Val[]){ c, a, b }, 3);
    Val to = val_new(p, a.t);
    for (int32_t i = 0; i < a.t.n; i++)
        sim_emit_op(p, OP_select, to.slot[i], val_slot(p, &c, 0), val_slot(p, &a, i), val_slot(p, &b, i));
    return to;
}

void val_assign(Parser *p, Val to, Val v)
{
    if (p->failed)
        return;
    if (to.kind == VAL_MEM) {
        val_write(p, to, v);
        return;
    }
    bool    wide = sim_type_is_wide(to.t);
    int32_t n = to.t.ptr ? 1 : to.t.n;
    if (to.t.ptr)
        v = val_pointer_register(p, v, to.addr.region);
    for (int32_t i = 0; i < n; i++)
        sim_emit_op(p, wide ? OP_set64 : OP_set, to.slot[i], val_slot(p, &v, i), 0, 0);
    if (to.def != SLOT_NONE)
        sim_emit(p, (Inst){ .op = OP_def, .d = { to.def }, .n = (uint8_t)n });
}

/* ---- Conversions ---- */

/* In registers there are four kinds of numbers; small integers are 32-bit ones of a smaller range. */
typedef enum Kind { KIND_I, KIND_U, KIND_L, KIND_UL, KIND_F, KIND_COUNT } Kind;
static Kind kind_of(SimBase b)
{
    static const Kind kinds[T_COUNT] = { [T_U32] = KIND_U, [T_I64] = KIND_L, [T_U64] = KIND_UL, [T_F32] = KIND_F };
    return kinds[b];
}

static Val convert_kind(Parser *p, Val v, Type t)
{
    // clang-format off
    static const SimOp ops[KIND_COUNT][KIND_COUNT] = { /* from, to; 0: the bits stay */
        /*             I        U        L        UL       F */
        [KIND_I]  = { 0,       0,       OP_i2l,  OP_i2l,  OP_i2f },
        [KIND_U]  = { 0,       0,       OP_u2l,  OP_u2l,  OP_u2f },
        [KIND_L]  = { OP_l2i,  OP_l2i,  0,       0,       OP_l2f },
        [KIND_UL] = { OP_l2i,  OP_l2i,  0,       0,       OP_ul2f },
        [KIND_F]  = { OP_f2i,  OP_f2u,  OP_f2l,  OP_f2ul, 0 },
    };
    static const SimOp narrow[T_COUNT] = {
        [T_S8] = OP_ext_s8, [T_U8] = OP_ext_u8, [T_S16] = OP_ext_s16, [T_U16] = OP_ext_u16,
    };
    // clang-format on
    SimOp op = ops[kind_of(v.t.base)][kind_of(t.base)];
    if (op)
        v = val_op(p, op, t, &v, 1);
    bool fits =
        v.t.base == t.base || (v.t.base == T_BOOL) || (!base_signed[v.t.base] && t.base == T_U16 && v.t.base == T_U8);
    if (op)
        fits = false;
    if (narrow[t.base] && !fits)
        v = val_op(p, narrow[t.base], t, &v, 1);
    v.t = t;
    return v;
}

static Val convert_bool(Parser *p, Val v)
{
    if (v.t.base == T_BOOL)
        return v;
    SimOp op = v.t.base == T_F32 ? OP_fbool : sim_type_is_wide(v.t) ? OP_lbool : OP_ibool;
    return val_op(p, op, sim_type_of(T_BOOL), &v, 1);
}

Val val_convert(Parser *p, Val v, Type t, bool cast)
{
    v = val_load(p, v);
    t.is_const = t.is_const && t.ptr;
    if (p->failed || v.kind == VAL_NONE) {
        parse_error(p, "a value is expected");
        return val_none();
    }
    if (t.ptr && v.t.ptr && (cast || (sim_type_same(t, v.t) && (t.is_const || !v.t.is_const))))
        return val_pointer_cast(p, v, t);
    if (sim_type_is_scalar(t) && sim_type_is_scalar(v.t))
        return t.base == T_BOOL ? convert_bool(p, v) : convert_kind(p, v, t);
    if (cast && v.t.ptr && sim_type_is_wide(t) && sim_type_is_scalar(t)) {
        v = val_pointer_register(p, v, REGION_NONE);
        v.t = t;
        return v;
    }
    if (!t.ptr && !v.t.ptr && sim_type_same(t, v.t))
        return v;
    parse_error(p, "%s cannot be made %s", sim_type_name(p->a, v.t), sim_type_name(p->a, t));
    return val_none();
}

Val val_condition(Parser *p, Val v)
{
    v = val_load(p, v);
    if (!sim_type_is_scalar(v.t)) {
        parse_error(p, "a condition is expected, not %s", sim_type_name(p->a, v.t));
        return val_none();
    }
    return convert_bool(p, v);
}
