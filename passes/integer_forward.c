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
 * An input with a zero point z has its codes less z where these are bytes, so that zeros around an image are codes of 0
 * and nothing else is to be done. Of 8 bits they are none, and where LSQ+ has an offset that is no whole number of
 * steps there is no such code; then x is sx code + b, and y has b times the sum of those weights that lie inside of the
 * image, which is a product itself, of one image of ones (one window of them where there are no borders):
 *
 *   %t = conv2d_int %ones, %wc, %sw        [1,K,OH,OW]
 *   %y = add (conv2d_int %xc, %wc, %s), (mul %t, %b)
 *
 * A transposed convolution whose windows lie side by side is a product of single pixels, each output of each tap one of
 * its outputs, whose results are put in their places:
 *
 *   %y = interleave (conv2d_int %xc, (tap_outputs %wc), %s)
 *
 * It runs where --forward asks for it, behind simplify (equal quantizers are one) and before the layouts. The init step
 * stays in float: it runs once.
 *
 * Tested by tests/unit/test_intforward.c, test_intoffset.c and tests/golden. */
#include "passes/integer_forward.h"

typedef struct IntForward {
    PassCtx *c;
    Rewriter r;
    bool    *integer;    /* by value: a product that becomes one of integers */
    bool    *coded;      /* by value: a qdq whose codes such a product reads */
    bool    *dropped;    /* by value: qdq + offset that nobody but such products reads */
    int32_t *float_uses; /* by value: how many others read it */
    ValueId *codes;      /* by value: of a qdq, in the new graph */
} IntForward;

/* ---- Who reads what ---------------------------------------------------------------------------------------------- */

/* Who reads a quantizer: its codes an integer product, its float values everybody else. Readers come first here, so
 * that what nobody reads reads nothing. */
static void count_uses(IntForward *f, const Graph *g)
{
    for (int32_t i = g->order.len - 1; i >= 0; i--) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        f->dropped[id] = f->dropped[id] && f->float_uses[id] == 0;
        for (int32_t k = 0; k < v->n_in && !f->dropped[id]; k++) {
            if (!f->integer[id] || k >= SIDE_COUNT) {
                f->float_uses[v->in[k]]++;
                continue;
            }
            f->coded[coded_operand(g, v->in[k]).qdq] = true;
            f->dropped[v->in[k]] = coded_operand(g, v->in[k]).scalar != VALUE_NONE;
        }
    }
}

/* ---- Operands ---------------------------------------------------------------------------------------------------- */

static void rewrite_quantizer(IntForward *f, ValueId id)
{
    Builder    *b = &f->r.b;
    const Value q = *ir_value(b->g, id);
    const Coded c = coded_operand(b->g, id);
    ValueId     in[3];
    for (int32_t k = 0; k < q.n_in; k++)
        in[k] = ir_mapped(&f->r, q.in[k]);
    b->like = id;
    f->codes[id] = ir_emit(b, OP_QUANTIZE, IR_INS(in, q.n_in), AI(LO, ir_int(&q, A_LO)), AI(HI, ir_int(&q, A_HI)),
                           AI(AXIS, ir_int(&q, A_AXIS)), AI(CENTRED, c.centred));
    if (f->float_uses[id] > 0)
        ir_keep(&f->r, id);
}

/* The real value of code 0. */
static ValueId emit_offset(IntForward *f, const Coded *x)
{
    Builder    *b = &f->r.b;
    const Value q = *ir_value(b->g, x->qdq);
    ValueId     scalar = x->scalar != VALUE_NONE ? ir_mapped(&f->r, x->scalar) : VALUE_NONE, zero;
    if (!x->by_zero)
        return scalar;
    zero = ir_emit(b, OP_MUL, IR_IN(ir_mapped(&f->r, q.in[2]), ir_mapped(&f->r, q.in[1])));
    zero = ir_emit(b, OP_SCALE, IR_IN(zero), AF(SCALE, -1));
    return scalar == VALUE_NONE ? zero : ir_emit(b, OP_ADD, IR_IN(zero, scalar));
}

/* ---- Products ---------------------------------------------------------------------------------------------------- */

static ValueId emit_product(IntForward *f, const Value *v, ValueId x, ValueId w, ValueId scale, bool window)
{
    Builder *b = &f->r.b;
    if (v->op == OP_LINEAR)
        return ir_emit(b, OP_LINEAR_INT, IR_IN(x, w, scale));
    const int64_t *pad = ir_pads(v, A_PAD);
    return ir_emit(b, OP_CONV2D_INT, IR_IN(x, w, scale), AI(STRIDE, window ? 1 : ir_int(v, A_STRIDE)),
                   AP(PAD, pad[0], pad[1], pad[2], pad[3]), AI(GROUPS, ir_int(v, A_GROUPS)));
}

/* offset times the sum of the weights inside of the image, for one image. */
static ValueId emit_correction(IntForward *f, const Value *v, ValueId w, ValueId step_w, ValueId offset)
{
    Builder *b = &f->r.b;
    Shape    ones = ir_value(b->g, v->in[SIDE_X])->type.shape;
    bool     window = false;
    if (ones.rank == 4) {
        const int64_t *pad = ir_pads(v, A_PAD);
        window = !pad[0] && !pad[1] && !pad[2] && !pad[3];
        for (int32_t d = 2; d < 4 && window; d++)
            ones.dim[d] = ir_value(b->g, v->in[SIDE_W])->type.shape.dim[d];
    }
    ValueId one = ir_const(b, 1);
    ValueId x = ir_emit(b, OP_BROADCAST, IR_IN(one), AI(COUNT, 1), AI(CHANNELS, ones.dim[1]),
                        AI(H, ones.rank == 4 ? ones.dim[2] : 0), AI(W, ones.rank == 4 ? ones.dim[3] : 0));
    x = ir_emit(b, OP_QUANTIZE, IR_IN(x, one), AI(LO, 0), AI(HI, 1));
    ValueId sum = emit_product(f, v, x, w, step_w, window);
    return ir_emit(b, OP_MUL, IR_IN(sum, offset));
}

static ValueId emit_transposed(IntForward *f, const Value *v, ValueId x, ValueId w, ValueId scale)
{
    Builder *b = &f->r.b;
    bool     each = ir_value(b->g, scale)->type.shape.rank > 0;
    ValueId  taps = ir_emit(b, OP_TAP_OUTPUTS, IR_IN(w));
    ValueId  y = ir_emit(b, OP_CONV2D_INT, IR_IN(x, taps, each ? ir_const(b, 1) : scale));
    y = ir_emit(b, OP_INTERLEAVE, IR_IN(y), AI(FACTOR, ir_int(v, A_STRIDE)));
    return each ? ir_emit(b, OP_MUL, IR_IN(y, scale)) : y;
}

static void rewrite_product(IntForward *f, ValueId id)
{
    Builder    *b = &f->r.b;
    const Value v = *ir_value(b->g, id);
    const Coded x = coded_operand(b->g, v.in[SIDE_X]), w = coded_operand(b->g, v.in[SIDE_W]);
    b->like = id;
    ValueId step_x = ir_mapped(&f->r, ir_value(b->g, x.qdq)->in[1]);
    ValueId step_w = ir_mapped(&f->r, ir_value(b->g, w.qdq)->in[1]);
    ValueId scale = ir_emit(b, OP_MUL, IR_IN(step_x, step_w)), y;
    if (v.op == OP_CONV_TRANSPOSE2D)
        y = emit_transposed(f, &v, f->codes[x.qdq], f->codes[w.qdq], scale);
    else
        y = emit_product(f, &v, f->codes[x.qdq], f->codes[w.qdq], scale, false);
    if (coded_has_offset(&x)) {
        ValueId more = emit_correction(f, &v, f->codes[w.qdq], step_w, emit_offset(f, &x));
        y = ir_emit(b, OP_ADD, IR_IN(y, more));
    }
    if (v.n_in > SIDE_COUNT)
        y = ir_emit(b, OP_ADD, IR_IN(y, ir_mapped(&f->r, v.in[SIDE_COUNT])));
    ir_replace(&f->r, id, y);
}

bool pass_integer_forward(PassCtx *c, Graph *g)
{
    int32_t n = g->values.len;
    if (!c->int8_forward)
        return false;
    IntForward f = {
        .c = c,
        .integer = integer_choose(c, g),
        .coded = ARENA_ARRAY(c->scratch, bool, n),
        .dropped = ARENA_ARRAY(c->scratch, bool, n),
        .float_uses = ARENA_ARRAY(c->scratch, int32_t, n),
        .codes = ARENA_ARRAY(c->scratch, ValueId, n),
    };
    count_uses(&f, g);
    f.r = ir_rewrite_begin(g, c->scratch, c->d, "integer-forward");
    for (int32_t i = 0; i < f.r.n_old; i++) {
        ValueId id = f.r.old[i];
        if (f.coded[id])
            rewrite_quantizer(&f, id);
        else if (f.integer[id])
            rewrite_product(&f, id);
        else if (!f.dropped[id])
            ir_keep(&f.r, id);
    }
    return ir_rewrite_end(&f.r);
}
