/* averages.c: moving averages of params, with which a network is evaluated (option ema). For every param and every
 * state - running statistics, ranges - there is a state "NAME.ema"; what they become is the optimizer's (optimizer.c).
 *
 *   eval, reestimate (use_averages)
 *     %w = param "fc.weight"          %w = param "fc.weight"             kept: programs of a run share their memory
 *     %y = linear %x, %w        =>    %a = state "fc.weight.ema"
 *                                     %y = linear %x, %a
 *
 * The averages come right behind the states that every step has, in the order of what they are averages of, so they lie
 * at the same place in the steps that have them.
 *
 * Tested by tests/unit/test_optimizers.c and tests/golden. */
#include "passes/pass_impl.h"

#include <string.h>

/* The teacher is no part of what is trained. */
static bool is_averaged(const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    return (v->op == OP_PARAM || v->op == OP_STATE) && v->type.dtype == DTYPE_F32 &&
           strncmp(v->name, TEACHER_PREFIX, sizeof TEACHER_PREFIX - 1) != 0;
}

static ValueId average_leaf(Builder *b, ValueId of)
{
    const Value   v = *ir_value(b->g, of);
    const AttrSet zeros[] = { AT(INIT, "zeros") };
    b->like = of;
    return ir_leaf(b, OP_STATE, arena_printf(b->g->arena, "%s" OPT_EMA, v.name), v.type, zeros, DT_COUNT(zeros));
}

bool pass_averages(PassCtx *c, Graph *g)
{
    const bool train = c->step == STEP_TRAIN;
    if (c->optimizer == NULL || c->optimizer->ema == 0 || (!train && !c->use_averages))
        return false;
    const AttrSet zeros[] = { AT(INIT, "zeros") };
    Rewriter      r = ir_rewrite_begin(g, c->scratch, c->d, "averages");
    int64_t       n = 0;
    for (int32_t i = 0; i < r.n_old; i++) /* leaves first: a value may be read before its average would come */
        if (ir_has(g, r.old[i], T_LEAF))
            ir_keep(&r, r.old[i]);
    r.b.like = r.old[0];
    ir_leaf(&r.b, OP_STATE, OPT_UPDATES, (Type){ DTYPE_F32, shape_of(0, NULL), LAYOUT_ROWS }, zeros, DT_COUNT(zeros));
    ValueId *average = ARENA_ARRAY(c->scratch, ValueId, g->values.len);
    for (int32_t i = 0; i < r.n_old; i++)
        if (is_averaged(g, r.old[i])) {
            average[r.old[i]] = average_leaf(&r.b, r.old[i]);
            n++;
        }
    for (int32_t i = 0; i < r.n_old && !train; i++)
        if (is_averaged(g, r.old[i]))
            ir_replace(&r, r.old[i], average[r.old[i]]);
    for (int32_t i = 0; i < r.n_old; i++)
        if (!ir_has(g, r.old[i], T_LEAF))
            ir_keep(&r, r.old[i]);
    r.changed = true;
    pass_count(c, "averages", n);
    return ir_rewrite_end(&r);
}
