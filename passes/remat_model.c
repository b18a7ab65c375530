/* remat_model.c: the scheduled graph as the pass rematerialize sees it: values with memory, which launches make and
 * read them, whether a second launch could make them again, and what that would cost.
 *
 * The cost of a launch is an estimate: the larger of the time that its bytes take at the target's rate of memory and
 * the time of its products at the target's rate of arithmetic. Only the ratio of the two rates decides what is made
 * again.
 *
 * Tested by tests/unit/test_rematerialize.c. */
#include "passes/plan.h"
#include "passes/remat.h"

#include <math.h>

enum { LAUNCH_NS = 2000 }; /* of a launch that does nothing */

/* ---- Cost -------------------------------------------------------------------------------------------------------- */

static int64_t elems_of(const Graph *g, ValueId v)
{
    return shape_elems(ir_value(g, v)->type.shape);
}

/* Each element of a convolution's result is a sum over the weights of one output. `weight`: which dimension counts
 * the outputs. */
static int64_t products(const Graph *g, ValueId result, ValueId weight, int32_t dim)
{
    return 2 * elems_of(g, result) * (elems_of(g, weight) / dt_max64(ir_value(g, weight)->type.shape.dim[dim], 1));
}

static int64_t value_flops(const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    switch (v->op) {
    case OP_CONV2D:
    case OP_LINEAR:
    case OP_CONV2D_INT:
    case OP_LINEAR_INT:
        return products(g, id, v->in[1], 0);
    case OP_CONV_TRANSPOSE2D:
    case OP_CONV2D_GRAD_X:
    case OP_LINEAR_GRAD_X:
        return products(g, v->in[0], v->in[1], 0);
    case OP_CONV2D_GRAD_W:
    case OP_LINEAR_GRAD_W:
        return products(g, v->in[0], id, 0);
    case OP_DEPTHWISE:
        return products(g, id, v->in[1], 1);
    case OP_DEPTHWISE_GRAD_X:
        return products(g, v->in[0], v->in[1], 1);
    case OP_DEPTHWISE_GRAD_W:
        return 2 * elems_of(g, v->in[0]) * (elems_of(g, id) / dt_max64(v->type.shape.dim[0], 1));
    default:
        return ir_has(g, id, T_RANDOM) ? 40 * elems_of(g, id) : elems_of(g, id); /* ten rounds of Philox */
    }
}

static double launch_ns(const PassCtx *c, int64_t bytes, int64_t flops)
{
    double move = c->target->bytes_per_ns > 0 ? c->target->bytes_per_ns : 10;
    double compute = c->target->flops_per_ns > 0 ? c->target->flops_per_ns : 100;
    return LAUNCH_NS + fmax((double)bytes / move, (double)flops / compute);
}

/* ---- What a value is made from ----------------------------------------------------------------------------------- */

static void cone_add(Arena *a, const Graph *g, ValueId v, int32_t group, RematCone *out)
{
    for (int32_t i = 0; i < out->at.len; i++)
        if (out->at.at[i] == v)
            return;
    for (int32_t i = 0; i < ir_value(g, v)->n_in; i++)
        if (ir_value(g, ir_value(g, v)->in[i])->group == group)
            cone_add(a, g, ir_value(g, v)->in[i], group, out);
    vec_push(a, &out->at, v);
}

void remat_cone(Arena *a, const Graph *g, ValueId v, RematCone *out)
{
    out->at.len = 0;
    cone_add(a, g, v, ir_value(g, v)->group, out);
}

/* A list of numbers without repetition. */
typedef struct Numbers {
    VEC(int32_t) at;
} Numbers;

static void numbers_add(Arena *a, Numbers *l, int32_t from, int32_t x)
{
    for (int32_t i = from; i < l->at.len; i++)
        if (l->at.at[i] == x)
            return;
    vec_push(a, &l->at, x);
}

/* From which launch on a param or state holds another value than at the beginning; INT32_MAX: it never does. */
static int32_t *leaves_until(const RematModel *m, const StoredList *list)
{
    int32_t *until = ARENA_ARRAY(m->a, int32_t, m->g->values.len);
    for (int32_t i = 0; i < m->g->values.len; i++)
        until[i] = INT32_MAX;
    for (int32_t i = 0; i < list->at.len; i++)
        if (list->at.at[i].leaf != VALUE_NONE)
            until[list->at.at[i].leaf] = list->at.at[i].first;
    return until;
}

static void item_cost(const PassCtx *c, RematModel *m, RematItem *it, Numbers *from, const int32_t *until)
{
    const Graph *g = m->g;
    RematCone    cone = { 0 };
    int64_t      bytes = it->bytes;
    remat_cone(m->a, g, it->v, &cone);
    it->first_from = from->at.len;
    it->until = INT32_MAX;
    for (int32_t i = 0; i < cone.at.len; i++) {
        const Value *v = ir_value(g, cone.at.at[i]);
        it->flops += value_flops(g, cone.at.at[i]);
        for (int32_t k = 0; k < v->n_in; k++) {
            ValueId root = ir_root(g, v->in[k]);
            if (ir_value(g, v->in[k])->group == ir_value(g, it->v)->group)
                continue;
            if (ir_has(g, root, T_LEAF)) {
                it->until = until[root] < it->until ? until[root] : it->until;
                bytes += type_bytes(ir_value(g, root)->type);
            } else {
                int32_t before = from->at.len;
                numbers_add(m->a, from, it->first_from, m->item_of[root]);
                bytes += from->at.len > before ? type_bytes(ir_value(g, root)->type) : 0;
            }
        }
    }
    it->n_from = from->at.len - it->first_from;
    it->moved = bytes;
    it->ns = launch_ns(c, bytes, it->flops);
}

/* ---- Launches ---------------------------------------------------------------------------------------------------- */

static void find_reads(const PassCtx *c, RematModel *m)
{
    const Graph *g = m->g;
    Numbers      read = { 0 };
    int64_t      bytes = 0, flops = 0;
    int32_t      at = 0;
    for (int32_t k = 0; k < m->n_launches; k++) {
        m->first_read[k] = read.at.len;
        bytes = flops = 0;
        while (at < g->order.len && ir_value(g, g->order.at[at])->group < 0)
            at++; /* leaves and views */
        for (; at < g->order.len && ir_value(g, g->order.at[at])->group == k; at++) {
            const Value *v = ir_value(g, g->order.at[at]);
            flops += value_flops(g, g->order.at[at]);
            for (int32_t i = 0; i < v->n_in; i++) {
                ValueId root = ir_root(g, v->in[i]);
                bytes += ir_has(g, root, T_LEAF) ? type_bytes(ir_value(g, root)->type) : 0;
                if (!ir_has(g, root, T_LEAF) && ir_value(g, v->in[i])->group != k)
                    numbers_add(m->a, &read, m->first_read[k], m->item_of[root]);
            }
            bytes += m->item_of[g->order.at[at]] >= 0 ? type_bytes(v->type) : 0;
        }
        for (int32_t i = m->first_read[k]; i < read.at.len; i++)
            bytes += type_bytes(ir_value(g, m->item[read.at.at[i]].v)->type);
        m->step_ns += launch_ns(c, bytes, flops);
    }
    m->first_read[m->n_launches] = read.at.len;
    m->read = read.at.at;
}

/* Readers of each item and what each launch makes, by counting. */
static void find_uses(RematModel *m)
{
    int32_t *n = ARENA_ARRAY(m->a, int32_t, m->n + 1), total = 0;
    for (int32_t i = 0; i < m->first_read[m->n_launches]; i++)
        m->item[m->read[i]].n_use++;
    m->use = ARENA_ARRAY(m->a, int32_t, m->first_read[m->n_launches] + 1);
    for (int32_t i = 0; i < m->n; i++) {
        m->item[i].first_use = total;
        total += m->item[i].n_use;
    }
    for (int32_t k = 0; k < m->n_launches; k++)
        for (int32_t i = m->first_read[k]; i < m->first_read[k + 1]; i++) {
            int32_t x = m->read[i];
            m->use[m->item[x].first_use + n[x]++] = k;
        }
    for (int32_t k = 0, i = 0; k < m->n_launches; k++) { /* items come in the order of their launches */
        m->first_made[k] = i;
        while (i < m->n && m->item[i].first == k)
            m->made[i] = i, i++;
    }
    m->first_made[m->n_launches] = m->n;
}

/* The longest time between two launches that need the value. */
static void find_cut(const RematModel *m, RematItem *it)
{
    int32_t before = it->first, longest = 0;
    for (int32_t i = 0; i < it->n_use; i++) {
        int32_t k = m->use[it->first_use + i];
        if (k - before > longest) {
            longest = k - before;
            it->cut = before;
        }
        before = k;
    }
}

RematModel remat_model(PassCtx *c, Graph *g)
{
    Arena     *a = c->scratch;
    StoredList list = plan_stored(a, g);
    Numbers    from = { 0 };
    RematModel m = { .a = a, .g = g, .align = c->target->align_bytes, .n = list.at.len, .n_launches = g->groups.len };
    m.item = ARENA_ARRAY(a, RematItem, m.n + 1);
    m.item_of = ARENA_ARRAY(a, int32_t, g->values.len + 1);
    m.first_read = ARENA_ARRAY(a, int32_t, m.n_launches + 1);
    m.first_made = ARENA_ARRAY(a, int32_t, m.n_launches + 1);
    m.made = ARENA_ARRAY(a, int32_t, m.n + 1);
    for (int32_t i = 0; i < g->values.len; i++)
        m.item_of[i] = -1;
    for (int32_t i = 0; i < m.n; i++) {
        const Stored *s = &list.at.at[i];
        bool          elsewhere = s->leaf != VALUE_NONE || s->output;
        m.item_of[s->v] = i;
        m.item[i] = (RematItem){ .v = s->v,
                                 .first = s->first,
                                 .bytes = elsewhere ? 0 : dt_round_up(s->bytes, m.align),
                                 .fixed = elsewhere || g->groups.at[s->first].segments };
    }
    int32_t *until = leaves_until(&m, &list);
    for (int32_t i = 0; i < m.n; i++)
        item_cost(c, &m, &m.item[i], &from, until);
    m.from = from.at.at;
    find_reads(c, &m);
    find_uses(&m);
    for (int32_t i = 0; i < m.n; i++)
        find_cut(&m, &m.item[i]);
    return m;
}
