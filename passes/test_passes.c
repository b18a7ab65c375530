/* test_passes.c: passes that make the manager earn its living. Each plants one kind of mistake that a pass can have: a
 * graph that breaks a rule, a lie about having changed it, a valid graph that means something else, a failed assertion.
 *
 * Used by tests/unit/test_manager.c and by tests of detent-opt. */
#include "passes/pass_impl.h"

static ValueId first_of(const Graph *g, OpCode op)
{
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], op))
            return g->order.at[i];
    return VALUE_NONE;
}

bool pass_test_noop(PassCtx *c, Graph *g)
{
    pass_count(c, "values", g->order.len);
    return false;
}

bool pass_test_type(PassCtx *c, Graph *g)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        Value *v = ir_value(g, g->order.at[i]);
        if ((ir_ops[v->op].traits & T_ELTWISE) && v->type.shape.rank > 0) {
            v->type.shape.dim[0]++;
            pass_count(c, "broken", 1);
            return true;
        }
    }
    return false;
}

bool pass_test_lie(PassCtx *c, Graph *g)
{
    ValueId id = first_of(g, OP_SUB);
    if (id != VALUE_NONE) {
        ValueId *in = ir_value(g, id)->in, first = in[0];
        in[0] = in[1];
        in[1] = first;
        pass_count(c, "swapped", 1);
    }
    return false;
}

bool pass_test_boast(PassCtx *c, Graph *g)
{
    pass_count(c, "values", g->order.len);
    return true;
}

bool pass_test_drop(PassCtx *c, Graph *g)
{
    ValueId drop = first_of(g, OP_ADD);
    if (drop == VALUE_NONE ||
        !shape_eq(ir_value(g, drop)->type.shape, ir_value(g, ir_value(g, drop)->in[0])->type.shape))
        return false;
    Rewriter r = ir_rewrite_begin(g, c->scratch, c->d, "test-drop");
    for (int32_t i = 0; i < r.n_old; i++)
        if (r.old[i] == drop)
            ir_replace(&r, drop, ir_mapped(&r, ir_value(g, drop)->in[0]));
        else
            ir_keep(&r, r.old[i]);
    return ir_rewrite_end(&r);
}

bool pass_test_bug(PassCtx *c, Graph *g)
{
    DT_ASSERT(g->order.len < 0, "planted: graph @%s has %d values in a %s step", g->name, g->order.len,
              step_kind_name(c->step));
    return false;
}
