/* parse_decl.c: declarations: what a name stands for. A constant stands for itself, a variable for registers
 * (its initialiser's own, where these are free), a pointer that is never changed for its address, an array for local or
 * shared memory. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/parse.h"

#include <string.h>

/* ---- What happens to a name later ---- */

int32_t parse_scope_end(const Parser *p)
{
    int32_t depth = 0, i = p->at;
    for (; i < p->m->tokens.len - 1; i++) {
        const Token *t = &p->m->tokens.at[i];
        if (t->kind != TOK_PUNCT)
            continue;
        depth += t->id == '{';
        depth -= t->id == '}';
        if (depth < 0)
            break;
    }
    return i;
}

static bool ends_operand(const Token *t)
{
    return t->kind != TOK_PUNCT || t->id == ')' || t->id == ']';
}

static int32_t assignment_kind(int32_t punct)
{
    static const int32_t compound[] = { PUNCT2('+', '='), PUNCT2('-', '='), PUNCT2('+', '+'), PUNCT2('-', '-') };
    static const int32_t others[] = { '=',
                                      PUNCT2('*', '='),
                                      PUNCT2('/', '='),
                                      PUNCT2('%', '='),
                                      PUNCT2('&', '='),
                                      PUNCT2('|', '='),
                                      PUNCT2('^', '='),
                                      PUNCT3('<', '<', '='),
                                      PUNCT3('>', '>', '=') };
    for (int32_t i = 0; i < DT_COUNT(compound); i++)
        if (punct == compound[i])
            return 1;
    for (int32_t i = 0; i < DT_COUNT(others); i++)
        if (punct == others[i])
            return 2;
    return 0;
}

int32_t parse_assigned(const Parser *p, int32_t name, int32_t from, int32_t to)
{
    const Token *t = p->m->tokens.at;
    int32_t      most = 0;
    for (int32_t i = from; i < to; i++) {
        if (t[i].kind != TOK_NAME || t[i].id != name)
            continue;
        int32_t kind = 0;
        if (t[i + 1].kind == TOK_PUNCT)
            kind = assignment_kind(t[i + 1].id);
        if (t[i + 1].kind == TOK_PUNCT && t[i + 1].id == '.') /* v.x = */
            kind = 2;
        if (i && t[i - 1].kind == TOK_PUNCT && (t[i - 1].id == PUNCT2('+', '+') || t[i - 1].id == PUNCT2('-', '-')))
            kind = dt_max64(kind, 1);
        if (i > 1 && t[i - 1].kind == TOK_PUNCT && t[i - 1].id == '&' && !ends_operand(&t[i - 2]))
            kind = 2;
        most = kind > most ? kind : most;
    }
    return most;
}

/* ---- Initialisers ---- */

int32_t parse_region(Parser *p, Region r)
{
    enum { MAX_REGIONS = 30000 }; /* a pointer's tag has 16 bits */
    if (p->k->regions.len >= MAX_REGIONS)
        parse_error(p, "too many arrays: more than %d", MAX_REGIONS);
    else
        vec_push(p->a, &p->k->regions, r);
    return p->k->regions.len - 1;
}

static void store_constant(uint8_t *to, const Val *v)
{
    memcpy(to, &v->bits, (size_t)sim_base_bytes[v->t.base]); /* little-endian, as GPUs are */
}

/* { a, { b, c } }: numbers in order; braces within are a row of an array or a vector, filled up with zeros. */
typedef struct Filler {
    Type    array, t; /* all of it; one number */
    int64_t limit;    /* 0: as many as there are */
    VEC(Val) vals;
} Filler;

/* Numbers in one part at this depth of braces. */
static int64_t part_size(const Type *t, int32_t level)
{
    int64_t n = level < t->n_dims ? t->n : 1;
    for (int32_t i = level + 1; i < t->n_dims; i++)
        n *= t->dim[i];
    return n;
}

static void add_element(Parser *p, Filler *f, Val v)
{
    if (f->limit && f->vals.len >= f->limit)
        parse_error(p, "more elements than the array has: %lld", (long long)f->limit);
    else
        vec_push(p->a, &f->vals, v);
}

static void parse_elements(Parser *p, Filler *f, int32_t level)
{
    if (!parse_expect(p, '{', "before the elements of an array") || !parse_deeper(p))
        return;
    while (!p->failed && !parse_is(p, '}')) {
        if (parse_is(p, '{')) {
            int64_t end = f->vals.len + part_size(&f->array, level);
            parse_elements(p, f, level + 1);
            if (f->vals.len > end)
                parse_error(p, "more elements than this part of the array has");
            while (!p->failed && f->vals.len < end)
                add_element(p, f, val_bits(f->t, 0));
        } else {
            add_element(p, f, val_convert(p, parse_assignment(p), f->t, false));
        }
        if (!parse_accept(p, ','))
            break;
    }
    parse_expect(p, '}', "after the elements of an array");
    p->depth--;
}

static Filler parse_initialiser(Parser *p, Type *t)
{
    Filler f = { .array = *t, .t = sim_type_of(t->base) };
    bool   open = t->n_dims && !t->dim[0];
    f.limit = open ? 0 : sim_type_bytes(*t) / sim_base_bytes[t->base];
    parse_elements(p, &f, 0);
    if (open && !p->failed) {
        if (t->n_dims != 1 || f.vals.len % t->n || !f.vals.len)
            parse_error(p, "the length of this array must be given");
        else
            t->dim[0] = f.vals.len / t->n;
    }
    return f;
}

const void *parse_table_data(Parser *p, Type *t)
{
    Filler f = parse_initialiser(p, t);
    if (p->failed)
        return NULL;
    int32_t  bytes = sim_base_bytes[t->base];
    uint8_t *data = arena_alloc(p->a, (size_t)sim_type_bytes(*t) + 16);
    for (int32_t i = 0; i < f.vals.len; i++) {
        if (f.vals.at[i].kind != VAL_CONST) {
            parse_error(p, "the elements of a table are constants");
            return NULL;
        }
        store_constant(data + (int64_t)i * bytes, &f.vals.at[i]);
    }
    return data;
}

/* ---- Local declarations ---- */

/* Can the last instruction put its result anywhere? */
static bool movable(const Inst *in)
{
    return (in->op >= OP_fadd && in->op <= OP_mov && in->op != OP_f2l && in->op != OP_f2ul && in->op != OP_l2f &&
            in->op != OP_ul2f) ||
           in->op == OP_load;
}

/* Registers that the variable keeps, down at `mark` if possible. */
static Val claim(Parser *p, Val v, Type t, int32_t mark)
{
    int32_t n = t.n, each = sim_type_is_wide(t) ? 2 : 1;
    bool    own = v.kind == VAL_REG && v.temp && v.slot[0] >= mark;
    for (int32_t i = 1; own && i < n; i++)
        own = v.slot[i] == v.slot[0] + i * each;
    Inst *last = p->k->code.len ? &p->k->code.at[p->k->code.len - 1] : NULL;
    if (!own) {
        v = val_copy(p, v);
    } else if (each == 1 && last && movable(last) && last->d[0] == v.slot[0] && (n == 1 || last->op == OP_load)) {
        for (int32_t i = 0; i < n; i++)
            last->d[i] = v.slot[i] = mark + i;
    }
    p->next_slot = v.slot[0] + n * each;
    v.t = t;
    v.lvalue = true;
    v.temp = false;
    return v;
}

static void declare(Parser *p, int32_t name, Val v)
{
    parse_declare(p, (Sym){ .kind = SYM_VAR, .name = name, .val = v, .region = REGION_NONE });
}

static Val undefined(Parser *p, Type t)
{
    Val v = val_new(p, t);
    v.lvalue = true;
    v.temp = false;
    v.def = slot_new(p, t.ptr ? 1 : t.n);
    sim_emit(p, (Inst){ .op = OP_undef, .d = { v.def }, .imm = t.ptr ? 1 : t.n });
    return v;
}

/* A pointer that is never changed is its address; one that only moves stays in its array; any other is tagged. */
Val parse_bind_pointer(Parser *p, Type t, Val v, int32_t assigned)
{
    if (v.kind != VAL_MEM || !v.t.ptr)
        return val_none();
    Addr a = v.addr;
    bool fixed = a.base == SLOT_NONE && a.index == SLOT_NONE;
    v.t = t;
    if (!assigned && fixed)
        return v;
    int32_t region = assigned == 2 ? REGION_NONE : a.region;
    Val     r = val_pointer_register(p, v, region);
    if (!r.temp && !p->failed)
        r = val_copy(p, r);
    if (!assigned) {
        v.addr = addr_none();
        v.addr.region = region;
        v.addr.base = r.slot[0];
        return v;
    }
    r.t = t;
    r.addr.region = region;
    r.lvalue = true;
    r.temp = false;
    return r;
}

static void declare_pointer(Parser *p, Type t, int32_t name)
{
    int32_t assigned = parse_assigned(p, name, p->at, parse_scope_end(p));
    if (!parse_accept(p, '=')) {
        Val v = undefined(p, t);
        declare(p, name, v);
        return;
    }
    Val v = val_convert(p, parse_assignment(p), t, false);
    if (!p->failed)
        declare(p, name, parse_bind_pointer(p, t, v, assigned));
}

static void declare_array(Parser *p, const Spec *s, Type t, int32_t name)
{
    Filler f = { .limit = 0 };
    bool   filled = parse_accept(p, '=');
    if (filled)
        f = parse_initialiser(p, &t);
    if (!p->failed && !t.dim[0])
        parse_error(p, "the length of this array must be given");
    if (p->failed)
        return;
    int64_t bytes = sim_type_bytes(t), units = bytes / sim_base_bytes[t.base];
    Region  r = { .bytes = bytes, .name = p->m->names.at[name], .base = t.base, .unit = sim_base_bytes[t.base] };
    bool    constant = filled && t.is_const;
    for (int32_t i = 0; i < f.vals.len; i++)
        constant = constant && f.vals.at[i].kind == VAL_CONST;
    Addr a = addr_none();
    if (constant) {
        uint8_t *data = arena_alloc(p->a, (size_t)bytes + 16);
        for (int32_t i = 0; i < f.vals.len; i++)
            store_constant(data + (int64_t)i * r.unit, &f.vals.at[i]);
        r.kind = REGION_TABLE;
        r.data = data;
        r.align = r.unit * t.n;
    } else if (s->is_static || units > 1 << 14) {
        parse_error(p, s->is_static ? "a static array is const and has constant elements"
                                    : "a local array of more than 16384 elements");
        return;
    } else {
        int32_t each = r.unit == 8 ? 2 : 1, n = (int32_t)units;
        r.kind = REGION_LOCAL;
        r.slot = slot_new(p, n * each);
        r.def = filled ? SLOT_NONE : slot_new(p, n);
        Val zero = val_bits(sim_type_of(t.base), 0);
        for (int32_t i = 0; filled && i < n; i++) {
            Val v = i < f.vals.len ? f.vals.at[i] : zero;
            sim_emit_op(p, each == 2 ? OP_mov64 : OP_mov, r.slot + i * each, val_slot(p, &v, 0), 0, 0);
        }
        if (!filled)
            sim_emit(p, (Inst){ .op = OP_undef, .d = { r.def }, .imm = n });
    }
    a.region = parse_region(p, r);
    declare(p, name, (Val){ .kind = VAL_MEM, .t = t, .lvalue = true, .def = SLOT_NONE, .sym = -1, .addr = a });
}

static void declare_shared(Parser *p, const Spec *s, Type t, int32_t name, int32_t token)
{
    SimKernel *k = p->k;
    int32_t    natural = sim_base_bytes[t.base] * t.n, region = REGION_NONE;
    if (t.ptr || s->is_extern || parse_is(p, '=') || (t.n_dims && !t.dim[0])) {
        parse_error(p, "a __shared__ variable is no pointer, has a constant size and no initialiser");
        return;
    }
    for (int32_t i = 0; i + 1 < p->shared_tokens.len; i += 2) /* a function that is called twice has one */
        if (p->shared_tokens.at[i] == token)
            region = p->shared_tokens.at[i + 1];
    if (region == REGION_NONE) {
        Region r = { .kind = REGION_SHARED,
                     .name = p->m->names.at[name],
                     .bytes = sim_type_bytes(t),
                     .base = t.base,
                     .granule = (int32_t)dt_min64(4, sim_base_bytes[t.base]),
                     .align = s->align > natural ? s->align : natural,
                     .offset = (int32_t)dt_round_up(k->shared_bytes, 16) };
        if (r.bytes > MAX_SHARED_BYTES - r.offset) {
            parse_error(p, "more than %d bytes of shared memory", MAX_SHARED_BYTES);
            return;
        }
        k->shared_bytes = r.offset + (int32_t)r.bytes;
        region = parse_region(p, r);
        vec_push(p->a, &p->shared_tokens, token);
        vec_push(p->a, &p->shared_tokens, region);
    }
    Addr a = addr_none();
    a.region = region;
    declare(p, name, (Val){ .kind = VAL_MEM, .t = t, .lvalue = true, .def = SLOT_NONE, .sym = -1, .addr = a });
}

static Val vector_of_elements(Parser *p, Type t)
{
    Filler f = parse_initialiser(p, &t);
    if (p->failed)
        return val_none();
    Val v = val_new(p, t), zero = val_bits(f.t, 0);
    for (int32_t i = 0; i < t.n; i++)
        sim_emit_op(p, OP_mov, v.slot[i], val_slot(p, i < f.vals.len ? &f.vals.at[i] : &zero, 0), 0, 0);
    return v;
}

static void declare_scalar(Parser *p, Type t, int32_t name)
{
    int32_t mark = p->next_slot;
    if (!parse_accept(p, '=')) {
        if (t.is_const)
            parse_error(p, "a const variable needs a value");
        else
            declare(p, name, undefined(p, t));
        return;
    }
    Val v;
    if (t.n > 1 && parse_is(p, '{'))
        v = vector_of_elements(p, t);
    else
        v = val_convert(p, parse_assignment(p), t, false);
    if (p->failed)
        return;
    if (v.kind == VAL_CONST && (t.is_const || !parse_assigned(p, name, p->at, parse_scope_end(p)))) {
        p->next_slot = mark;
        declare(p, name, v);
    } else {
        declare(p, name, claim(p, v, t, mark));
    }
}

void parse_declaration(Parser *p)
{
    Spec s = parse_spec(p);
    if ((s.is_extern && !s.is_shared) || s.is_device || s.is_constant || s.is_global || s.launch_bound)
        parse_error(p, "this stands at file scope only");
    do {
        Type    t = parse_pointer(p, s.t);
        int32_t token = p->at, name = parse_name(p, "a variable");
        t = parse_dims(p, t);
        if (!p->failed && t.base == T_VOID && !t.ptr)
            parse_error(p, "a variable cannot be void");
        if (p->failed)
            return;
        if (s.is_shared)
            declare_shared(p, &s, t, name, token);
        else if (t.ptr)
            declare_pointer(p, t, name);
        else if (t.n_dims)
            declare_array(p, &s, t, name);
        else if (s.is_static && !t.is_const)
            parse_error(p, "a static variable is const here");
        else
            declare_scalar(p, t, name);
    } while (parse_accept(p, ','));
    parse_expect(p, ';', "after a declaration");
}
