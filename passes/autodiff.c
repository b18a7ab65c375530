/* autodiff.c: reverse-mode differentiation of a step. The order is walked backward from the operand of the output
 * "loss"; each value that got a gradient hands gradients to its inputs by the rule of its op (ir/grad.c), and those
 * that meet at one value are summed. Only values behind which a param lies are differentiated.
 *
 *     %9 = cross_entropy %7, %8          %9 = cross_entropy %7, %8
 *     output %9 "loss"            ->     output %9 "loss"
 *                                        %12 = xent_grad %7, %11, %8, %10
 *                                        %13 = linear_grad_w %12, %5
 *                                        output %13 "grad:head.weight"
 *
 * Outputs named "penalty:..." are added to the loss.
 *
 * The contract with what follows: for every param that the loss depends on, in the order of the params, one output
 * named "grad:" and the param's name. The optimizer pass turns them into updates and removes them.
 *
 * Tested by tests/unit/test_autodiff.c and tests/golden. */
#include "passes/pass_impl.h"

#include <string.h>

typedef struct Autodiff {
    GradCtx  base; /* first: the rules hand it back */
    Builder  b;
    ValueId *grad;    /* by value: its gradient so far */
    bool    *trained; /* by value: a param lies behind it */
    int32_t  n;       /* values before we began */
    int64_t  sums;
} Autodiff;

static bool autodiff_wants(GradCtx *c, ValueId input)
{
    return ((const Autodiff *)c)->trained[input];
}

static void autodiff_add(GradCtx *c, ValueId input, ValueId g)
{
    Autodiff *ad = (Autodiff *)c;
    if (g == VALUE_NONE || !ad->trained[input])
        return;
    const Graph *graph = ad->b.g;
    DT_ASSERT(input < ad->n && shape_eq(ir_value(graph, input)->type.shape, ir_value(graph, g)->type.shape),
              "the gradient %%%d of %%%d has another shape", g, input);
    if (ad->grad[input] == VALUE_NONE) {
        ad->grad[input] = g;
        return;
    }
    ad->grad[input] = ir_emit(&ad->b, OP_ADD, IR_IN(ad->grad[input], g));
    ad->sums++;
}

/* Of the values in front of the loss; others cannot reach it. A param that the options freeze is a constant: what only
 * its gradient would need is not computed. */
static void mark_trained(Autodiff *ad, const PassCtx *c, const Graph *g)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        bool         trained = v->op == OP_PARAM && !optimizer_freezes(c, v->name);
        for (int32_t k = 0; k < v->n_in; k++)
            trained = trained || (ad->trained[v->in[k]] && !(ir_ops[v->op].traits & T_STOP));
        ad->trained[g->order.at[i]] = trained;
    }
}

/* The value to differentiate; VALUE_NONE: reported. */
static ValueId find_loss(const Graph *g, Diag *d, Arena *scratch)
{
    ValueId out = ir_find(g, "loss");
    if (out == VALUE_NONE || !ir_is(g, out, OP_OUTPUT)) {
        diag_error(d, LOC_NONE, "autodiff: the graph has no output \"loss\"");
        return VALUE_NONE;
    }
    ValueId      loss = ir_value(g, out)->in[0];
    const Value *v = ir_value(g, loss);
    if (v->type.dtype == DTYPE_F32 && v->type.shape.rank == 0)
        return loss;
    diag_error(d, ir_loc(g, v), "autodiff: the loss is %s[%s], expected one number f32[]", dtype_name(v->type.dtype),
               shape_text(scratch, v->type.shape));
    return VALUE_NONE;
}

/* False: reported. */
static bool differentiate(Autodiff *ad, ValueId id)
{
    const Value *v = ir_value(ad->b.g, id);
    GradFn       rule = ir_ops[v->op].grad;
    if (v->op == OP_PARAM)
        return true;
    if (!rule) {
        diag_error(ad->b.d, ir_loc(ad->b.g, v),
                   "%s: it has no gradient, but the loss depends on params through it (%s)", ir_ops[v->op].text,
                   ir_label(ad->b.g->arena, ad->b.g, id));
        return false;
    }
    const int32_t before = ad->b.d->errors;
    ad->b.like = id;
    rule(&ad->base, id, ad->grad[id]);
    return ad->b.d->errors == before;
}

/* What is made small: the loss and the penalties of quantizers. */
static void seed_gradients(Autodiff *ad, const Graph *g, ValueId loss, int32_t n_order)
{
    const ValueId one = ir_const(&ad->b, 1);
    ad->grad[loss] = one;
    for (int32_t i = 0; i < n_order; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op == OP_OUTPUT && strncmp(v->name, PENALTY_OUTPUT, strlen(PENALTY_OUTPUT)) == 0 &&
            ad->trained[v->in[0]])
            ad->grad[v->in[0]] = one;
    }
}

static int64_t name_gradients(Autodiff *ad, Graph *g, int32_t n_order)
{
    int64_t n = 0;
    for (int32_t i = 0; i < n_order; i++) {
        ValueId id = g->order.at[i];
        if (!ir_is(g, id, OP_PARAM) || ad->grad[id] == VALUE_NONE)
            continue;
        ad->b.like = id;
        ir_output(&ad->b, ad->grad[id], arena_printf(g->arena, "grad:%s", ir_value(g, id)->name));
        n++;
    }
    return n;
}

bool pass_autodiff(PassCtx *c, Graph *g)
{
    const int32_t n = g->values.len, n_order = g->order.len;
    const ValueId loss = find_loss(g, c->d, c->scratch);
    if (loss == VALUE_NONE)
        return false;
    Autodiff ad = { .base = { .add = autodiff_add, .wants = autodiff_wants },
                    .b = { .g = g, .d = c->d, .by = "autodiff", .like = loss, .backward = true },
                    .grad = ARENA_ARRAY(c->scratch, ValueId, n),
                    .trained = ARENA_ARRAY(c->scratch, bool, n),
                    .n = n };
    ad.base.b = &ad.b;
    ad.base.batch_in_n = c->recipe && c->recipe->batch_in_n;
    for (int32_t i = 0; i < n; i++)
        ad.grad[i] = VALUE_NONE;
    mark_trained(&ad, c, g);
    if (!ad.trained[loss]) {
        diag_error(c->d, ir_loc(g, ir_value(g, loss)),
                   "autodiff: the loss depends on no param, there is nothing to train");
        return false;
    }
    seed_gradients(&ad, g, loss, n_order);
    for (int32_t i = n_order - 1; i >= 0; i--) {
        ValueId id = g->order.at[i];
        if (ad.trained[id] && ad.grad[id] != VALUE_NONE && !differentiate(&ad, id))
            return true;
    }
    pass_count(c, "gradients", name_gradients(&ad, g, n_order));
    pass_count(c, "sums of gradients", ad.sums);
    pass_count(c, "values", g->values.len - n);
    return true;
}
