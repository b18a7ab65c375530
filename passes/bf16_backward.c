/* bf16_backward.c: gradients of convolutions with operands in bf16.
 *
 *   %gw = conv2d_grad_w %dy, %xq      =>    %gc = conv2d_grad_w %dy, %xc {bf16=true}      xc: quantize %x, %s
 *                                           %gw = mul %gc, %s
 *   %gx = conv2d_grad_x %dy, %wq      =>    %gc = conv2d_grad_x %dy, %wc {bf16=true}
 *                                           %gx = mul %gc, %s
 *
 * A code of 8 bits is a number of bf16, its product with a step size is not. So where an operand is a quantizer with
 * one step size the gradient is made of its codes, and the step size is multiplied behind: then %dy is the only thing
 * that is rounded. It is that of the codes of the forward product, where there is one (--forward int), and nothing is
 * made again in backward. Other operands - floats, quantizers of each channel, with zero points or noise - are rounded
 * as %dy is.
 *
 * Convolutions in groups and those of few channels, the first layer's, stay in f32: there nothing is gained.
 *
 * It runs where --backward bf16 asks for it, behind integer-forward, whose codes it reads. Tested by
 * tests/unit/test_bf16_backward.c and tests/golden. */
#include "passes/pass_impl.h"

enum { FEWEST_CHANNELS = 8 };

typedef struct Bf16Backward {
    PassCtx *c;
    Rewriter r;
    bool    *coded; /* by value: a qdq whose codes are read */
    ValueId *codes; /* by value: of such a qdq, in the new graph */
} Bf16Backward;

static bool is_gradient(const Graph *g, ValueId id)
{
    return ir_is(g, id, OP_CONV2D_GRAD_W) || ir_is(g, id, OP_CONV2D_GRAD_X);
}

/* Why a gradient stays in f32; NULL: it need not. */
static const char *why_f32(const Graph *g, const Value *v)
{
    bool  of_w = v->op == OP_CONV2D_GRAD_W;
    Shape dy = ir_value(g, v->in[0])->type.shape, x = of_w ? ir_value(g, v->in[1])->type.shape : v->type.shape;
    if (ir_int(v, A_GROUPS) > 1)
        return "it has groups";
    return dy.dim[1] < FEWEST_CHANNELS || x.dim[1] < FEWEST_CHANNELS ? "it has few channels" : NULL;
}

/* A quantizer whose values are one step size times a byte. */
static bool has_codes(const Graph *g, ValueId id)
{
    const Value *q = ir_value(g, id);
    if (q->op != OP_QDQ || q->n_in > 2 || !ir_int(q, A_ROUND) || ir_value(g, q->in[1])->type.shape.rank > 0)
        return false;
    int64_t lo = ir_int(q, A_LO), hi = ir_int(q, A_HI);
    return lo >= -128 && hi <= 255 && (lo >= 0 || hi <= 127);
}

static void choose(Bf16Backward *f, const Graph *g)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        if (!is_gradient(g, id))
            continue;
        const char *why = why_f32(g, v);
        pass_count(f->c, why ? "gradients left in f32" : "gradients in bf16", 1);
        pass_explain(f->c, g, id, "%s%s", why ? "stays in f32: " : "has its operands in bf16", why ? why : "");
        if (!why && has_codes(g, v->in[1]))
            f->coded[v->in[1]] = true;
    }
}

/* The codes of quantizer `q` that the graph has already; VALUE_NONE: none. */
static ValueId codes_there(const Bf16Backward *f, const Value *q)
{
    const Graph *g = f->r.b.g;
    for (int32_t i = 0; i < f->r.n_old; i++) {
        const Value *v = ir_value(g, f->r.old[i]);
        if (v->op == OP_QUANTIZE && v->n_in == 2 && v->in[0] == q->in[0] && v->in[1] == q->in[1] &&
            ir_int(v, A_LO) == ir_int(q, A_LO) && ir_int(v, A_HI) == ir_int(q, A_HI) && !ir_int(v, A_CENTRED))
            return f->r.old[i];
    }
    return VALUE_NONE;
}

static void rewrite_quantizer(Bf16Backward *f, ValueId id)
{
    Builder    *b = &f->r.b;
    const Value q = *ir_value(b->g, id);
    f->codes[id] = codes_there(f, &q);
    if (f->codes[id] == VALUE_NONE) {
        b->like = id;
        f->codes[id] = ir_emit(b, OP_QUANTIZE, IR_IN(ir_mapped(&f->r, q.in[0]), ir_mapped(&f->r, q.in[1])),
                               AI(LO, ir_int(&q, A_LO)), AI(HI, ir_int(&q, A_HI)), AI(AXIS, ir_int(&q, A_AXIS)));
    }
    ir_keep(&f->r, id);
}

static void rewrite_gradient(Bf16Backward *f, ValueId id)
{
    Builder       *b = &f->r.b;
    const Value    v = *ir_value(b->g, id);
    const int64_t *pad = ir_pads(&v, A_PAD);
    const bool     coded = f->coded[v.in[1]];
    ValueId        in[2] = { ir_mapped(&f->r, v.in[0]), coded ? f->codes[v.in[1]] : ir_mapped(&f->r, v.in[1]) }, y;
    b->like = id;
    if (v.op == OP_CONV2D_GRAD_W)
        y = ir_emit(b, v.op, IR_INS(in, 2), AI(STRIDE, ir_int(&v, A_STRIDE)), AP(PAD, pad[0], pad[1], pad[2], pad[3]),
                    AI(KERNEL, ir_int(&v, A_KERNEL)), AI(BF16, 1));
    else
        y = ir_emit(b, v.op, IR_INS(in, 2), AI(STRIDE, ir_int(&v, A_STRIDE)), AP(PAD, pad[0], pad[1], pad[2], pad[3]),
                    AI(H, ir_int(&v, A_H)), AI(W, ir_int(&v, A_W)), AI(BF16, 1));
    if (coded)
        y = ir_emit(b, OP_MUL, IR_IN(y, ir_mapped(&f->r, ir_value(b->g, v.in[1])->in[1])));
    ir_replace(&f->r, id, y);
}

bool pass_bf16_backward(PassCtx *c, Graph *g)
{
    int32_t n = g->values.len;
    if (!c->bf16_backward)
        return false;
    Bf16Backward f = {
        .c = c,
        .coded = ARENA_ARRAY(c->scratch, bool, n),
        .codes = ARENA_ARRAY(c->scratch, ValueId, n),
    };
    choose(&f, g);
    f.r = ir_rewrite_begin(g, c->scratch, c->d, "bf16-backward");
    for (int32_t i = 0; i < f.r.n_old; i++) {
        ValueId id = f.r.old[i];
        if (f.coded[id])
            rewrite_quantizer(&f, id);
        else if (is_gradient(g, id) && !why_f32(g, ir_value(g, id)))
            rewrite_gradient(&f, id);
        else
            ir_keep(&f.r, id);
    }
    return ir_rewrite_end(&f.r);
}
