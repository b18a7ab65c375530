/* schedule.c: every op in a group, groups in a fixed order, updates that may overwrite their leaf in place.
 *
 * After fuse and batch the order is that of the groups. Without them each op becomes a group of its own. Values that no
 * effect needs are dropped. An `assign` is carried out by storing its value right into the leaf's memory; where the old
 * value is still read later (or the value already lives elsewhere) a copy at the very end of the step does it. Where
 * one leaf, or the host, gets the old value of another, that is taken aside at the very beginning: two states may swap.
 *
 * Tested by tests/unit/test_lower.c and tests/golden. */
#include "passes/fuse.h"
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
void schedule_drop_dead(PassCtx *c, Graph *g)
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
void schedule_renumber(PassCtx *c, Graph *g)
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

/* Along which dimension do vectors run that end a kernel: 0 where it keeps the outputs of a weight, else channels. */
static int32_t schedule_kept_dim(const Graph *g, int32_t group)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId v = g->order.at[i];
        if (ir_value(g, v)->group == group && ir_has(g, v, T_REDUCE) && str_eq(fuse_keep(g, v), "o"))
            return 0;
    }
    return 1;
}

/* Kernels read an element of the leaf before they store it, but only at the same point: a window, or a vector along
 * another dimension than the kernel keeps, might come too late. */
static bool schedule_reads_pointwise(const Graph *g, const Uses *u, ValueId leaf, int32_t group)
{
    bool    is_vector = ir_value(g, leaf)->type.shape.rank == 1;
    int32_t along = is_vector ? schedule_kept_dim(g, group) : 0;
    for (int32_t i = u->first[leaf]; i < u->first[leaf + 1]; i++) {
        const Value *user = ir_value(g, u->users[i]);
        if (ir_has(g, u->users[i], T_VIEW) && !schedule_reads_pointwise(g, u, u->users[i], group))
            return false;
        if (user->group != group)
            continue;
        if (ir_has(g, u->users[i], T_NEST))
            return false;
        for (int32_t k = 0; k < ir_ops[user->op].n_attrs && is_vector; k++)
            if (ir_ops[user->op].attrs[k].id == A_AXIS && fuse_space(g, u->users[i]).shape.rank > 1 &&
                user->attr[k].i != along)
                return false;
    }
    return true;
}

/* May v be stored where the leaf's old value lies? */
static bool schedule_in_place(const Graph *g, const Uses *u, ValueId leaf, ValueId v)
{
    const Value *val = ir_value(g, v);
    if (!ir_has(g, v, T_ELTWISE | T_REDUCE) || schedule_last_read(g, u, leaf) > val->group ||
        !schedule_reads_pointwise(g, u, leaf, val->group))
        return false;
    int32_t assigns = 0;
    for (int32_t i = u->first[v]; i < u->first[v + 1]; i++)
        assigns += ir_is(g, u->users[i], OP_ASSIGN);
    return assigns == 1 && shape_eq(val->type.shape, ir_value(g, leaf)->type.shape) &&
           val->type.layout == ir_value(g, leaf)->type.layout;
}

/* A copy of v for the assign e, in a group of its own. */
static ValueId schedule_copy(PassCtx *c, Graph *g, ValueId e, ValueId v)
{
    Builder b = { .g = g, .d = c->d, .by = "schedule", .like = e };
    ValueId copy = ir_emit(&b, OP_SCALE, IR_IN(v), AF(SCALE, 1.0));
    ir_value(g, copy)->type.layout = ir_value(g, v)->type.layout;
    schedule_single(g, copy);
    pass_count(c, "copies for updates", 1);
    return copy;
}

/* Does the effect hand on the old value of a leaf that is written in this step? */
static bool schedule_needs_snapshot(const Graph *g, const Uses *u, ValueId effect, ValueId v)
{
    const Value *e = ir_value(g, effect);
    if (e->op == OP_ASSIGN)
        return e->in[1] == v;
    ValueId leaf = ir_root(g, v);
    bool    written = false;
    for (int32_t i = u->first[leaf]; i < u->first[leaf + 1]; i++)
        written |= ir_is(g, u->users[i], OP_ASSIGN) && ir_value(g, u->users[i])->in[0] == leaf;
    return e->op == OP_OUTPUT && written;
}

/* Old values of leaves that other leaves or the host get, right behind those leaves. */
static void schedule_snapshots(PassCtx *c, Graph *g)
{
    int32_t  n = g->order.len;
    Uses     uses = ir_uses(c->scratch, g);
    ValueId *old = arena_copy(c->scratch, g->order.at, sizeof(ValueId) * (size_t)n);
    g->order.len = 0;
    for (int32_t i = 0; i < n; i++) {
        vec_push(g->arena, &g->order, old[i]);
        if (!ir_has(g, ir_root(g, old[i]), T_LEAF))
            continue;
        for (int32_t k = uses.first[old[i]]; k < uses.first[old[i] + 1]; k++) {
            ValueId e = uses.users[k];
            if (schedule_needs_snapshot(g, &uses, e, old[i])) {
                ValueId copy = schedule_copy(c, g, e, old[i]);
                ir_value(g, e)->in[ir_is(g, e, OP_ASSIGN) ? 1 : 0] = copy;
            }
        }
    }
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
        ValueId copy = schedule_copy(c, g, e, ir_value(g, e)->in[1]);
        ir_value(g, e)->in[1] = copy;
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
    schedule_snapshots(c, g);
    schedule_renumber(c, g);
    schedule_copies(c, g);
    pass_count(c, "launches", g->groups.len);
    Hash128 after = ir_hash(g);
    return before.lo != after.lo || before.hi != after.hi;
}
