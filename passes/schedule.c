/* schedule.c: every op in a group, groups in a fixed order, updates that may overwrite their leaf in place.
 *
 * After fuse and batch the order is that of the groups. Without them each op becomes a group of its own. Values that no
 * effect needs are dropped. An `assign` is carried out by storing its value right into the leaf's memory; where the old
 * value is still read later (or the value already lives elsewhere) a copy at the very end of the step does it.
 *
 * Tested by tests/unit/test_lower.c. */
#include "passes/pass_impl.h"

#include <string.h>

static void schedule_mark(const Graph *g, ValueId v, bool *live)
{
    if (live[v])
        return;
    live[v] = true;
    for (int32_t i = 0; i < ir_value(g, v)->n_in; i++)
        schedule_mark(g, ir_value(g, v)->in[i], live);
}

/* Leaves stay: programs of one model share their offsets. */
static void schedule_drop_dead(PassCtx *c, Graph *g)
{
    bool   *live = ARENA_ARRAY(c->scratch, bool, g->values.len);
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_has(g, g->order.at[i], T_EFFECT))
            schedule_mark(g, g->order.at[i], live);
    for (int32_t i = 0; i < g->order.len; i++)
        if (live[g->order.at[i]] || ir_has(g, g->order.at[i], T_LEAF))
            g->order.at[n++] = g->order.at[i];
    g->order.len = n;
}

static void schedule_single(Graph *g, ValueId v)
{
    ir_value(g, v)->group = g->groups.len;
    vec_push(g->arena, &g->groups, (Group){ .name = ir_label(g->arena, g, v) });
}

/* Groups without values vanish; numbers follow the order. */
static void schedule_renumber(PassCtx *c, Graph *g)
{
    int32_t *number = ARENA_ARRAY(c->scratch, int32_t, g->groups.len + 1);
    Group   *old = arena_copy(c->scratch, g->groups.at, sizeof(Group) * (size_t)g->groups.len);
    memset(number, -1, sizeof(int32_t) * (size_t)(g->groups.len + 1));
    g->groups.len = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        Value *v = ir_value(g, g->order.at[i]);
        if (v->group < 0)
            continue;
        if (number[v->group] < 0) {
            number[v->group] = g->groups.len;
            vec_push(g->arena, &g->groups, old[v->group]);
        }
        v->group = number[v->group];
    }
}

static ValueId schedule_owner(const Graph *g, ValueId v)
{
    while (ir_has(g, v, T_VIEW))
        v = ir_value(g, v)->in[0];
    return v;
}

/* The last group that reads v or a view of it. */
static int32_t schedule_last_read(const Graph *g, const Uses *u, ValueId v)
{
    int32_t last = -1;
    for (int32_t i = u->first[v]; i < u->first[v + 1]; i++) {
        ValueId user = u->users[i];
        int32_t k = ir_has(g, user, T_VIEW) ? schedule_last_read(g, u, user) : ir_value(g, user)->group;
        last = k > last ? k : last;
    }
    return last;
}

/* May v be stored where the leaf's old value lies? */
static bool schedule_in_place(const Graph *g, const Uses *u, ValueId leaf, ValueId v)
{
    const Value *val = ir_value(g, v);
    if (!ir_has(g, v, T_ELTWISE | T_REDUCE) || schedule_last_read(g, u, leaf) > val->group)
        return false;
    int32_t assigns = 0;
    for (int32_t i = u->first[v]; i < u->first[v + 1]; i++)
        assigns += ir_is(g, u->users[i], OP_ASSIGN);
    /* within its kernel the leaf is read point by point, or as a whole only before the end */
    return assigns == 1 && shape_eq(val->type.shape, ir_value(g, leaf)->type.shape) &&
           val->type.layout == ir_value(g, leaf)->type.layout;
}

static void schedule_copies(PassCtx *c, Graph *g)
{
    Uses uses = ir_uses(c->scratch, g);
    VEC(ValueId) effects = { 0 };
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        if (ir_has(g, g->order.at[i], T_EFFECT))
            vec_push(c->scratch, &effects, g->order.at[i]);
        else
            g->order.at[n++] = g->order.at[i];
    }
    g->order.len = n;
    for (int32_t i = 0; i < effects.len; i++) {
        ValueId e = effects.at[i];
        if (!ir_is(g, e, OP_ASSIGN) || schedule_in_place(g, &uses, ir_value(g, e)->in[0], ir_value(g, e)->in[1]))
            continue;
        Builder b = { .g = g, .d = c->d, .by = "schedule", .like = e };
        ValueId copy = ir_emit(&b, OP_SCALE, IR_IN(ir_value(g, e)->in[1]), AF(SCALE, 1.0));
        ir_value(g, copy)->type.layout = ir_value(g, schedule_owner(g, ir_value(g, e)->in[1]))->type.layout;
        ir_value(g, e)->in[1] = copy;
        schedule_single(g, copy);
        pass_count(c, "copies for updates", 1);
    }
    for (int32_t i = 0; i < effects.len; i++)
        vec_push(g->arena, &g->order, effects.at[i]);
}

bool pass_schedule(PassCtx *c, Graph *g)
{
    Hash128 before = ir_hash(g);
    schedule_drop_dead(c, g);
    bool fused = g->groups.len > 0;
    for (int32_t i = 0; i < g->order.len && !fused; i++)
        if (!ir_has(g, g->order.at[i], T_LEAF | T_VIEW | T_EFFECT))
            schedule_single(g, g->order.at[i]);
    schedule_renumber(c, g);
    schedule_copies(c, g);
    pass_count(c, "launches", g->groups.len);
    Hash128 after = ir_hash(g);
    return before.lo != after.lo || before.hi != after.hi;
}
