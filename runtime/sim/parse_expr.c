/* parse_expr.c: expressions, by precedence. Both sides of && || ?: are computed for all lanes where that does no harm;
 * where they load, store or may fault, under a mask. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/parse.h"

#include <string.h>

/* ---- Two operands ---- */

/* NONE: the operator does not exist for such numbers. */
#define OP_NONE OP_COUNT
typedef struct BinOp {
    int32_t punct, precedence;
    SimOp   i, u, l, ul, f;
    bool    swap, compare;
} BinOp;
enum { PREC_OR = 1, PREC_AND = 2, PREC_BIT_OR = 3 };
// clang-format off
static const BinOp bin_ops[] = {
    { '*', 10, OP_imul, OP_imul, OP_lmul, OP_lmul, OP_fmul, false, false },
    { '/', 10, OP_idiv, OP_udiv, OP_ldiv, OP_uldiv, OP_fdiv, false, false },
    { '%', 10, OP_irem, OP_urem, OP_lrem, OP_ulrem, OP_NONE, false, false },
    { '+', 9, OP_iadd, OP_iadd, OP_ladd, OP_ladd, OP_fadd, false, false },
    { '-', 9, OP_isub, OP_isub, OP_lsub, OP_lsub, OP_fsub, false, false },
    { PUNCT2('<', '<'), 8, OP_ishl, OP_ishl, OP_lshl, OP_lshl, OP_NONE, false, false },
    { PUNCT2('>', '>'), 8, OP_ishr, OP_ushr, OP_lshr, OP_ulshr, OP_NONE, false, false },
    { '<', 7, OP_ilt, OP_ult, OP_llt, OP_ullt, OP_flt, false, true },
    { '>', 7, OP_ilt, OP_ult, OP_llt, OP_ullt, OP_flt, true, true },
    { PUNCT2('<', '='), 7, OP_ile, OP_ule, OP_lle, OP_ulle, OP_fle, false, true },
    { PUNCT2('>', '='), 7, OP_ile, OP_ule, OP_lle, OP_ulle, OP_fle, true, true },
    { PUNCT2('=', '='), 6, OP_ieq, OP_ieq, OP_leq, OP_leq, OP_feq, false, true },
    { PUNCT2('!', '='), 6, OP_ine, OP_ine, OP_lne, OP_lne, OP_fne, false, true },
    { '&', 5, OP_iand, OP_iand, OP_land, OP_land, OP_NONE, false, false },
    { '^', 4, OP_ixor, OP_ixor, OP_lxor, OP_lxor, OP_NONE, false, false },
    { '|', PREC_BIT_OR, OP_ior, OP_ior, OP_lor, OP_lor, OP_NONE, false, false },
    { PUNCT2('&', '&'), PREC_AND, OP_NONE, OP_NONE, OP_NONE, OP_NONE, OP_NONE, false, false },
    { PUNCT2('|', '|'), PREC_OR, OP_NONE, OP_NONE, OP_NONE, OP_NONE, OP_NONE, false, false },
};
static const struct { int32_t assign, op; } assign_ops[] = {
    { PUNCT2('+', '='), '+' }, { PUNCT2('-', '='), '-' }, { PUNCT2('*', '='), '*' }, { PUNCT2('/', '='), '/' },
    { PUNCT2('%', '='), '%' }, { PUNCT2('&', '='), '&' }, { PUNCT2('^', '='), '^' }, { PUNCT2('|', '='), '|' },
    { PUNCT3('<', '<', '='), PUNCT2('<', '<') }, { PUNCT3('>', '>', '='), PUNCT2('>', '>') },
};
// clang-format on

static const BinOp *find_bin_op(int32_t punct)
{
    for (int32_t i = 0; i < DT_COUNT(bin_ops); i++)
        if (bin_ops[i].punct == punct)
            return &bin_ops[i];
    return NULL;
}

/* Small integers compute as int. */
static SimBase promoted(SimBase b)
{
    return b < T_I32 ? T_I32 : b;
}

static SimBase common_base(SimBase a, SimBase b)
{
    a = promoted(a);
    b = promoted(b);
    if (a == T_F32 || b == T_F32)
        return T_F32;
    if (a == T_U64 || b == T_U64)
        return T_U64;
    if (a == T_I64 || b == T_I64)
        return T_I64;
    return a == T_U32 || b == T_U32 ? T_U32 : T_I32;
}

static SimOp op_of(const BinOp *o, SimBase b)
{
    switch (b) {
    case T_F32:
        return o->f;
    case T_I64:
        return o->l;
    case T_U64:
        return o->ul;
    case T_U32:
        return o->u;
    default:
        return o->i;
    }
}

static Val pointer_pair(Parser *p, const BinOp *o, Val a, Val b)
{
    Type t = a.t;
    if (!sim_type_same(a.t, b.t) || (o->punct != '-' && !o->compare) || !sim_type_bytes(t)) {
        parse_error(p, "these pointers cannot be used together like this");
        return val_none();
    }
    int32_t region = a.addr.region == b.addr.region ? a.addr.region : REGION_NONE;
    Val     args[2] = { val_pointer_register(p, a, region), val_pointer_register(p, b, region) };
    args[0].t = args[1].t = sim_type_of(T_I64);
    if (o->compare) {
        Val swapped[2] = { args[o->swap], args[!o->swap] };
        return val_op(p, o->l, sim_type_of(T_BOOL), swapped, 2);
    }
    Val diff[2] = { val_op(p, OP_lsub, sim_type_of(T_I64), args, 2),
                    val_bits(sim_type_of(T_I64), (uint64_t)sim_type_bytes(t)) };
    return val_op(p, OP_ldiv, sim_type_of(T_I64), diff, 2);
}

static Val binary(Parser *p, const BinOp *o, Val a, Val b)
{
    a = val_load(p, a);
    b = val_load(p, b);
    if (p->failed)
        return val_none();
    if (a.t.ptr && b.t.ptr)
        return pointer_pair(p, o, a, b);
    if (a.t.ptr && (o->punct == '+' || o->punct == '-'))
        return val_pointer_add(p, a, b, o->punct == '+' ? 1 : -1);
    if (b.t.ptr && o->punct == '+')
        return val_pointer_add(p, b, a, 1);
    if (!sim_type_is_scalar(a.t) || !sim_type_is_scalar(b.t)) {
        parse_error(p, "no such operation on %s and %s", sim_type_name(p->a, a.t), sim_type_name(p->a, b.t));
        return val_none();
    }
    bool    shift = o->precedence == 8;
    SimBase base = shift ? promoted(a.t.base) : common_base(a.t.base, b.t.base);
    SimOp   op = op_of(o, base);
    if (op == OP_NONE || (shift && b.t.base == T_F32)) {
        parse_error(p, "no such operation on floats");
        return val_none();
    }
    a = val_convert(p, a, sim_type_of(base), false);
    b = val_convert(p, b, sim_type_of(shift ? T_I32 : base), false);
    Val args[2] = { o->swap ? b : a, o->swap ? a : b };
    return val_op(p, op, sim_type_of(o->compare ? T_BOOL : base), args, 2);
}

/* ---- Parts that only some lanes compute ---- */

static void code_delete(Parser *p, int32_t at)
{
    if (p->failed)
        return;
    Inst *code = p->k->code.at;
    memmove(code + at, code + at + 1, sizeof *code * (size_t)(p->k->code.len - at - 1));
    p->k->code.len--;
}

/* A condition in a register that nothing changes, and the masks around what depends on it. */
typedef struct Guard {
    Val     c;
    int32_t wait, at_if, at_else, impure;
} Guard;

static Guard guard_open(Parser *p, Val c, bool negate)
{
    Guard g = { .c = c, .at_else = -1 };
    if (!g.c.temp && g.c.kind == VAL_REG)
        g.c = val_copy(p, g.c);
    Val test = g.c;
    test.temp = false;
    if (negate)
        test = val_op(p, OP_lnot, sim_type_of(T_BOOL), &test, 1);
    g.wait = slot_new(p, 2);
    g.at_if = sim_emit_op(p, OP_if, g.wait, val_slot(p, &test, 0), 0, 0);
    g.impure = p->impure;
    return g;
}

static void guard_else(Parser *p, Guard *g)
{
    g->at_else = sim_emit(p, (Inst){ .op = OP_else, .d = { g->wait, g->wait + 1 } });
    p->impure--; /* it goes if there is nothing else */
}

static void guard_close(Parser *p, const Guard *g)
{
    if (p->failed)
        return;
    if (p->impure == g->impure) { /* no harm in computing it for all */
        if (g->at_else >= 0)
            code_delete(p, g->at_else);
        code_delete(p, g->at_if);
        p->impure--; /* of the `if` */
        return;
    }
    Inst *code = p->k->code.at;
    code[g->at_if].target = g->at_else >= 0 ? g->at_else : p->k->code.len;
    if (g->at_else >= 0)
        code[g->at_else].target = p->k->code.len;
    sim_emit_op(p, OP_join, g->wait + (g->at_else >= 0), 0, 0, 0);
    p->impure += g->at_else >= 0;
}

static Val parse_binary(Parser *p, int32_t least);

static Val logical(Parser *p, const BinOp *o, Val a)
{
    bool  is_or = o->precedence == PREC_OR;
    Guard g = guard_open(p, val_condition(p, a), is_or);
    Val   b = val_condition(p, parse_binary(p, o->precedence + 1));
    guard_close(p, &g);
    if (!is_or)
        return val_op(p, OP_iand, sim_type_of(T_BOOL), (Val[]){ g.c, b }, 2);
    Val one = val_bits(sim_type_of(T_BOOL), 1);
    return val_op(p, OP_select, sim_type_of(T_BOOL), (Val[]){ g.c, one, b }, 3);
}

static Val parse_unary(Parser *p);

static Val parse_binary(Parser *p, int32_t least)
{
    Val a = parse_unary(p);
    while (!p->failed) {
        const Token *t = parse_peek(p, 0);
        const BinOp *o = t->kind == TOK_PUNCT ? find_bin_op(t->id) : NULL;
        if (!o || o->precedence < least)
            break;
        p->at++;
        if (o->precedence <= PREC_AND) {
            a = logical(p, o, a);
            continue;
        }
        a = val_load(p, a);
        Val b = parse_binary(p, o->precedence + 1);
        a = binary(p, o, a, b);
    }
    return a;
}

static Val select_pointer(Parser *p, Val c, Val a, Val b)
{
    if (!sim_type_same(a.t, b.t)) {
        parse_error(p, "the two pointers of ?: differ in type");
        return val_none();
    }
    int32_t region = a.addr.region == b.addr.region ? a.addr.region : REGION_NONE;
    Type    t = a.t;
    t.is_const = a.t.is_const || b.t.is_const;
    a = val_pointer_register(p, a, region);
    b = val_pointer_register(p, b, region);
    Val  v = val_op(p, OP_select64, t, (Val[]){ c, a, b }, 3);
    Addr at = addr_none();
    at.region = region;
    at.base = v.slot[0];
    return val_pointer(p, t, at);
}

/* What the arms of ?: become. */
static Type common_type(Parser *p, Val a, Val b)
{
    if (sim_type_is_scalar(a.t) && sim_type_is_scalar(b.t))
        return a.t.base == b.t.base ? a.t : sim_type_of(common_base(a.t.base, b.t.base));
    if (!sim_type_same(a.t, b.t) || a.kind == VAL_NONE)
        parse_error(p, "the arms of ?: are %s and %s", sim_type_name(p->a, a.t), sim_type_name(p->a, b.t));
    return a.t;
}

static Val parse_conditional(Parser *p)
{
    Val c = parse_binary(p, PREC_OR);
    if (p->failed || !parse_accept(p, '?'))
        return c;
    if (!parse_deeper(p))
        return val_none();
    Guard g = guard_open(p, val_condition(p, c), false);
    Val   a = val_load(p, parse_expr(p));
    parse_expect(p, ':', "in ?:");
    guard_else(p, &g);
    Val b = val_load(p, parse_assignment(p));
    guard_close(p, &g);
    p->depth--;
    if (p->failed)
        return val_none();
    if (a.t.ptr && b.t.ptr)
        return select_pointer(p, g.c, a, b);
    Type t = common_type(p, a, b);
    a.temp = a.temp && sim_type_same(a.t, t);
    a = val_convert(p, a, t, false);
    b = val_convert(p, b, t, false);
    return p->failed ? val_none() : val_select(p, g.c, a, b);
}

/* ---- Assignment ---- */

static bool assignable(Parser *p, const Val *v)
{
    if (p->failed)
        return false;
    bool array = v->t.n_dims && !v->t.ptr;
    if (!v->lvalue && v->sym >= 0)
        parse_error(p, "this is const");
    else if (!v->lvalue || array)
        parse_error(p, "this cannot be assigned to");
    else if (v->t.ptr ? v->t.fixed : v->t.is_const)
        parse_error(p, "this is const");
    return !p->failed;
}

static Type stored_type(Type t)
{
    if (!t.ptr)
        t.is_const = false;
    return t;
}

Val parse_assignment(Parser *p)
{
    if (!parse_deeper(p))
        return val_none();
    Val          to = parse_conditional(p);
    const Token *t = parse_peek(p, 0);
    const BinOp *o = NULL;
    for (int32_t i = 0; i < DT_COUNT(assign_ops); i++)
        if (parse_is(p, assign_ops[i].assign))
            o = find_bin_op(assign_ops[i].op);
    p->depth--;
    if (p->failed || t->kind != TOK_PUNCT || (t->id != '=' && !o))
        return to;
    int32_t at = p->at++;
    Val     v = val_load(p, parse_assignment(p));
    int32_t behind = p->at;
    p->at = at; /* mistakes are reported here */
    if (assignable(p, &to)) {
        if (o) {
            v.temp = false;
            v = binary(p, o, to, v);
        }
        val_assign(p, to, val_convert(p, v, stored_type(to.t), false));
    }
    p->at = p->failed ? p->at : behind;
    return to;
}

Val parse_expr(Parser *p)
{
    Val v = parse_assignment(p);
    while (!p->failed && parse_accept(p, ','))
        v = parse_assignment(p);
    return v;
}

Val parse_paren_condition(Parser *p)
{
    parse_expect(p, '(', "before a condition");
    Val c = val_condition(p, parse_expr(p));
    parse_expect(p, ')', "after a condition");
    return c;
}

/* ---- One operand ---- */

static Val step(Parser *p, Val to, int32_t sign, bool old)
{
    if (!assignable(p, &to))
        return val_none();
    Val now = val_load(p, to), before = now, one = val_int(1);
    if (old && !to.t.ptr && now.kind == VAL_REG && !now.temp && sim_type_is_scalar(now.t))
        before = val_copy(p, now);
    if (old && to.t.ptr) {
        before = val_pointer_register(p, now, to.addr.region);
        before = val_copy(p, before);
        Addr a = addr_none();
        a.region = to.addr.region;
        a.base = before.slot[0];
        before = val_pointer(p, to.t, a);
    }
    now.temp = false;
    Val next = binary(p, find_bin_op(sign > 0 ? '+' : '-'), now, one);
    val_assign(p, to, val_convert(p, next, stored_type(to.t), false));
    return old ? before : to;
}

static Val parse_member(Parser *p, Val v)
{
    int32_t name = parse_name(p, "a component: x, y, z or w");
    if (p->failed)
        return v;
    if (v.t.ptr || v.t.n_dims || v.t.n < 2 || name < WORD_x || name - WORD_x >= v.t.n) {
        parse_error_at(p, p->at - 1, "%s has no '%s'", sim_type_name(p->a, v.t), parse_token_text(p, p->at - 1));
        return val_none();
    }
    return val_component(p, v, name - WORD_x);
}

static Val parse_builtin_variable(Parser *p, int32_t word)
{
    static const int32_t slots[] = { SLOT_THREAD, SLOT_BLOCK, SLOT_BLOCK_DIM, SLOT_GRID_DIM };
    parse_expect(p, '.', "after a built-in variable");
    int32_t part = parse_name(p, "x");
    if (!p->failed && part != WORD_x)
        parse_error_at(p, p->at - 1, "grids have one dimension here: x alone is simulated");
    Val v = { .kind = VAL_REG, .t = sim_type_of(T_U32), .def = SLOT_NONE, .sym = -1, .addr = addr_none() };
    v.slot[0] = slots[word - KW_threadIdx];
    return v;
}

static Val parse_name_value(Parser *p)
{
    int32_t token = p->at, id = parse_peek(p, 0)->id;
    if (id >= KW_threadIdx && id <= KW_gridDim) {
        p->at++;
        return parse_builtin_variable(p, id);
    }
    if (parse_accept_word(p, KW_true) || parse_accept_word(p, KW_false))
        return val_bits(sim_type_of(T_BOOL), id == KW_true);
    if (id < KW_COUNT) {
        parse_error(p, "an expression is expected, not '%s'", parse_token_text(p, token));
        return val_none();
    }
    p->at++;
    if (parse_accept(p, '('))
        return parse_call(p, id, token);
    Sym *s = parse_find(p, id);
    if (!s || s->kind == SYM_FUNC) {
        parse_error_at(p, token, s ? "'%s' is a function" : "'%s' is not declared", parse_token_text(p, token));
        return val_none();
    }
    Val v = s->val;
    v.sym = s->kind == SYM_VAR ? (int32_t)(s - p->syms.at) : -1;
    if (s->kind == SYM_TABLE)
        v.addr.region = p->k->n_params + s->region;
    return v;
}

static Val parse_primary(Parser *p)
{
    const Token *t = parse_peek(p, 0);
    Val          v = val_none();
    if (t->kind == TOK_INT || t->kind == TOK_FLOAT) {
        p->at++;
        return val_bits(sim_type_of(t->base), t->value.i);
    }
    if (t->kind == TOK_NAME)
        return parse_name_value(p);
    if (parse_accept(p, '(')) {
        v = parse_expr(p);
        parse_expect(p, ')', "after an expression");
        return v;
    }
    if (t->kind == TOK_END)
        parse_error(p, "an expression is expected, not the end");
    else
        parse_error(p, "an expression is expected, not '%s'", parse_token_text(p, p->at));
    return v;
}

static Val parse_postfix(Parser *p)
{
    Val v = parse_primary(p);
    while (!p->failed) {
        if (parse_accept(p, '[')) {
            Val base = val_load(p, v), index = val_load(p, parse_expr(p));
            parse_expect(p, ']', "after an index");
            v = p->failed ? val_none() : val_deref(p, val_pointer_add(p, base, index, 1));
        } else if (parse_accept(p, '.')) {
            v = parse_member(p, v);
        } else if (parse_accept(p, PUNCT2('+', '+'))) {
            v = step(p, v, 1, true);
        } else if (parse_accept(p, PUNCT2('-', '-'))) {
            v = step(p, v, -1, true);
        } else {
            break;
        }
    }
    return v;
}

static bool at_cast(const Parser *p)
{
    Parser ahead = *p; /* nothing is emitted by looking */
    ahead.at++;
    return parse_is(p, '(') && parse_at_type(&ahead);
}

static Val parse_sizeof(Parser *p)
{
    parse_expect(p, '(', "after sizeof");
    if (!p->failed && !parse_at_type(p)) {
        parse_error(p, "sizeof of a type is expected");
        return val_none();
    }
    Type t = parse_dims(p, parse_type_name(p));
    parse_expect(p, ')', "after the type of sizeof");
    return val_bits(sim_type_of(T_U64), t.ptr ? 8 : (uint64_t)sim_type_bytes(t));
}

static Val parse_sign(Parser *p, int32_t punct)
{
    Val v = val_load(p, parse_unary(p));
    if (p->failed)
        return val_none();
    bool real = v.t.base == T_F32;
    if (punct == '!') {
        v = val_condition(p, v);
        return val_op(p, OP_lnot, sim_type_of(T_BOOL), &v, 1);
    }
    if (!sim_type_is_scalar(v.t) || (punct == '~' && real)) {
        parse_error(p, "no such operation on %s", sim_type_name(p->a, v.t));
        return val_none();
    }
    v = val_convert(p, v, sim_type_of(promoted(v.t.base)), false);
    bool  wide = sim_type_is_wide(v.t);
    SimOp neg = real ? OP_fneg : wide ? OP_lneg : OP_ineg;
    if (punct == '+')
        return v;
    return val_op(p, punct == '-' ? neg : wide ? OP_linv : OP_inot, v.t, &v, 1);
}

static Val parse_cast(Parser *p)
{
    p->at++;
    Type t = parse_type_name(p);
    parse_expect(p, ')', "after the type of a cast");
    Val v = parse_unary(p);
    if (t.base == T_VOID && !t.ptr)
        return val_none();
    return p->failed ? val_none() : val_convert(p, v, t, true);
}

static Val parse_prefix(Parser *p)
{
    static const char signs[] = "+-!~";
    const Token      *t = parse_peek(p, 0);
    if (parse_accept(p, PUNCT2('+', '+')))
        return step(p, parse_unary(p), 1, false);
    if (parse_accept(p, PUNCT2('-', '-')))
        return step(p, parse_unary(p), -1, false);
    if (t->kind == TOK_PUNCT && t->id < 128 && strchr(signs, t->id)) {
        p->at++;
        return parse_sign(p, t->id);
    }
    if (parse_accept(p, '*')) {
        Val v = val_load(p, parse_unary(p));
        return val_deref(p, v);
    }
    if (parse_accept(p, '&')) {
        Val v = parse_unary(p);
        return val_address(p, v);
    }
    if (at_cast(p))
        return parse_cast(p);
    if (parse_accept_word(p, KW_sizeof))
        return parse_sizeof(p);
    return parse_postfix(p);
}

static Val parse_unary(Parser *p)
{
    if (!parse_deeper(p))
        return val_none();
    Val v = parse_prefix(p);
    p->depth--;
    return v;
}
