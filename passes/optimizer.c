/* optimizer.c: stochastic gradient descent with momentum (PyTorch's form, Nesterov's as well). The outputs "grad:PARAM"
 * of autodiff become updates:
 *
 *     velocity <- momentum velocity + (grad + decay param)
 *     param    <- param - lr u,  u = velocity, or with nesterov (grad + decay param) + momentum velocity
 *
 * What an optimizer group changes is one row of a table. The learning rate is the input "lr".
 *
 * Tested by tests/unit/test_autodiff.c and tests/golden. */
#include "passes/pass_impl.h"

#include <string.h>

/* Step sizes stay positive: a quantizer divides by them. */
static const struct {
    const char *group;
    bool        decays;
    double      floor;
} groups[] = {
    { "weight", true, 0 }, { "bias", false, 0 }, { "norm", false, 0 }, { "step", false, 1e-8 }, { "offset", false, 0 },
};

static int32_t find_group(const Value *param)
{
    for (int32_t i = 0; i < DT_COUNT(groups); i++)
        if (str_eq(groups[i].group, ir_text(param, A_GROUP)))
            return i;
    DT_UNREACHABLE("%s: optimizer group \"%s\"", param->name, ir_text(param, A_GROUP));
}

typedef struct Update {
    ValueId param, grad;
} Update;
typedef VEC(Update) UpdateList;

/* The outputs named "grad:PARAM" with the params that they belong to. */
static UpdateList find_updates(PassCtx *c, const Graph *g)
{
    static const char prefix[] = "grad:";
    UpdateList        list = { 0 };
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_OUTPUT || strncmp(v->name, prefix, sizeof prefix - 1) != 0)
            continue;
        ValueId param = ir_find(g, v->name + sizeof prefix - 1);
        DT_ASSERT(param != VALUE_NONE && ir_is(g, param, OP_PARAM), "output \"%s\" belongs to no param", v->name);
        vec_push(c->scratch, &list, (Update){ param, v->in[0] });
    }
    return list;
}

static bool is_gradient_output(const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    return v->op == OP_OUTPUT && strncmp(v->name, "grad:", 5) == 0;
}

/* Does a quantizer own it? Such a param may have no gradient, or not be updated, in some phases of a run. */
static bool is_range(const Graph *g, ValueId param)
{
    const char *group = ir_text(ir_value(g, param), A_GROUP);
    return str_eq(group, "step") || str_eq(group, "offset");
}

/* Steps and offsets of quantizers stay as they are from freeze-ranges on. */
static bool is_frozen(PassCtx *c, const Graph *g, ValueId param)
{
    if (c->recipe == NULL || !is_range(g, param))
        return false;
    return c->moment.epoch >= recipe_setting(c->scratch, c->recipe, SET_FREEZE_RANGES).number[0];
}

static ValueId velocity_leaf(Builder *b, ValueId param)
{
    const Value   p = *ir_value(b->g, param);
    const AttrSet zeros[] = { AT(INIT, "zeros") };
    b->like = param;
    return ir_leaf(b, OP_STATE, arena_printf(b->g->arena, "%s.velocity", p.name), p.type, zeros, DT_COUNT(zeros));
}

static void emit_update(Builder *b, const OptimizerConfig *cfg, ValueId param, ValueId grad, ValueId lr)
{
    const Value   p = *ir_value(b->g, param);
    const int32_t group = find_group(&p);
    const double  decay = groups[group].decays ? cfg->weight_decay : 0;
    ValueId       v = velocity_leaf(b, param);
    ValueId       velocity =
        ir_emit(b, OP_SGD_VELOCITY, IR_IN(v, grad, param), AF(MOMENTUM, cfg->momentum), AF(DECAY, decay));
    ValueId next = ir_emit(b, OP_SGD_STEP, IR_IN(param, grad, velocity, lr), AF(MOMENTUM, cfg->momentum),
                           AF(DECAY, decay), AI(NESTEROV, cfg->nesterov), AF(FLOOR, groups[group].floor));
    ir_assign(b, v, velocity);
    ir_assign(b, param, next);
}

/* The gradient of a param; VALUE_NONE: it has none. */
static ValueId find_grad(const UpdateList *updates, ValueId param)
{
    for (int32_t i = 0; i < updates->len; i++)
        if (updates->at[i].param == param)
            return updates->at[i].grad;
    return VALUE_NONE;
}

/* Every phase of a run keeps the same velocities in the same order, whichever it updates: its programs share memory.
 */
bool pass_optimizer(PassCtx *c, Graph *g)
{
    const UpdateList updates = find_updates(c, g);
    if (updates.len == 0)
        return false;
    DT_ASSERT(c->optimizer, "the optimizer pass runs without an optimizer");

    Rewriter r = ir_rewrite_begin(g, c->scratch, c->d, "optimizer");
    for (int32_t i = 0; i < r.n_old; i++)
        if (!is_gradient_output(g, r.old[i]))
            ir_keep(&r, r.old[i]);
    r.b.backward = true;
    r.b.like = ir_mapped(&r, updates.at[0].param);
    ValueId lr = ir_leaf(&r.b, OP_INPUT, "lr", (Type){ DTYPE_F32, shape_of(0, NULL), LAYOUT_ROWS }, NULL, 0);
    for (int32_t i = 0; i < r.n_old; i++) {
        ValueId param = r.old[i], grad = ir_is(g, param, OP_PARAM) ? find_grad(&updates, param) : VALUE_NONE;
        if (grad != VALUE_NONE && !is_frozen(c, g, param))
            emit_update(&r.b, c->optimizer, ir_mapped(&r, param), ir_mapped(&r, grad), lr);
        else if (ir_is(g, param, OP_PARAM) && is_range(g, param))
            velocity_leaf(&r.b, ir_mapped(&r, param));
    }
    r.changed = true;
    pass_count(c, "params updated", updates.len);
    return ir_rewrite_end(&r);
}
