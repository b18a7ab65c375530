/* plan_memory.c: a place for every value that crosses launches.
 *
 * Params, states and inputs lie one behind the other in the order in which they were made, the same in every program of
 * a model. Everything else lives in the work arena from the launch that makes it to the last that reads it; offsets are
 * found greedily, largest value first, at the lowest gap that is free during its life (as in XNNPACK's planner). An
 * updated param takes its new value in place; views have the memory of what they view.
 *
 * The verifier checks the result again by itself. Tested by tests/unit/test_plan.c and tests/golden. */
#include "passes/pass_impl.h"
#include "passes/plan.h"

#include <stdlib.h>
#include <string.h>

/* ---- Lifetimes --------------------------------------------------------------------------------------------------- */

static void plan_scan_users(const Graph *g, const Uses *u, ValueId v, int32_t own, Stored *s, bool *crosses)
{
    for (int32_t i = u->first[v]; i < u->first[v + 1]; i++) {
        ValueId user = u->users[i];
        int32_t k = ir_value(g, user)->group;
        if (ir_is(g, user, OP_ASSIGN)) {
            s->leaf = ir_value(g, user)->in[0];
            *crosses = true;
        } else if (ir_is(g, user, OP_OUTPUT)) {
            s->output = *crosses = true;
            s->last = g->groups.len;
        } else if (ir_has(g, user, T_VIEW)) {
            plan_scan_users(g, u, user, own, s, crosses);
        } else if (k != own) {
            *crosses = true;
            s->last = k > s->last ? k : s->last;
        }
    }
}

StoredList plan_stored(Arena *a, const Graph *g)
{
    StoredList list = { 0 };
    Uses       uses = ir_uses(a, g);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      v = g->order.at[i];
        const Value *val = ir_value(g, v);
        if (val->group < 0)
            continue;
        Stored s = {
            .v = v, .first = val->group, .last = val->group, .bytes = type_bytes(val->type), .leaf = VALUE_NONE
        };
        bool crosses = ir_has(g, v, T_LIBRARY);
        plan_scan_users(g, &uses, v, val->group, &s, &crosses);
        if (crosses)
            vec_push(a, &list.at, s);
    }
    return list;
}

/* ---- Offsets ----------------------------------------------------------------------------------------------------- */

static int plan_by_size(const void *x, const void *y)
{
    const Stored *a = *(const Stored *const *)x, *b = *(const Stored *const *)y;
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    return a->v < b->v ? -1 : a->v > b->v;
}

static int plan_by_offset(const void *x, const void *y)
{
    const int64_t *a = x, *b = y; /* (offset, end) */
    return a[0] < b[0] ? -1 : a[0] > b[0];
}

/* The lowest offset at which `bytes` are free next to busy[0..n), given as (offset, end) sorted by offset. */
static int64_t plan_gap(const int64_t (*busy)[2], int32_t n, int64_t bytes)
{
    int64_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        if (busy[i][0] - at >= bytes)
            return at;
        at = dt_max64(at, busy[i][1]);
    }
    return at;
}

int64_t plan_offsets(Arena *a, Stored **at, int32_t n, int64_t align)
{
    int64_t(*busy)[2] = arena_alloc(a, sizeof(int64_t[2]) * (size_t)(n + 1));
    int64_t all = 0;
    qsort(at, (size_t)n, sizeof(Stored *), plan_by_size);
    for (int32_t i = 0; i < n; i++) {
        Stored *s = at[i];
        int32_t n_busy = 0;
        for (int32_t j = 0; j < i; j++) {
            const Stored *t = at[j];
            if (t->first > s->last || t->last < s->first)
                continue;
            busy[n_busy][0] = t->offset;
            busy[n_busy][1] = t->offset + dt_round_up(t->bytes, align);
            n_busy++;
        }
        qsort(busy, (size_t)n_busy, sizeof(busy[0]), plan_by_offset);
        s->offset = plan_gap((const int64_t(*)[2])busy, n_busy, dt_round_up(s->bytes, align));
        all = dt_max64(all, s->offset + dt_round_up(s->bytes, align));
    }
    return all;
}

static void plan_append(Graph *g, ValueId v, MemKind kind, int64_t align)
{
    ir_value(g, v)->place = (Place){ kind, g->bytes[kind] };
    g->bytes[kind] += dt_round_up(type_bytes(ir_value(g, v)->type), align);
}

/* A teacher's states come last: steps that train nothing do not have them. */
static bool plan_is_last(const Graph *g, ValueId v)
{
    const char *name = ir_value(g, v)->name;
    return name != NULL && strncmp(name, TEACHER_PREFIX, sizeof TEACHER_PREFIX - 1) == 0;
}

static int plan_by_id(const void *x, const void *y)
{
    ValueId a = *(const ValueId *)x, b = *(const ValueId *)y;
    return a < b ? -1 : a > b;
}

static void plan_leaves(PassCtx *c, Graph *g, int64_t align)
{
    VEC(ValueId) leaves = { 0 };
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_has(g, g->order.at[i], T_LEAF))
            vec_push(c->scratch, &leaves, g->order.at[i]);
    if (leaves.len > 0)
        qsort(leaves.at, (size_t)leaves.len, sizeof(ValueId), plan_by_id); /* order of making, whatever passes moved */
    for (int last = 0; last < 2; last++)
        for (int32_t i = 0; i < leaves.len; i++) {
            OpCode op = ir_value(g, leaves.at[i])->op;
            if (plan_is_last(g, leaves.at[i]) == last)
                plan_append(g, leaves.at[i], op == OP_INPUT ? MEM_IO : op == OP_PARAM ? MEM_PARAM : MEM_STATE, align);
        }
}

bool pass_plan_memory(PassCtx *c, Graph *g)
{
    int64_t    align = c->target->align_bytes;
    StoredList list = plan_stored(c->scratch, g);
    Stored   **work = ARENA_ARRAY(c->scratch, Stored *, list.at.len + 1);
    int32_t    n_work = 0;
    for (int32_t i = 0; i <= MEM_WORK; i++)
        g->bytes[i] = 0;
    plan_leaves(c, g, align);
    for (int32_t i = 0; i < list.at.len; i++) {
        Stored *s = &list.at.at[i];
        if (s->leaf != VALUE_NONE)
            ir_value(g, s->v)->place = ir_value(g, s->leaf)->place;
        else if (s->output)
            plan_append(g, s->v, MEM_IO, align);
        else
            work[n_work++] = s;
    }
    g->bytes[MEM_WORK] = plan_offsets(c->scratch, work, n_work, align);
    for (int32_t i = 0; i < n_work; i++)
        ir_value(g, work[i]->v)->place = (Place){ MEM_WORK, work[i]->offset };
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_has(g, g->order.at[i], T_VIEW))
            ir_value(g, g->order.at[i])->place = ir_value(g, ir_value(g, g->order.at[i])->in[0])->place;
    pass_count(c, "work bytes", g->bytes[MEM_WORK]);
    return true;
}
