/* layout.c: the physical layout of every rank-4 value.
 *
 * Images (activations and their gradients) get the target's image layout, NHWC everywhere: whole vectors of channels,
 * the format that the convolution libraries like best. Weights, and what is computed from weights alone, get its weight
 * layout: rows on a CPU, where the library packs them anyway; [K, R, S, C], that is nhwc, for a GPU's. Where two
 * layouts meet - in an element-wise op, in a reshape, which works on logical order - a relayout is put; a reshape needs
 * none when both orders are the same memory anyway.
 *
 * Tested by tests/unit/test_lower.c, test_layout.c and tests/golden. */
#include "passes/pass_impl.h"

/* Rows and NHWC are the same memory when there is one pixel or one channel. */
static bool layouts_coincide(Shape s)
{
    return s.rank != 4 || s.dim[1] == 1 || (s.dim[2] == 1 && s.dim[3] == 1);
}

/* What decides the layout of a result. */
typedef enum LayoutRule {
    RULE_FOLLOW, /* the first input of the result's shape, else of rank 4 */
    RULE_WEIGHT, /* the target's weight layout */
    RULE_IMAGE,  /* the target's image layout */
    RULE_VIEW    /* logical order: rows, with relayouts around it */
} LayoutRule;

static const LayoutRule layout_rules[OP_COUNT] = {
    [OP_PARAM] = RULE_WEIGHT,           [OP_STATE] = RULE_WEIGHT,
    [OP_CONV2D_GRAD_W] = RULE_WEIGHT,   [OP_INPUT] = RULE_IMAGE,
    [OP_CONV2D] = RULE_IMAGE,           [OP_CONV2D_GRAD_X] = RULE_IMAGE,
    [OP_CONV2D_INT] = RULE_IMAGE,       [OP_BROADCAST] = RULE_IMAGE,
    [OP_GLOBAL_AVGPOOL] = RULE_IMAGE,   [OP_DEPTHWISE] = RULE_IMAGE,
    [OP_DEPTHWISE_GRAD_X] = RULE_IMAGE, [OP_DEPTHWISE_WEIGHT] = RULE_IMAGE,
    [OP_TAP_OUTPUTS] = RULE_WEIGHT,     [OP_DEPTHWISE_GRAD_W] = RULE_WEIGHT,
    [OP_RESHAPE] = RULE_VIEW,           [OP_CONV_TRANSPOSE2D] = RULE_IMAGE,
};

static Layout layout_follow(const Rewriter *r, const Value *v)
{
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < v->n_in; i++) {
            Type x = ir_value(r->b.g, ir_mapped(r, v->in[i]))->type;
            if (x.shape.rank == 4 && (pass == 1 || shape_eq(x.shape, v->type.shape)))
                return x.layout;
        }
    return LAYOUT_ROWS;
}

static Layout layout_of(const Rewriter *r, const Value *v, const Target *t)
{
    LayoutRule rule = layout_rules[v->op];
    return rule == RULE_WEIGHT ? t->weight_layout : rule == RULE_IMAGE ? t->image_layout : layout_follow(r, v);
}

bool layout_makes_weight(OpCode op)
{
    return layout_rules[op] == RULE_WEIGHT;
}

static ValueId layout_convert(Rewriter *r, ValueId like, ValueId v, Layout to)
{
    r->b.like = like;
    ValueId out = ir_emit(&r->b, OP_RELAYOUT, IR_IN(v));
    ir_value(r->b.g, out)->type.layout = to;
    return out;
}

/* In which layout the rank-4 operand i must come: values walked together lie alike, the library knows images and
 * weights. `own`: the layout of v. */
static Layout layout_operand(const Rewriter *r, const Value *v, int32_t i, Layout own, const Target *t)
{
    const Graph *g = r->b.g;
    Type         x = ir_value(g, ir_mapped(r, v->in[i]))->type, first = ir_value(g, ir_mapped(r, v->in[0]))->type;
    uint32_t     traits = ir_ops[v->op].traits;
    if (traits & T_LIBRARY)
        return i == 1 && v->op != OP_CONV2D_GRAD_W ? t->weight_layout : t->image_layout;
    if (v->op == OP_DEPTHWISE || v->op == OP_DEPTHWISE_GRAD_X || v->op == OP_DEPTHWISE_GRAD_W)
        return t->image_layout; /* channels are neighbours in all that they read */
    if (v->op == OP_ASSIGN || ((traits & T_REDUCE) && shape_eq(x.shape, first.shape)))
        return first.layout;
    return (traits & T_ELTWISE) && shape_eq(x.shape, v->type.shape) ? own : x.layout;
}

/* An image meets a weight: a new value, which maps to itself, in its place. */
static void layout_operands(Rewriter *r, ValueId id, Layout own, const Target *t)
{
    Graph *g = r->b.g;
    for (int32_t i = 0; i < ir_value(g, id)->n_in; i++) {
        ValueId x = ir_mapped(r, ir_value(g, id)->in[i]);
        if (ir_value(g, x)->type.shape.rank != 4)
            continue;
        Layout want = layout_operand(r, ir_value(g, id), i, own, t);
        if (ir_value(g, x)->type.layout != want) {
            ValueId converted = layout_convert(r, id, x, want);
            ir_value(g, id)->in[i] = converted;
        }
    }
}

/* A reshape reads and writes logical order; both sides are converted where that is another memory order. */
static void layout_reshape(Rewriter *r, const PassCtx *c, ValueId id)
{
    Graph  *g = r->b.g;
    ValueId from = ir_mapped(r, ir_value(g, id)->in[0]);
    Type    in = ir_value(g, from)->type;
    if (in.layout == LAYOUT_NHWC && !layouts_coincide(in.shape)) {
        ValueId rows = layout_convert(r, id, from, LAYOUT_ROWS);
        ir_value(g, id)->in[0] = rows; /* a new value maps to itself */
    }
    ir_keep(r, id);
    Value *v = ir_value(g, id);
    if (v->type.shape.rank != 4)
        return;
    v->type.layout = layouts_coincide(v->type.shape) ? c->target->image_layout : LAYOUT_ROWS;
    if (v->type.layout != c->target->image_layout)
        ir_replace(r, id, layout_convert(r, id, id, c->target->image_layout));
}

bool pass_layout(PassCtx *c, Graph *g)
{
    Rewriter r = ir_rewrite_begin(g, c->scratch, c->d, "layout");
    for (int32_t i = 0; i < r.n_old; i++) {
        ValueId id = r.old[i];
        if (layout_rules[ir_value(g, id)->op] == RULE_VIEW) {
            layout_reshape(&r, c, id);
            continue;
        }
        Layout own = layout_of(&r, ir_value(g, id), c->target);
        layout_operands(&r, id, own, c->target);
        ir_keep(&r, id);
        if (ir_value(g, id)->type.shape.rank == 4) {
            ir_value(g, id)->type.layout = own;
            pass_count(c, "values laid out", 1);
        }
    }
    g->target = c->target->name;
    ir_rewrite_end(&r);
    return true;
}
