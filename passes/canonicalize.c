/* canonicalize.c: one way to say one thing, so that later passes meet fewer forms: what says nothing is removed
 * (reshape to the same shape, dropout of 0, scale by 1, a shortcut that pads nothing), a view of a view looks at the
 * first value, and operands of commutative ops stand in one order: the larger first, then the older.
 *
 * Tested by tests/unit/test_simplify.c and tests/golden. */
#include "passes/algebra.h"
#include "passes/pass_impl.h"

/* reshape(reshape(x)) reads x; what lies between lives on only if somebody else reads it. */
static bool skip_views(const Graph *g, Value *v)
{
    if (!(ir_ops[v->op].traits & T_VIEW) || !ir_has(g, v->in[0], T_VIEW))
        return false;
    v->in[0] = ir_value(g, v->in[0])->in[0];
    return true;
}

/* Swapping is exact: x + y and x y do not depend on the order. */
static bool order_operands(const Graph *g, Value *v)
{
    if (!(ir_ops[v->op].traits & T_COMMUTES))
        return false;
    ValueId x = v->in[0], y = v->in[1];
    int64_t nx = shape_elems(ir_value(g, x)->type.shape), ny = shape_elems(ir_value(g, y)->type.shape);
    if (nx > ny || (nx == ny && x <= y))
        return false;
    v->in[0] = y;
    v->in[1] = x;
    return true;
}

static void canonicalize_value(PassCtx *c, Rewriter *r, ValueId id)
{
    Graph *g = r->b.g;
    Value *v = ir_value(g, id);
    ir_map_inputs(r, id); /* ids of the new graph from here on; they map to themselves */
    if (skip_views(g, v)) {
        r->changed = true;
        pass_count(c, "views", 1);
    }
    ValueId same = algebra_same(g, v);
    if (same != VALUE_NONE) {
        ir_replace(r, id, same);
        pass_count(c, "removed", 1);
        return;
    }
    if (order_operands(g, v)) {
        r->changed = true;
        pass_count(c, "swapped", 1);
    }
    ir_keep(r, id);
}

bool pass_canonicalize(PassCtx *c, Graph *g)
{
    Rewriter r = ir_rewrite_begin(g, c->scratch, c->d, "canonicalize");
    for (int32_t i = 0; i < r.n_old; i++)
        canonicalize_value(c, &r, r.old[i]);
    return ir_rewrite_end(&r);
}
