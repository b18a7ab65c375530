/* freeze_batchnorm.c: from the epoch freeze-bn on, a training step normalizes with the running statistics, as an
 * evaluation does, and leaves them as they are:
 *
 *   %m = bn_mean %x, %running_mean                    %y = batchnorm %x, %running_mean, %running_var, %gamma, %beta
 *   %v = bn_var %x, %running_mean
 *   %y = batchnorm %x, %m, %v, %gamma, %beta    =>
 *   assign %running_mean, ema %running_mean, %m
 *   assign %running_var, ema %running_var, %v
 *
 * Batches of a few images give statistics that jump; late in a quantized run they move values across rounding limits
 * more than training does. The init step sees what the first training step sees, so it is frozen with it. It runs
 * before fold-batchnorm, whose two-convolution form then needs one convolution.
 *
 * Tested by tests/unit/test_fold.c and tests/golden. */
#include "passes/batchnorm.h"

#include <string.h>

/* ---- What passes know of batch norms ----------------------------------------------------------------------------- */

static bool is_statistic(const Graph *g, ValueId id)
{
    return ir_is(g, id, OP_BN_MEAN) || ir_is(g, id, OP_BN_VAR);
}

/* "bn1.running_mean" -> "bn1.running_var" */
static ValueId named_beside(Arena *a, const Graph *g, ValueId shift)
{
    static const char tail[] = "running_mean";
    const char       *name = ir_value(g, shift)->name;
    size_t            len = name ? strlen(name) : 0;
    if (len < strlen(tail) || !str_eq(name + len - strlen(tail), tail))
        return VALUE_NONE;
    return ir_find(g, arena_printf(a, "%.*srunning_var", (int)(len - strlen(tail)), name));
}

ValueId batchnorm_running(Arena *a, const Graph *g, const Uses *u, ValueId stat)
{
    if (ir_is(g, stat, OP_STATE))
        return stat;
    if (!is_statistic(g, stat))
        return VALUE_NONE;
    for (int32_t i = u->first[stat]; i < u->first[stat + 1]; i++) {
        const Value *user = ir_value(g, u->users[i]);
        if ((user->op == OP_EMA || user->op == OP_LERP) && user->in[1] == stat && ir_is(g, user->in[0], OP_STATE))
            return user->in[0];
    }
    ValueId shift = ir_value(g, stat)->in[1];
    ValueId found = ir_is(g, stat, OP_BN_MEAN) ? shift : named_beside(a, g, shift);
    return found != VALUE_NONE && ir_is(g, found, OP_STATE) ? found : VALUE_NONE;
}

bool batchnorm_only_statistics(const Graph *g, const Uses *u, ValueId id)
{
    for (int32_t i = u->first[id]; i < u->first[id + 1]; i++)
        if (!is_statistic(g, u->users[i]))
            return false;
    return ir_use_count(u, id) > 0;
}

/* ---- The pass ---------------------------------------------------------------------------------------------------- */

typedef struct Freezer {
    PassCtx *c;
    Rewriter r;
    Uses     uses;
    ValueId *running; /* by value: of a statistic that is frozen, the state in its place; VALUE_NONE: not frozen */
    bool    *kept;    /* by value: already in the new order */
} Freezer;

/* Both statistics of a batch norm, or neither. */
static void find_frozen(Freezer *f, const Graph *g)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        if (v->op != OP_BATCHNORM || !is_statistic(g, v->in[NORM_MEAN]) || !is_statistic(g, v->in[NORM_VAR]))
            continue;
        ValueId mean = batchnorm_running(f->c->scratch, g, &f->uses, v->in[NORM_MEAN]);
        ValueId var = batchnorm_running(f->c->scratch, g, &f->uses, v->in[NORM_VAR]);
        if (mean == VALUE_NONE || var == VALUE_NONE) {
            pass_explain(f->c, g, id, "is not frozen: it has no running statistics");
            continue;
        }
        f->running[v->in[NORM_MEAN]] = mean;
        f->running[v->in[NORM_VAR]] = var;
        pass_count(f->c, "batch norms frozen", 1);
    }
}

/* The running statistic that would have become this one; it is left as it is. */
static bool is_update(const Freezer *f, const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    if (v->op == OP_ASSIGN)
        return is_update(f, g, v->in[1]);
    if (v->op != OP_EMA || f->running[v->in[1]] == VALUE_NONE)
        return false;
    for (int32_t i = f->uses.first[id]; i < f->uses.first[id + 1]; i++)
        if (!ir_is(g, f->uses.users[i], OP_ASSIGN))
            return false;
    return true;
}

static void keep(Freezer *f, ValueId id)
{
    if (!f->kept[id])
        ir_keep(&f->r, id);
    f->kept[id] = true;
}

bool pass_freeze_batchnorm(PassCtx *c, Graph *g)
{
    if (c->recipe == NULL || c->moment.epoch < recipe_setting(c->scratch, c->recipe, SET_FREEZE_BN).number[0])
        return false;
    Freezer f = { .c = c,
                  .uses = ir_uses(c->scratch, g),
                  .running = ARENA_ARRAY(c->scratch, ValueId, g->values.len),
                  .kept = ARENA_ARRAY(c->scratch, bool, g->values.len) };
    for (int32_t i = 0; i < g->values.len; i++)
        f.running[i] = VALUE_NONE;
    find_frozen(&f, g);
    f.r = ir_rewrite_begin(g, c->scratch, c->d, "freeze-batchnorm");
    for (int32_t i = 0; i < f.r.n_old; i++) {
        ValueId id = f.r.old[i];
        if (is_update(&f, g, id))
            continue;
        if (f.running[id] == VALUE_NONE) {
            keep(&f, id);
            continue;
        }
        keep(&f, f.running[id]); /* it may come later in the order */
        ir_replace(&f.r, id, f.running[id]);
    }
    return ir_rewrite_end(&f.r);
}
