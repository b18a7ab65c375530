/* integer_forward.c: forward products of quantized operands, made of their codes.
 *
 *   %xq = qdq %x, %sx              =>    %xc = quantize %x, %sx                      one byte each
 *   %wq = qdq %w, %sw                    %wc = quantize %w, %sw
 *   %y  = conv2d %xq, %wq                %s  = mul %sx, %sw
 *                                        %y  = conv2d_int %xc, %wc, %s               (f32)(exact sum of codes) s
 *
 * %sw may be one number for each output of the weight, and then so is %s. A bias is added behind it. The float values
 * stay where somebody else reads them: the gradients of a train step do, and are what they were. In an evaluation
 * nobody does, and they are gone. The result differs from that of the float product by the latter's roundings alone; it
 * is the same on every backend, to the bit.
 *
 * It runs where --forward=int asks for it, behind simplify (equal quantizers are one) and before the layouts. The init
 * step stays in float: it runs once.
 *
 * Tested by tests/unit/test_intforward.c and tests/golden. */
#include "passes/pass_impl.h"

#include <string.h>

/* The two sides of a product, as operands of conv2d and linear. */
enum { SIDE_X, SIDE_W, SIDE_COUNT };
static const char *const side_names[SIDE_COUNT] = { "input", "weight" };

typedef struct IntForward {
    PassCtx *c;
    Rewriter r;
    bool    *integer;    /* by value: a product that becomes one of integers */
    bool    *coded;      /* by value: a qdq whose codes such a product reads */
    int32_t *float_uses; /* by value: how many others read it */
    ValueId *codes;      /* by value: of a qdq, in the new graph */
} IntForward;

static bool is_product(const Graph *g, ValueId id)
{
    return ir_is(g, id, OP_CONV2D) || ir_is(g, id, OP_LINEAR);
}

/* ---- Which products ---------------------------------------------------------------------------------------------- */

static bool is_grouped(const Value *product)
{
    return product->op == OP_CONV2D && ir_int(product, A_GROUPS) > 1;
}

/* Do all sums fit 32 bits, whatever the codes are? */
static bool sums_fit(const Graph *g, const Value *product)
{
    double bound = 1;
    for (int side = 0; side < SIDE_COUNT; side++) {
        const Value *q = ir_value(g, product->in[side]);
        bound *= (double)dt_max64(-ir_int(q, A_LO), ir_int(q, A_HI));
    }
    Shape w = ir_value(g, product->in[SIDE_W])->type.shape;
    return bound * (double)shape_elems(w) / (double)w.dim[0] <= (double)INT32_MAX;
}

/* What keeps one operand from being a tensor of bytes with one scale (a weight: one for each output); NULL: nothing. */
static const char *operand_obstacle(const Graph *g, const Value *q, int side)
{
    if (q->op == OP_QUANT_NOISE)
        return "is quantized in part";
    if (q->op == OP_ADD && ir_is(g, q->in[0], OP_QDQ) && ir_value(g, q->in[1])->type.shape.rank == 0)
        return "has an offset that is no whole number of steps";
    if (q->op != OP_QDQ)
        return "is not quantized";
    if (q->n_in > 2)
        return "has a zero point";
    if (!ir_int(q, A_ROUND))
        return "is clipped and not rounded";
    int64_t lo = ir_int(q, A_LO), hi = ir_int(q, A_HI);
    if (lo < -128 || hi > 255 || (lo < 0 && hi > 127))
        return "has codes that are no bytes";
    bool of_outputs = side == SIDE_W && ir_int(q, A_AXIS) == 0;
    return ir_value(g, q->in[1])->type.shape.rank > 0 && !of_outputs ? "has more than one step size" : NULL;
}

/* Why a product stays one of floats; NULL: it need not. */
static const char *why_float(PassCtx *c, const Graph *g, const Value *product)
{
    for (int side = 0; side < SIDE_COUNT; side++) {
        const char *obstacle = operand_obstacle(g, ir_value(g, product->in[side]), side);
        if (obstacle)
            return arena_printf(c->scratch, "its %s %s", side_names[side], obstacle);
    }
    if (ir_int(ir_value(g, product->in[SIDE_W]), A_HI) > 127)
        return "its weight has codes above 127, and weights are signed bytes";
    if (ir_int(ir_value(g, product->in[SIDE_X]), A_HI) > 127 && !c->target->int8_unsigned)
        return "its input has codes above 127, and the target multiplies signed bytes alone";
    if (is_grouped(product) && !c->target->int8_groups)
        return "it has groups, and the target has no integer products of groups";
    return sums_fit(g, product) ? NULL : "its sums might not fit 32 bits";
}

static void choose_products(IntForward *f, const Graph *g)
{
    PassCtx *c = f->c;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        bool         transposed = ir_is(g, id, OP_CONV_TRANSPOSE2D);
        if (!is_product(g, id) && !transposed)
            continue;
        const char *why = transposed ? "there are no integer products of transposed convolutions" : why_float(c, g, v);
        f->integer[id] = why == NULL;
        pass_count(c, why ? "products left in float" : "integer products", 1);
        pass_explain(c, g, id, "%s%s", why ? "stays a product of floats: " : "is made of integer codes",
                     why ? why : "");
    }
}

/* Who reads a quantizer: its codes an integer product, its float values everybody else. */
static void count_uses(IntForward *f, const Graph *g)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        for (int32_t k = 0; k < v->n_in; k++) {
            if (f->integer[id] && k < SIDE_COUNT)
                f->coded[v->in[k]] = true;
            else
                f->float_uses[v->in[k]]++;
        }
    }
}

/* ---- Rewriting --------------------------------------------------------------------------------------------------- */

static void rewrite_quantizer(IntForward *f, ValueId id)
{
    Builder    *b = &f->r.b;
    const Value q = *ir_value(b->g, id);
    b->like = id;
    f->codes[id] = ir_emit(b, OP_QUANTIZE, IR_IN(ir_mapped(&f->r, q.in[0]), ir_mapped(&f->r, q.in[1])),
                           AI(LO, ir_int(&q, A_LO)), AI(HI, ir_int(&q, A_HI)), AI(AXIS, ir_int(&q, A_AXIS)));
    if (f->float_uses[id] > 0)
        ir_keep(&f->r, id);
}

static ValueId emit_product(IntForward *f, const Value *v)
{
    Builder     *b = &f->r.b;
    const Value *x = ir_value(b->g, v->in[SIDE_X]), *w = ir_value(b->g, v->in[SIDE_W]);
    ValueId      step_x = ir_mapped(&f->r, x->in[1]), step_w = ir_mapped(&f->r, w->in[1]);
    ValueId      codes_x = f->codes[v->in[SIDE_X]], codes_w = f->codes[v->in[SIDE_W]];
    ValueId      scale = ir_emit(b, OP_MUL, IR_IN(step_x, step_w));
    if (v->op == OP_LINEAR)
        return ir_emit(b, OP_LINEAR_INT, IR_IN(codes_x, codes_w, scale));
    const int64_t *pad = ir_pads(v, A_PAD);
    return ir_emit(b, OP_CONV2D_INT, IR_IN(codes_x, codes_w, scale), AI(STRIDE, ir_int(v, A_STRIDE)),
                   AP(PAD, pad[0], pad[1], pad[2], pad[3]), AI(GROUPS, ir_int(v, A_GROUPS)));
}

static void rewrite_product(IntForward *f, ValueId id)
{
    const Value v = *ir_value(f->r.b.g, id);
    f->r.b.like = id;
    ValueId y = emit_product(f, &v);
    if (v.n_in > SIDE_COUNT)
        y = ir_emit(&f->r.b, OP_ADD, IR_IN(y, ir_mapped(&f->r, v.in[SIDE_COUNT])));
    ir_replace(&f->r, id, y);
}

bool pass_integer_forward(PassCtx *c, Graph *g)
{
    int32_t n = g->values.len;
    if (!c->int8_forward)
        return false;
    IntForward f = {
        .c = c,
        .integer = ARENA_ARRAY(c->scratch, bool, n),
        .coded = ARENA_ARRAY(c->scratch, bool, n),
        .float_uses = ARENA_ARRAY(c->scratch, int32_t, n),
        .codes = ARENA_ARRAY(c->scratch, ValueId, n),
    };
    choose_products(&f, g);
    count_uses(&f, g);
    f.r = ir_rewrite_begin(g, c->scratch, c->d, "integer-forward");
    for (int32_t i = 0; i < f.r.n_old; i++) {
        ValueId id = f.r.old[i];
        if (f.coded[id])
            rewrite_quantizer(&f, id);
        else if (f.integer[id])
            rewrite_product(&f, id);
        else
            ir_keep(&f.r, id);
    }
    return ir_rewrite_end(&f.r);
}
