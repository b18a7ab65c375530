/* simplify.c: computes nothing twice and nothing in vain. One walk merges values that are equal by construction (same
 * op, inputs, attributes and type) and applies the exact identities of algebra.c; a second drops what no effect needs.
 *
 * Leaves are never merged (they are memory) and never dropped (the programs of one model share them); effects neither.
 * A draw of random numbers is a function of seed, stream, step and place, so equal dropouts are one value. An assign
 * takes effect after all reads of the old value, so reads before and after it are equal.
 *
 * Tested by tests/unit/test_simplify.c and tests/golden. */
#include "passes/algebra.h"
#include "passes/pass_impl.h"

#include <string.h>

/* ---- Equal values ------------------------------------------------------------------------------------------------ */

/* Values of the new order by content; open addressing, never full. */
typedef struct ValueSet {
    ValueId *slot; /* VALUE_NONE: free */
    uint32_t mask;
} ValueSet;

static ValueSet set_new(Arena *a, int32_t values)
{
    uint32_t slots = 64;
    while (slots < 2 * (uint32_t)values)
        slots *= 2;
    ValueSet s = { ARENA_ARRAY(a, ValueId, slots), slots - 1 };
    for (uint32_t i = 0; i < slots; i++)
        s.slot[i] = VALUE_NONE;
    return s;
}

static bool attr_eq(AttrKind kind, AttrVal a, AttrVal b)
{
    switch (kind) {
    case ATTR_INT:
    case ATTR_BOOL:
        return a.i == b.i;
    case ATTR_FLOAT: /* 0 and -0 differ */
        return memcmp(&a.f, &b.f, sizeof a.f) == 0;
    case ATTR_TEXT:
        return str_eq(a.s, b.s);
    case ATTR_PADS:
        return memcmp(a.pads, b.pads, sizeof a.pads) == 0;
    }
    DT_UNREACHABLE("attribute kind %d", (int)kind);
}

static bool value_eq(const Value *a, const Value *b)
{
    if (a->op != b->op || a->n_in != b->n_in || a->type.dtype != b->type.dtype || a->type.layout != b->type.layout ||
        !shape_eq(a->type.shape, b->type.shape))
        return false;
    for (int32_t i = 0; i < a->n_in; i++)
        if (a->in[i] != b->in[i])
            return false;
    for (int32_t i = 0; i < ir_ops[a->op].n_attrs; i++)
        if (!attr_eq(attr_kind(ir_ops[a->op].attrs[i].id), a->attr[i], b->attr[i]))
            return false;
    return true;
}

/* Of op and inputs alone: attributes seldom tell values apart that these do not. Constants have nothing else. */
static uint32_t value_hash(const Value *v)
{
    uint64_t h = (uint64_t)v->op * 0x9e3779b97f4a7c15u;
    for (int32_t i = 0; i < v->n_in; i++)
        h = (h ^ (uint64_t)v->in[i]) * 0xff51afd7ed558ccdu;
    if (v->op == OP_CONST)
        h = (h ^ (uint64_t)v->attr[0].i) * 0xff51afd7ed558ccdu;
    return (uint32_t)(h >> 32);
}

/* The value of the set that equals id, or id itself, which then is in the set. */
static ValueId set_put(ValueSet *s, const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    uint32_t     at = value_hash(v) & s->mask;
    for (; s->slot[at] != VALUE_NONE; at = (at + 1) & s->mask)
        if (value_eq(ir_value(g, s->slot[at]), v))
            return s->slot[at];
    s->slot[at] = id;
    return id;
}

/* ---- One value -------------------------------------------------------------------------------------------------- */

/* x c for a constant c is scale x: one operand less. VALUE_NONE: not of this form. */
static ValueId scale_for_mul(Builder *b, ValueId id)
{
    const Graph *g = b->g;
    for (int32_t i = 0; i < 2; i++) {
        const Value *v = ir_value(g, id);
        ValueId      x = v->in[i], k = v->in[1 - i];
        if (ir_is(g, k, OP_CONST) && shape_eq(ir_value(g, x)->type.shape, v->type.shape))
            return ir_emit(b, OP_SCALE, IR_IN(x), AF(SCALE, ir_float(ir_value(g, k), A_VALUE)));
    }
    return VALUE_NONE;
}

/* Of a number, another number: the one product that the kernel would make. Of a scaled value, one factor. */
static ValueId scale_for_scales(Builder *b, ValueId id)
{
    const Graph *g = b->g;
    ValueId      inner = ir_value(g, id)->in[0];
    float        factor;
    if (ir_is(g, inner, OP_CONST)) {
        factor = (float)ir_float(ir_value(g, inner), A_VALUE) * (float)ir_float(ir_value(g, id), A_SCALE);
        return ir_const(b, factor);
    }
    if (!ir_is(g, inner, OP_SCALE) || !algebra_fold_scale((float)ir_float(ir_value(g, inner), A_SCALE),
                                                          (float)ir_float(ir_value(g, id), A_SCALE), &factor))
        return VALUE_NONE;
    return ir_emit(b, OP_SCALE, IR_IN(ir_value(g, inner)->in[0]), AF(SCALE, factor));
}

typedef ValueId (*RewriteFn)(Builder *b, ValueId id);
static const RewriteFn rewrites[OP_COUNT] = { [OP_MUL] = scale_for_mul, [OP_SCALE] = scale_for_scales };

/* What the value can be replaced by, followed as far as it goes; the value itself when there is nothing. */
static ValueId simpler(Rewriter *r, ValueSet *set, ValueId id)
{
    Graph *g = r->b.g;
    r->b.like = id;
    for (ValueId at = id;;) {
        ValueId same = algebra_same(g, ir_value(g, at));
        if (same != VALUE_NONE)
            return same;
        RewriteFn rewrite = rewrites[ir_value(g, at)->op];
        ValueId   made = rewrite ? rewrite(&r->b, at) : VALUE_NONE;
        if (made == VALUE_NONE)
            return at == id ? id : set_put(set, g, at); /* an equal one may exist: then `at` is dead */
        at = made;
    }
}

static void simplify_value(PassCtx *c, Rewriter *r, ValueSet *set, ValueId id)
{
    Graph *g = r->b.g;
    ir_map_inputs(r, id); /* ids of the new graph from here on; they map to themselves */
    const char *why = "algebra";
    ValueId     same = simpler(r, set, id);
    if (same == id && !ir_has(g, id, T_LEAF | T_EFFECT)) {
        same = set_put(set, g, id);
        why = "merged";
    }
    if (same == id) {
        ir_keep(r, id);
        return;
    }
    ir_replace(r, id, same);
    pass_count(c, why, 1);
}

/* ---- Dead values ------------------------------------------------------------------------------------------------ */

static bool drop_dead(PassCtx *c, Graph *g)
{
    bool   *live = ARENA_ARRAY(c->scratch, bool, g->values.len);
    int32_t dead = 0;
    for (int32_t i = g->order.len - 1; i >= 0; i--) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        live[id] = live[id] || (ir_ops[v->op].traits & (T_LEAF | T_EFFECT));
        for (int32_t k = 0; live[id] && k < v->n_in; k++)
            live[v->in[k]] = true;
        dead += !live[id];
    }
    if (!dead)
        return false;
    Rewriter r = ir_rewrite_begin(g, c->scratch, c->d, "simplify");
    for (int32_t i = 0; i < r.n_old; i++)
        if (live[r.old[i]])
            ir_keep(&r, r.old[i]);
    pass_count(c, "dead", dead);
    return ir_rewrite_end(&r);
}

bool pass_simplify(PassCtx *c, Graph *g)
{
    ValueSet set = set_new(c->scratch, g->order.len);
    Rewriter r = ir_rewrite_begin(g, c->scratch, c->d, "simplify");
    for (int32_t i = 0; i < r.n_old; i++)
        simplify_value(c, &r, &set, r.old[i]);
    bool changed = ir_rewrite_end(&r);
    return drop_dead(c, g) || changed;
}
