/* verify_plan.c: the rules about memory: what must have a place, sizes, and that no two live values share bytes.
 *
 * Time is the order of the groups. A value lives from the launch that writes it to the last that reads it, itself or
 * through a view; leaves, and what is handed to the host or assigned, live to the end of the step. Two values whose
 * bytes overlap must not live at one time, with two exceptions, both an update in place: a value may take over the
 * bytes of an operand that dies in its group, if every element is read by the point that writes it; and the new value
 * of a param or state may lie where the old one does, if nobody reads the old one later.
 *
 * Tested by tests/unit/test_verify.c (planted mistakes). */
#include "ir/verify_priv.h"

#include <stdlib.h>

/* One value that has a place of its own. */
typedef struct Stored {
    ValueId id;
    Place   at;
    int64_t bytes;
    int32_t from, to;  /* launches, inclusive; -1: before the first */
    int32_t last_read; /* by a launch; -1: by none */
    ValueId assigned;  /* the leaf whose new value it is; VALUE_NONE */
} Stored;

typedef struct Plan {
    Check   *c;
    Uses     uses;
    int32_t *time; /* by group */
    int32_t  end;  /* after the last launch */
    Stored  *stored;
    int32_t  n;
} Plan;

/* ---- Lives ----------------------------------------------------------------------------------------------------- */

static int32_t time_of(const Plan *p, ValueId id)
{
    int32_t n = ir_value(p->c->g, id)->group;
    return n >= 0 ? p->time[n] : -1;
}

static void order_groups(Plan *p)
{
    const Graph *g = p->c->g;
    p->time = ARENA_ARRAY(&p->c->scratch, int32_t, g->groups.len);
    for (int32_t n = 0; n < g->groups.len; n++)
        p->time[n] = -1;
    for (int32_t i = 0; i < g->order.len; i++) {
        int32_t n = ir_value(g, g->order.at[i])->group;
        if (n >= 0 && p->time[n] < 0)
            p->time[n] = p->end++;
    }
}

/* What the readers of `id`, directly or through views, ask of the value `s`; *outside: somebody needs it in memory. */
static void follow_uses(const Plan *p, ValueId id, Stored *s, bool *outside)
{
    const Graph *g = p->c->g;
    for (int32_t i = p->uses.first[id]; i < p->uses.first[id + 1]; i++) {
        ValueId      user = p->uses.users[i];
        const Value *u = ir_value(g, user);
        if (ir_has(g, user, T_VIEW)) {
            follow_uses(p, user, s, outside);
            continue;
        }
        bool effect = ir_has(g, user, T_EFFECT);
        bool constant = ir_is(g, s->id, OP_CONST); /* written into each kernel that reads it */
        if (effect || ir_has(g, user, T_LIBRARY) || (u->group != ir_value(g, s->id)->group && !constant))
            *outside = true;
        if (!effect)
            s->last_read = s->last_read > time_of(p, user) ? s->last_read : time_of(p, user);
        else if (u->op == OP_OUTPUT || u->in[1] == id)
            s->to = p->end;
        if (u->op == OP_ASSIGN && u->in[1] == id)
            s->assigned = u->in[0];
    }
}

/* Fills p->stored with what has a place, reports what lacks one. */
static void collect(Plan *p)
{
    Check       *c = p->c;
    const Graph *g = c->g;
    p->stored = ARENA_ARRAY(&c->scratch, Stored, g->order.len);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        if (ir_has(g, id, T_VIEW | T_EFFECT))
            continue;
        bool   outside = ir_has(g, id, T_LEAF | T_LIBRARY);
        Stored s = { id, v->place, type_bytes(v->type), time_of(p, id), 0, -1, VALUE_NONE };
        follow_uses(p, id, &s, &outside);
        s.to = s.to == p->end || ir_has(g, id, T_LEAF) ? p->end : s.last_read > s.from ? s.last_read : s.from;
        if (v->place.kind != MEM_NONE)
            p->stored[p->n++] = s;
        else if (outside)
            verify_fail(c, id, "stored values have a place", "%s has none", verify_show(c, id));
    }
}

/* ---- Places ---------------------------------------------------------------------------------------------------- */

static const char *place_text(Check *c, Place at)
{
    return arena_printf(&c->d->arena, "%s+%lld", ir_mem_names[at.kind], (long long)at.offset);
}

static void check_place(Check *c, const Stored *s)
{
    static const MemKind homes[OP_COUNT] = { [OP_INPUT] = MEM_IO, [OP_PARAM] = MEM_PARAM, [OP_STATE] = MEM_STATE };
    MemKind              home = homes[ir_value(c->g, s->id)->op];
    if (home != MEM_NONE && s->at.kind != home)
        verify_fail(c, s->id, "arenas", "%s is in %s, expected %s", verify_show(c, s->id), ir_mem_names[s->at.kind],
                    ir_mem_names[home]);
    int64_t end;
    if (__builtin_add_overflow(s->at.offset, s->bytes, &end) || end > c->g->bytes[s->at.kind])
        verify_fail(c, s->id, "places lie in their arena", "%s: %lld bytes at %s, of %lld", verify_show(c, s->id),
                    (long long)s->bytes, place_text(c, s->at), (long long)c->g->bytes[s->at.kind]);
    int64_t elem = dt_max64(dtype_bits(ir_value(c->g, s->id)->type.dtype) / 8, 1);
    if (s->at.offset % elem != 0)
        verify_fail(c, s->id, "places are aligned", "%s is at %s, its elements have %lld bytes", verify_show(c, s->id),
                    place_text(c, s->at), (long long)elem);
}

/* A view is where its input is. */
static void check_views(Check *c)
{
    for (int32_t i = 0; i < c->g->order.len; i++) {
        ValueId id = c->g->order.at[i];
        if (!ir_has(c->g, id, T_VIEW))
            continue;
        ValueId root = ir_root(c->g, id);
        Place   at = ir_value(c->g, id)->place, want = ir_value(c->g, root)->place;
        if (at.kind == want.kind && (at.kind == MEM_NONE || at.offset == want.offset))
            continue;
        verify_fail(c, id, "views lie on their input", "%s is at %s, %s at %s", verify_show(c, id), place_text(c, at),
                    verify_show(c, root), place_text(c, want));
    }
}

/* ---- Overlaps -------------------------------------------------------------------------------------------------- */

/* Is `id` computed at the end of its kernel, from finished sums of its shape? Then it is stored after all points of the
 * body that belong to it have been worked on. */
static bool made_at_end(const Plan *p, ValueId id)
{
    const Graph *g = p->c->g;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId v = g->order.at[i];
        if (ir_value(g, v)->group == ir_value(g, id)->group && ir_has(g, v, T_REDUCE) &&
            shape_eq(ir_value(g, v)->type.shape, ir_value(g, id)->type.shape))
            return true;
    }
    return false;
}

/* Does every reader of `id` in the launch at time t touch an element only at the point that owns it? at_end: what is
 * written over it is made at the end of that launch, so it may also be read by broadcast. */
static bool read_in_place(const Plan *p, ValueId id, int32_t t, bool at_end)
{
    const Graph *g = p->c->g;
    for (int32_t i = p->uses.first[id]; i < p->uses.first[id + 1]; i++) {
        ValueId user = p->uses.users[i];
        if (ir_has(g, user, T_VIEW)) {
            if (!read_in_place(p, user, t, at_end))
                return false;
            continue;
        }
        if (ir_has(g, user, T_EFFECT) || time_of(p, user) != t)
            continue;
        Type in = ir_value(g, id)->type, out = ir_value(g, user)->type;
        bool same = shape_eq(in.shape, out.shape) && in.layout == out.layout;
        if (!ir_has(g, user, T_REDUCE) && !(ir_has(g, user, T_ELTWISE) && (same || at_end)))
            return false;
    }
    return true;
}

/* May `late` be written over `early`? */
static bool updates_in_place(const Plan *p, const Stored *early, const Stored *late)
{
    const Graph *g = p->c->g;
    if (early->at.offset != late->at.offset || early->bytes != late->bytes)
        return false;
    bool leaf = ir_has(g, early->id, T_LEAF);
    if (leaf && late->assigned != early->id)
        return false;
    int32_t dies = leaf ? early->last_read : early->to;
    if (dies < late->from)
        return true;
    Type in = ir_value(g, early->id)->type, out = ir_value(g, late->id)->type;
    return dies == late->from && early->from < late->from && ir_has(g, late->id, T_ELTWISE) &&
           shape_eq(in.shape, out.shape) && in.layout == out.layout &&
           read_in_place(p, early->id, late->from, made_at_end(p, late->id));
}

static int by_place(const void *a, const void *b)
{
    const Stored *x = a, *y = b;
    if (x->at.kind != y->at.kind)
        return x->at.kind < y->at.kind ? -1 : 1;
    if (x->at.offset != y->at.offset)
        return x->at.offset < y->at.offset ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static const char *life_text(const Plan *p, const Stored *s)
{
    Arena *a = &p->c->d->arena;
    return s->to == p->end ? arena_printf(a, "launch %d to the end", s->from)
                           : arena_printf(a, "launches %d to %d", s->from, s->to);
}

/* Sorted by offset, a value can only meet those that begin before it ends. */
static void check_overlaps(Plan *p)
{
    qsort(p->stored, (size_t)p->n, sizeof(Stored), by_place);
    for (int32_t i = 0; i < p->n; i++) {
        const Stored *a = &p->stored[i];
        for (int32_t j = i + 1; j < p->n; j++) {
            const Stored *b = &p->stored[j];
            if (b->at.kind != a->at.kind || b->at.offset - a->at.offset >= a->bytes)
                break;
            if (a->to < b->from || b->to < a->from || updates_in_place(p, a, b) || updates_in_place(p, b, a))
                continue;
            verify_fail(p->c, b->id, "no two live values overlap",
                        "%s (%lld bytes at %s, %s) and %s (%lld bytes at %s, %s)", verify_show(p->c, a->id),
                        (long long)a->bytes, place_text(p->c, a->at), life_text(p, a), verify_show(p->c, b->id),
                        (long long)b->bytes, place_text(p->c, b->at), life_text(p, b));
            verify_note(p->c, a->id);
        }
    }
}

void verify_plan(Check *c)
{
    Plan p = { .c = c, .uses = ir_uses(&c->scratch, c->g) };
    order_groups(&p);
    collect(&p);
    for (int32_t i = 0; i < p.n; i++)
        check_place(c, &p.stored[i]);
    check_views(c);
    if (c->failures == 0)
        check_overlaps(&p);
}
