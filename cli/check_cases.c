/* check_cases.c: one op of a network as a small graph of its own: the same op, attributes and kinds of shapes, but few
 * channels and pixels, so that its gradient can be compared with differences element by element.
 *
 * What may shrink depends on the op: a window must still fit, groups must divide channels, a flattened image has as
 * many features as the image has numbers. That is one function for each such op; all others shrink dimension by
 * dimension, which keeps broadcasting as it was. Tested by tests/unit/test_check.c. */
#include "cli/check.h"

#include <string.h>

enum { CASE_MAX_INPUTS = 5, CASE_MAX_ATTRS = 16, CASE_N = 2, CASE_C = 6, CASE_HW = 5 };

/* An op with other shapes and attributes. */
typedef struct CaseShape {
    Shape   in[CASE_MAX_INPUTS];
    AttrSet attrs[CASE_MAX_ATTRS];
    int32_t n_in, n_attrs;
} CaseShape;

static AttrVal *case_attr(CaseShape *c, AttrId id)
{
    for (int32_t i = 0; i < c->n_attrs; i++)
        if (c->attrs[i].id == id)
            return &c->attrs[i].val;
    DT_UNREACHABLE("a case without attribute %s", attr_name(id));
}

/* ---- Shrinking --------------------------------------------------------------------------------------------------- */

/* Vectors run along dimension `axis` of the rest. */
static void shrink_dims(CaseShape *c)
{
    static const int64_t most[DT_MAX_RANK] = { CASE_N, CASE_C, CASE_HW, CASE_HW };
    int64_t              axis = 1;
    for (int32_t i = 0; i < c->n_attrs; i++)
        if (c->attrs[i].id == A_AXIS)
            axis = c->attrs[i].val.i;
    for (int32_t i = 0; i < c->n_in; i++)
        for (int32_t d = 0; d < c->in[i].rank; d++)
            c->in[i].dim[d] = dt_min64(c->in[i].dim[d], most[c->in[i].rank == 1 ? axis : d]);
}

/* A side of an image: room for two windows and what is left over by the stride, as in the original. */
static int64_t shrink_side(int64_t size, int64_t kernel, int64_t stride)
{
    int64_t least = kernel + 2 * stride;
    return size <= least ? size : least + (size - least) % stride;
}

static void shrink_image(CaseShape *c, int64_t channels, int64_t kernel, int64_t stride)
{
    Shape *x = &c->in[0];
    x->dim[0] = dt_min64(x->dim[0], CASE_N);
    x->dim[1] = channels;
    x->dim[2] = shrink_side(x->dim[2], kernel, stride);
    x->dim[3] = shrink_side(x->dim[3], kernel, stride);
}

/* Channels of a group shrink to two or three; many groups (depthwise) to four. */
static void shrink_conv(CaseShape *c)
{
    AttrVal *groups = case_attr(c, A_GROUPS);
    Shape   *w = &c->in[1];
    int64_t  each = dt_min64(w->dim[0] / groups->i, groups->i > 1 ? 2 : 4);
    groups->i = dt_min64(groups->i, 4);
    w->dim[0] = each * groups->i;
    w->dim[1] = dt_min64(w->dim[1], 3);
    if (c->n_in == 3)
        c->in[2].dim[0] = w->dim[0];
    shrink_image(c, w->dim[1] * groups->i, w->dim[2], case_attr(c, A_STRIDE)->i);
}

static void shrink_linear(CaseShape *c)
{
    c->in[0].dim[0] = dt_min64(c->in[0].dim[0], 3);
    c->in[0].dim[1] = c->in[1].dim[1] = dt_min64(c->in[0].dim[1], 9);
    c->in[1].dim[0] = dt_min64(c->in[1].dim[0], CASE_HW);
    if (c->n_in == 3)
        c->in[2].dim[0] = c->in[1].dim[0];
}

static void shrink_pool(CaseShape *c)
{
    shrink_image(c, dt_min64(c->in[0].dim[1], 3), case_attr(c, A_KERNEL)->i, case_attr(c, A_STRIDE)->i);
}

/* As many new channels on both sides as there were, up to two. */
static void shrink_shortcut(CaseShape *c)
{
    AttrVal *channels = case_attr(c, A_CHANNELS);
    int64_t  added = channels->i - c->in[0].dim[1];
    shrink_image(c, dt_min64(c->in[0].dim[1], 3), 1, case_attr(c, A_STRIDE)->i);
    channels->i = c->in[0].dim[1] + (added > 4 ? 4 - added % 2 : added);
}

static void shrink_reshape(CaseShape *c)
{
    AttrVal *channels = case_attr(c, A_CHANNELS), *h = case_attr(c, A_H), *w = case_attr(c, A_W);
    if (c->in[0].rank == 4 && h->i == 0) { /* flatten */
        shrink_dims(c);
        channels->i = c->in[0].dim[1] * c->in[0].dim[2] * c->in[0].dim[3];
    } else if (c->in[0].rank == 2) {
        int64_t pixels = h->i == 0 ? 1 : (h->i = dt_min64(h->i, CASE_HW)) * (w->i = dt_min64(w->i, CASE_HW));
        channels->i = dt_min64(channels->i, CASE_C);
        c->in[0].dim[0] = dt_min64(c->in[0].dim[0], CASE_N);
        c->in[0].dim[1] = channels->i * pixels;
    } else {
        c->in[0].dim[0] = dt_min64(c->in[0].dim[0], CASE_N);
    }
}

/* The recipe row that asked for a quantizer says nothing about its meaning. */
static void shrink_qdq(CaseShape *c)
{
    shrink_dims(c);
    case_attr(c, A_ROW)->i = -1;
}

static void shrink_repeat(CaseShape *c)
{
    shrink_dims(c);
    case_attr(c, A_COUNT)->i = dt_min64(case_attr(c, A_COUNT)->i, CASE_C);
}

/* Sides shrink as far as the padding leaves something of the result. */
static void shrink_conv_transpose(CaseShape *c)
{
    Shape         *x = &c->in[0], *w = &c->in[1];
    const int64_t *pad = case_attr(c, A_PAD)->pads, stride = case_attr(c, A_STRIDE)->i;
    w->dim[0] = dt_min64(w->dim[0], 4);
    w->dim[1] = dt_min64(w->dim[1], 3);
    x->dim[0] = dt_min64(x->dim[0], CASE_N);
    x->dim[1] = w->dim[0];
    for (int32_t d = 2; d < 4; d++) {
        int64_t least = 2 + dt_max64(pad[d - 2] + pad[d] - w->dim[d], 0) / stride;
        x->dim[d] = dt_min64(x->dim[d], dt_max64(CASE_HW, least));
    }
}

/* A window of channels that lies in x as the original does, or around it. */
static void shrink_slice(CaseShape *c)
{
    AttrVal *begin = case_attr(c, A_BEGIN), *channels = case_attr(c, A_CHANNELS);
    int64_t  behind = c->in[0].dim[1] - begin->i - channels->i; /* of x; negative: zeros */
    shrink_dims(c);
    begin->i = begin->i < 0 ? dt_max64(begin->i, -2) : dt_min64(begin->i, 2);
    behind = behind < 0 ? dt_max64(behind, -2) : dt_min64(behind, 2);
    channels->i = dt_max64(c->in[0].dim[1] - begin->i - behind, 1);
}

/* What is cut off must be there. */
static void shrink_pad_image(CaseShape *c)
{
    int64_t *pad = case_attr(c, A_PAD)->pads;
    for (int32_t i = 0; i < 4; i++)
        pad[i] = pad[i] < 0 ? dt_max64(pad[i], -2) : dt_min64(pad[i], 2);
    for (int32_t d = 2; d < 4; d++) {
        int64_t cut = -dt_min64(pad[d - 2], 0) - dt_min64(pad[d], 0);
        c->in[0].dim[d] = dt_min64(c->in[0].dim[d], CASE_HW + cut);
    }
    c->in[0].dim[0] = dt_min64(c->in[0].dim[0], CASE_N);
    c->in[0].dim[1] = dt_min64(c->in[0].dim[1], CASE_C);
}

typedef void (*ShrinkFn)(CaseShape *c);
/* clang-format off */
static const ShrinkFn case_shrinks[OP_COUNT] = {
    [OP_CONV2D] = shrink_conv,       [OP_LINEAR] = shrink_linear,   [OP_MAXPOOL] = shrink_pool, [OP_AVGPOOL] = shrink_pool,
    [OP_SHORTCUT_A] = shrink_shortcut, [OP_RESHAPE] = shrink_reshape, [OP_QDQ] = shrink_qdq,
    [OP_REPEAT] = shrink_repeat,     [OP_SLICE] = shrink_slice,     [OP_PAD_IMAGE] = shrink_pad_image,
    [OP_CONV_TRANSPOSE2D] = shrink_conv_transpose,
};
/* clang-format on */

static CaseShape case_shape(const Graph *g, const Value *v)
{
    const OpInfo *op = &ir_ops[v->op];
    CaseShape     c = { .n_in = v->n_in, .n_attrs = op->n_attrs };
    DT_ASSERT(v->n_in <= CASE_MAX_INPUTS && op->n_attrs <= CASE_MAX_ATTRS, "%s has %d inputs and %d attributes",
              op->text, v->n_in, op->n_attrs);
    for (int32_t i = 0; i < v->n_in; i++)
        c.in[i] = ir_value(g, v->in[i])->type.shape;
    for (int32_t i = 0; i < op->n_attrs; i++)
        c.attrs[i] = (AttrSet){ op->attrs[i].id, v->attr[i] };
    (case_shrinks[v->op] != NULL ? case_shrinks[v->op] : shrink_dims)(&c);
    return c;
}

/* ---- The graph --------------------------------------------------------------------------------------------------- */

static ValueId case_leaf(Builder *b, OpCode leaf, const char *name, DType dtype, Shape shape)
{
    return ir_leaf(b, leaf, name, (Type){ dtype, shape, LAYOUT_ROWS }, NULL, 0);
}

/* Statistics of the batch are part of batchnorm's gradient, so they come along. */
static bool case_has_batch_stats(const Graph *g, const Value *v)
{
    return v->op == OP_BATCHNORM && ir_is(g, v->in[1], OP_BN_MEAN) && ir_is(g, v->in[2], OP_BN_VAR);
}

static bool case_differentiable(const Graph *g, const Value *v, int32_t i)
{
    bool given_stat = (v->op == OP_BATCHNORM && (i == 1 || i == 2)) || /* and the shift of a sum */
                      ((v->op == OP_BN_MEAN || v->op == OP_BN_VAR) && i == 1);
    bool zero = v->op == OP_QDQ && i == 2; /* of a trained offset: case_zero */
    return ir_value(g, v->in[i])->type.dtype == DTYPE_F32 && !given_stat && !zero;
}

static void case_stats(Builder *b, ValueId in[CASE_MAX_INPUTS], Shape each)
{
    ValueId shift = case_leaf(b, OP_INPUT, "shift", DTYPE_F32, each);
    in[1] = ir_emit(b, OP_BN_MEAN, IR_IN(in[0], shift));
    in[2] = ir_emit(b, OP_BN_VAR, IR_IN(in[0], shift));
}

/* A zero point that follows a trained offset: the offset is what has a gradient. */
static bool case_has_offset(const Graph *g, const Value *v)
{
    return v->op == OP_QDQ && v->n_in == 3 && ir_is(g, v->in[2], OP_ZERO_POINT);
}

static ValueId case_zero(Builder *b, const Value *qdq, ValueId step, Shape shape)
{
    ValueId offset = case_leaf(b, OP_PARAM, "x2", DTYPE_F32, shape);
    return ir_emit(b, OP_ZERO_POINT, IR_IN(offset, step), AI(LO, ir_int(qdq, A_LO)), AI(HI, ir_int(qdq, A_HI)));
}

void check_case_close(Builder *b, ValueId v)
{
    Shape   s = ir_value(b->g, v)->type.shape;
    bool    vector = s.rank == 1; /* sums of vectors alone have no gradient: two rows of r */
    Shape   rows = vector ? shape_of(2, (int64_t[]){ 2, s.dim[0] }) : s;
    ValueId r = case_leaf(b, OP_INPUT, "r", DTYPE_F32, rows);
    ValueId weighed = ir_emit(b, OP_MUL, IR_IN(r, v));
    ir_output(b, v, "out");
    ir_output(b, ir_emit(b, OP_REDUCE_SUM, IR_IN(weighed), AT(KEEP, "")), "loss");
}

ValueId check_case_op(const Graph *g)
{
    return ir_value(g, ir_find(g, "out"))->in[0];
}

Graph *check_case_of(Arena *a, Diag *d, const Graph *from, ValueId id)
{
    const Value *v = ir_value(from, id);
    CaseShape    c = case_shape(from, v);
    Builder      b = { .g = ir_graph_new(a, "case"), .d = d, .by = "check", .like = VALUE_NONE };
    bool         stats = case_has_batch_stats(from, v);
    ValueId      in[CASE_MAX_INPUTS];
    for (int32_t i = 0; i < c.n_in; i++) {
        if (stats && (i == 1 || i == 2))
            continue;
        if (i == 2 && case_has_offset(from, v)) {
            in[2] = case_zero(&b, v, in[1], c.in[2]);
            continue;
        }
        OpCode leaf = case_differentiable(from, v, i) ? OP_PARAM : OP_INPUT;
        in[i] = case_leaf(&b, leaf, arena_printf(a, "x%d", i), ir_value(from, v->in[i])->type.dtype, c.in[i]);
    }
    if (stats)
        case_stats(&b, in, c.in[1]);
    ValueId out = ir_emit_(&b, v->op, in, c.n_in, c.attrs, c.n_attrs);
    if (out == VALUE_NONE)
        return NULL;
    check_case_close(&b, out);
    return b.g;
}
