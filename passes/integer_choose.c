/* integer_choose.c: which forward products are made of codes: those whose operands are bytes with one scale and whose
 * sums fit 32 bits; of these all, or those that ctx->chooser wants (--forward auto).
 *
 * Tested by tests/unit/test_intforward.c and test_forward.c. */
#include "passes/integer_forward.h"

static const char *const side_names[SIDE_COUNT] = { "input", "weight" };

bool                     integer_is_product(const Graph *g, ValueId id)
{
    return ir_is(g, id, OP_CONV2D) || ir_is(g, id, OP_LINEAR) || ir_is(g, id, OP_CONV_TRANSPOSE2D);
}

/* ---- Operands ---------------------------------------------------------------------------------------------------- */

static bool is_scalar(const Graph *g, ValueId id)
{
    return ir_value(g, id)->type.shape.rank == 0;
}

Coded coded_operand(const Graph *g, ValueId id)
{
    Coded        c = { .qdq = id, .scalar = VALUE_NONE };
    const Value *v = ir_value(g, id);
    for (int32_t i = 0; i < 2 && v->op == OP_ADD; i++)
        if (ir_is(g, v->in[i], OP_QDQ) && is_scalar(g, v->in[1 - i])) {
            c.qdq = v->in[i];
            c.scalar = v->in[1 - i];
        }
    if (!ir_is(g, c.qdq, OP_QDQ))
        return (Coded){ VALUE_NONE, VALUE_NONE, false, false, 0, 0 };
    const Value *q = ir_value(g, c.qdq);
    c.lo = ir_int(q, A_LO), c.hi = ir_int(q, A_HI);
    int64_t apart = c.hi - c.lo;
    if (q->n_in > 2 && apart <= 127) {
        c.centred = true;
        c.lo = -apart, c.hi = apart;
    } else {
        c.by_zero = q->n_in > 2;
    }
    return c;
}

/* The dimension of a product's weight that its outputs run along. */
static int32_t output_axis(const Value *product)
{
    return product->op == OP_CONV_TRANSPOSE2D ? 1 : 0;
}

static bool has_bytes(const Coded *c)
{
    return c->lo >= -128 && c->hi <= 255 && (c->lo >= 0 || c->hi <= 127);
}

/* A zero point is a code where it is found by these ops. */
static bool is_zero_point(const Graph *g, ValueId id)
{
    return is_scalar(g, id) && (ir_is(g, id, OP_ZERO_POINT) || ir_is(g, id, OP_RANGE_ZERO));
}

/* What keeps one operand from being a tensor of bytes with one scale (a weight: one for each output); NULL: nothing. */
static const char *operand_obstacle(const Graph *g, const Value *product, int side)
{
    Coded c = coded_operand(g, product->in[side]);
    if (ir_is(g, product->in[side], OP_QUANT_NOISE))
        return "is quantized in part";
    if (c.qdq == VALUE_NONE)
        return "is not quantized";
    const Value *q = ir_value(g, c.qdq);
    if (side == SIDE_W && (q->n_in > 2 || c.scalar != VALUE_NONE))
        return "has a zero point or an offset";
    if (q->n_in > 2 && !is_zero_point(g, q->in[2]))
        return "has a zero point that need not be one of its codes";
    if (!ir_int(q, A_ROUND))
        return "is clipped and not rounded";
    if (!has_bytes(&c))
        return "has codes that are no bytes";
    bool of_outputs = side == SIDE_W && ir_int(q, A_AXIS) == output_axis(product);
    return !is_scalar(g, q->in[1]) && !of_outputs ? "has more than one step size" : NULL;
}

/* ---- Products ---------------------------------------------------------------------------------------------------- */

static bool is_grouped(const Value *product)
{
    return product->op == OP_CONV2D && ir_int(product, A_GROUPS) > 1;
}

/* Windows that lie side by side, and nothing of the result cut off: each pixel of x becomes a window of pixels. */
static bool windows_meet(const Graph *g, const Value *product)
{
    const int64_t *pad = ir_pads(product, A_PAD), window = ir_value(g, product->in[SIDE_W])->type.shape.dim[2];
    return window == ir_int(product, A_STRIDE) && !pad[0] && !pad[1] && !pad[2] && !pad[3];
}

/* Do all sums fit 32 bits, whatever the codes are? */
static bool sums_fit(const Graph *g, const Value *product)
{
    double bound = 1;
    for (int side = 0; side < SIDE_COUNT; side++) {
        Coded c = coded_operand(g, product->in[side]);
        bound *= (double)dt_max64(-c.lo, c.hi);
    }
    Shape w = ir_value(g, product->in[SIDE_W])->type.shape;
    bool  transposed = product->op == OP_CONV_TRANSPOSE2D;
    return bound * (double)(transposed ? w.dim[0] : shape_elems(w) / w.dim[0]) <= (double)INT32_MAX;
}

/* Why a product stays one of floats; NULL: it need not. */
static const char *why_float(PassCtx *c, const Graph *g, const Value *product)
{
    for (int side = 0; side < SIDE_COUNT; side++) {
        const char *obstacle = operand_obstacle(g, product, side);
        if (obstacle)
            return arena_printf(c->scratch, "its %s %s", side_names[side], obstacle);
    }
    Coded x = coded_operand(g, product->in[SIDE_X]), w = coded_operand(g, product->in[SIDE_W]);
    if (w.hi > 127)
        return "its weight has codes above 127, and weights are signed bytes";
    if (x.hi > 127 && !c->target->int8_unsigned)
        return "its input has codes above 127, and the target multiplies signed bytes alone";
    if (is_grouped(product) && !c->target->int8_groups)
        return "it has groups, and the target has no integer products of groups";
    if (product->op == OP_CONV_TRANSPOSE2D && !windows_meet(g, product))
        return "its windows overlap, or its result is cut";
    if (product->op == OP_CONV_TRANSPOSE2D && coded_has_offset(&x))
        return "it is transposed, and its input has an offset";
    return sums_fit(g, product) ? NULL : "its sums might not fit 32 bits";
}

/* ---- What the chooser is told ------------------------------------------------------------------------------------ */

/* By value: who reads it that could not read its codes. */
typedef struct Readers {
    int32_t *forward, *all;
} Readers;

static Readers count_readers(PassCtx *c, const Graph *g, const bool *able)
{
    Readers r = { ARENA_ARRAY(c->scratch, int32_t, g->values.len), ARENA_ARRAY(c->scratch, int32_t, g->values.len) };
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        for (int32_t k = 0; k < v->n_in; k++) {
            bool by_codes = able[id] && k < SIDE_COUNT;
            r.all[v->in[k]] += !by_codes;
            r.forward[v->in[k]] += !by_codes && !v->backward;
        }
    }
    return r;
}

static void describe(const Graph *g, const Value *v, ForwardProduct *p)
{
    Shape x = ir_value(g, v->in[SIDE_X])->type.shape, w = ir_value(g, v->in[SIDE_W])->type.shape, y = v->type.shape;
    *p = (ForwardProduct){ .n = x.dim[0], .c = x.dim[1], .k = w.dim[0], .stride = 1, .groups = 1 };
    p->h = p->w = p->r = p->s = p->oh = p->ow = 1;
    p->matrix = x.rank == 2;
    if (p->matrix)
        return;
    p->h = x.dim[2], p->w = x.dim[3], p->r = w.dim[2], p->s = w.dim[3], p->oh = y.dim[2], p->ow = y.dim[3];
    p->stride = ir_int(v, A_STRIDE);
    memcpy(p->pad, ir_pads(v, A_PAD), sizeof p->pad);
    p->transposed = v->op == OP_CONV_TRANSPOSE2D;
    p->groups = p->transposed ? 1 : ir_int(v, A_GROUPS);
    p->k = p->transposed ? w.dim[1] : p->k;
}

static bool wanted(PassCtx *c, const Graph *g, const Value *v, const Readers *r, const char **why)
{
    ForwardProduct p;
    Coded          x = coded_operand(g, v->in[SIDE_X]), w = coded_operand(g, v->in[SIDE_W]);
    describe(g, v, &p);
    p.x_lo = (int32_t)x.lo, p.x_hi = (int32_t)x.hi, p.w_lo = (int32_t)w.lo, p.w_hi = (int32_t)w.hi;
    p.scale_each = !is_scalar(g, ir_value(g, w.qdq)->in[1]);
    p.has_offset = coded_has_offset(&x);
    const int64_t elems[SIDE_COUNT] = { shape_elems(ir_value(g, x.qdq)->type.shape),
                                        shape_elems(ir_value(g, w.qdq)->type.shape) };
    /* what backward reads of an input is made again there; of a weight it is kept */
    p.codes_written = elems[SIDE_X] + elems[SIDE_W];
    p.floats_saved =
        (r->forward[v->in[SIDE_X]] == 0 ? elems[SIDE_X] : 0) + (r->all[v->in[SIDE_W]] == 0 ? elems[SIDE_W] : 0);
    return c->chooser->of_codes(c->chooser->user, c->scratch, &p, why);
}

bool *integer_choose(PassCtx *c, const Graph *g)
{
    bool        *chosen = ARENA_ARRAY(c->scratch, bool, g->values.len);
    const char **why = ARENA_ARRAY(c->scratch, const char *, g->values.len);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (integer_is_product(g, id) && !ir_value(g, id)->backward)
            chosen[id] = (why[id] = why_float(c, g, ir_value(g, id))) == NULL;
    }
    Readers readers = count_readers(c, g, chosen);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (!integer_is_product(g, id) || ir_value(g, id)->backward)
            continue;
        if (chosen[id] && c->chooser)
            chosen[id] = wanted(c, g, ir_value(g, id), &readers, &why[id]);
        pass_count(c, chosen[id] ? "integer products" : "products left in float", 1);
        pass_explain(c, g, id, "%s%s%s", chosen[id] ? "is made of integer codes" : "stays a product of floats",
                     why[id] ? ": " : "", why[id] ? why[id] : "");
    }
    return chosen;
}
