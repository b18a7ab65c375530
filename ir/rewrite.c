/* rewrite.c: the cursor with which passes rebuild the order of a graph, and use lists.
 *
 * A rewrite walks the old order and appends to the new one, so that every pass is one loop and definitions come before
 * uses by construction. What a value was made from is never lost: a replaced value hands its origins to its successor.
 *
 * Tested by tests/unit/test_ir.c. */
#include "ir/ops_impl.h"

#include <string.h>

Rewriter ir_rewrite_begin(Graph *g, Arena *scratch, Diag *d, const char *by)
{
    Rewriter r = { .b = { .g = g, .d = d, .by = by, .like = VALUE_NONE } };
    r.n_old = g->order.len;
    r.old = arena_copy(scratch, g->order.at, sizeof(ValueId) * (size_t)r.n_old);
    r.n_map = g->values.len;
    r.map = ARENA_ARRAY(scratch, ValueId, r.n_map);
    for (int32_t i = 0; i < r.n_map; i++)
        r.map[i] = VALUE_NONE;
    g->order.len = 0;
    return r;
}

/* Values made during the rewrite are their own successors. */
ValueId ir_mapped(const Rewriter *r, ValueId id)
{
    DT_ASSERT(id >= 0 && id < r->b.g->values.len, "%%%d of %d values", id, r->b.g->values.len);
    if (id >= r->n_map)
        return id;
    DT_ASSERT(r->map[id] != VALUE_NONE, "pass %s reads %s before it kept or replaced it", r->b.by,
              ir_value_text(r->b.g->arena, r->b.g, id));
    return r->map[id];
}

void ir_map_inputs(Rewriter *r, ValueId id)
{
    Value *v = ir_value(r->b.g, id);
    for (int32_t i = 0; i < v->n_in; i++) {
        ValueId in = ir_mapped(r, v->in[i]);
        r->changed = r->changed || in != v->in[i];
        v->in[i] = in;
    }
}

void ir_keep(Rewriter *r, ValueId id)
{
    DT_ASSERT(id >= 0 && id < r->n_map && (r->map[id] == VALUE_NONE || r->map[id] == id),
              "pass %s keeps %%%d twice, or it is new", r->b.by, id);
    ir_map_inputs(r, id);
    r->map[id] = id;
    vec_push(r->b.g->arena, &r->b.g->order, id);
}

static bool same_origin(Origin a, Origin b)
{
    return a.dsl.line == b.dsl.line && str_eq(a.dsl.file, b.dsl.file) && str_eq(a.by, b.by);
}

/* Appends the origins of `from` that `to` does not have. */
static void hand_on_origins(Graph *g, ValueId to, ValueId from)
{
    const Value *f = ir_value(g, from);
    Value       *t = ir_value(g, to);
    Origin      *all = ARENA_ARRAY(g->arena, Origin, t->n_origins + f->n_origins);
    int32_t      n = t->n_origins;
    memcpy(all, t->origins, sizeof(Origin) * (size_t)n);
    for (int32_t i = 0; i < f->n_origins; i++) {
        bool known = false;
        for (int32_t j = 0; j < n && !known; j++)
            known = same_origin(all[j], f->origins[i]);
        if (!known)
            all[n++] = f->origins[i];
    }
    t->origins = all;
    t->n_origins = n;
}

void ir_replace(Rewriter *r, ValueId id, ValueId to)
{
    DT_ASSERT(id >= 0 && id < r->n_map && (r->map[id] == VALUE_NONE || r->map[id] == id),
              "pass %s replaces %%%d twice, or it is new", r->b.by, id);
    to = ir_mapped(r, to);
    r->map[id] = to;
    r->changed = true;
    hand_on_origins(r->b.g, to, id);
}

bool ir_rewrite_end(Rewriter *r)
{
    Graph *g = r->b.g;
    Arena  scratch = arena_new("rewrite");
    bool  *live = ARENA_ARRAY(&scratch, bool, g->values.len);
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        for (int32_t k = 0; k < v->n_in; k++)
            DT_ASSERT(live[v->in[k]], "after pass %s, %s reads %s, which vanished or comes later", r->b.by,
                      ir_value_text(&scratch, g, g->order.at[i]), ir_value_text(&scratch, g, v->in[k]));
        live[g->order.at[i]] = true;
    }
    arena_free(&scratch);
    bool same = g->order.len == r->n_old;
    for (int32_t i = 0; i < r->n_old && same; i++)
        same = g->order.at[i] == r->old[i];
    r->changed = r->changed || !same;
    return r->changed;
}

ValueId ir_copy(Builder *b, ValueId id, const ValueId *in)
{
    Graph *g = b->g;
    Arena *a = g->arena;
    Value  v = *ir_value(g, id);
    DT_ASSERT(!v.name, "a second %s", v.name);
    if (v.n_in > 0)
        v.in = arena_copy(a, in, sizeof(ValueId) * (size_t)v.n_in);
    if (ir_ops[v.op].n_attrs > 0)
        v.attr = arena_copy(a, v.attr, sizeof(AttrVal) * (size_t)ir_ops[v.op].n_attrs);
    v.origins = arena_copy(a, v.origins, sizeof(Origin) * (size_t)v.n_origins);
    v.group = -1;
    v.place = (Place){ MEM_NONE, 0 };
    vec_push(a, &g->values, v);
    ValueId copy = g->values.len - 1;
    vec_push(a, &g->order, copy);
    return copy;
}

/* Counting sort by the value read: two walks over the order. */
Uses ir_uses(Arena *a, const Graph *g)
{
    Uses u = { .first = ARENA_ARRAY(a, int32_t, g->values.len + 1) };
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        for (int32_t k = 0; k < v->n_in; k++)
            u.first[v->in[k] + 1]++;
    }
    for (int32_t i = 0; i < g->values.len; i++)
        u.first[i + 1] += u.first[i];
    u.users = ARENA_ARRAY(a, ValueId, u.first[g->values.len]);
    int32_t *next = arena_copy(a, u.first, sizeof(int32_t) * (size_t)(g->values.len + 1));
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        for (int32_t k = 0; k < v->n_in; k++)
            u.users[next[v->in[k]]++] = g->order.at[i];
    }
    return u;
}

int32_t ir_use_count(const Uses *u, ValueId id)
{
    return u->first[id + 1] - u->first[id];
}
