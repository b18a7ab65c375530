/* remat_write.c: writes the order of launches that a RematWalk found into the graph. A second launch holds a copy of
 * all that its value is computed from in the first one, so it is the same kernel or a part of it, or the same library
 * call, on the same numbers: the same bits. Nothing that updates a param or a state is ever copied.
 *
 * Tested by tests/unit/test_rematerialize.c and tests/golden. */
#include "passes/pass_impl.h"
#include "passes/remat.h"

typedef struct Write {
    PassCtx         *c;
    const RematWalk *w;
    Graph           *g;
    Builder          b;
    ValueId        **in;   /* by value: its inputs before anything was written */
    ValueId         *made; /* by step: the copy that it makes */
    ValueId         *mine; /* by value: its copy in the launch that is written */
    const ValueId   *old;
    int32_t          n_old, at; /* the old order, and how far it is written */
} Write;

/* What stands for the input v whose memory is made by a step: the copy, or a view of it such as v is of the first. */
static ValueId stand_in(Write *w, ValueId v, int32_t source)
{
    if (!ir_has(w->g, v, T_VIEW))
        return w->made[source];
    ValueId of = stand_in(w, ir_value(w->g, v)->in[0], source);
    ValueId view = ir_copy(&w->b, v, &of);
    ir_value(w->g, view)->backward = true;
    return view;
}

/* The inputs of v where step `s` reads `n` items from these steps. Views come in front of the launch. */
static ValueId *inputs_of(Write *w, ValueId v, const int32_t *items, const int32_t *sources, int32_t n)
{
    const int32_t  n_in = ir_value(w->g, v)->n_in, own = ir_value(w->g, v)->group;
    const ValueId *from = w->in[v];
    ValueId       *in = ARENA_ARRAY(w->g->arena, ValueId, n_in + 1);
    for (int32_t k = 0; k < n_in; k++) {
        const ValueId root = ir_root(w->g, from[k]);
        in[k] = from[k];
        for (int32_t i = 0; i < n && ir_value(w->g, from[k])->group != own; i++)
            if (w->w->m->item[items[i]].v == root && sources[i] >= 0)
                in[k] = stand_in(w, from[k], sources[i]);
    }
    return in;
}

static void write_again(Write *w, int32_t step)
{
    Graph            *g = w->g;
    const RematModel *m = w->w->m;
    const RematStep  *s = &w->w->steps.at[step];
    const RematItem  *it = &m->item[s->item];
    const int32_t     own = ir_value(g, it->v)->group, group = g->groups.len;
    RematCone         cone = { 0 };
    remat_cone(m->a, g, it->v, &cone);
    ValueId **in = ARENA_ARRAY(m->a, ValueId *, cone.at.len);
    for (int32_t i = 0; i < cone.at.len; i++)
        in[i] = inputs_of(w, cone.at.at[i], &m->from[it->first_from], &w->w->from.at[s->first_from], it->n_from);
    vec_push(g->arena, &g->groups, (Group){ .name = arena_printf(g->arena, "%s again", g->groups.at[own].name) });
    for (int32_t i = 0; i < cone.at.len; i++) {
        const ValueId v = cone.at.at[i];
        for (int32_t k = 0; k < ir_value(g, v)->n_in; k++)
            if (ir_value(g, in[i][k])->group == own)
                in[i][k] = w->mine[in[i][k]];
        ValueId copy = ir_copy(&w->b, v, in[i]);
        ir_value(g, copy)->group = group;
        ir_value(g, copy)->backward = true;
        w->mine[v] = w->made[step] = copy;
    }
}

/* Leaves, views and effects, up to the next launch. */
static void write_others(Write *w)
{
    while (w->at < w->n_old && ir_value(w->g, w->old[w->at])->group < 0)
        vec_push(w->g->arena, &w->g->order, w->old[w->at++]);
}

static void write_launch(Write *w, const RematStep *s)
{
    const RematModel *m = w->w->m;
    const int32_t     first = w->at, *read = &m->read[m->first_read[s->launch]];
    const int32_t     n = m->first_read[s->launch + 1] - m->first_read[s->launch];
    const int32_t    *sources = n > 0 ? &w->w->from.at[s->first_from] : NULL;
    bool              any = false;
    for (int32_t i = 0; i < n; i++)
        any |= sources[i] >= 0;
    while (w->at < w->n_old && ir_value(w->g, w->old[w->at])->group == s->launch) {
        ValueId  v = w->old[w->at++];
        ValueId *in = any ? inputs_of(w, v, read, sources, n) : w->in[v];
        ir_value(w->g, v)->in = in;
    }
    for (int32_t i = first; i < w->at; i++)
        vec_push(w->g->arena, &w->g->order, w->old[i]);
    write_others(w);
}

void remat_write(PassCtx *c, const RematWalk *walk)
{
    Graph *g = walk->m->g;
    Arena *a = walk->m->a;
    Write  w = {
         .c = c,
         .w = walk,
         .g = g,
         .b = { .g = g, .d = c->d, .by = "rematerialize", .like = VALUE_NONE, .backward = true },
         .made = ARENA_ARRAY(a, ValueId, walk->steps.len + 1),
         .mine = ARENA_ARRAY(a, ValueId, g->values.len),
         .old = arena_copy(a, g->order.at, sizeof(ValueId) * (size_t)g->order.len),
         .n_old = g->order.len,
    };
    w.in = ARENA_ARRAY(a, ValueId *, g->values.len);
    for (int32_t i = 0; i < g->values.len; i++)
        w.in[i] = ir_value(g, i)->in;
    g->order.len = 0;
    write_others(&w);
    for (int32_t s = 0; s < walk->steps.len; s++) {
        if (walk->steps.at[s].item >= 0)
            write_again(&w, s);
        else
            write_launch(&w, &walk->steps.at[s]);
    }
    schedule_drop_dead(c, g);
    schedule_renumber(c, g);
}
