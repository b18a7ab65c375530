/* dsl_act.c: element-wise layers of the DSL: activations, sums and products of two branches, dropout and drop-connect.
 *
 * How a layer is made: layer.h. Tested by tests/unit/test_dsl_act.c and tests/diag. */
#include "frontend/layer.h"

/* ---- Activations --------------------------------------------------------------------------------------------------
 */

/* The op's own name is the layer's kind: "relu1". */
static Tensor unary(DtUnary a, OpCode code)
{
    const char *op = ir_ops[code].text;
    Layer       l;
    if (!layer_open(&l, op, a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!layer_start(&l, op, a.name))
        return layer_poison(&l);
    return layer_tensor(&l, ir_emit(&l.ctx->b, code, IR_IN(l.x)));
}

Tensor dt_relu_(DtUnary a)
{
    return unary(a, OP_RELU);
}
Tensor dt_relu6_(DtUnary a)
{
    return unary(a, OP_RELU6);
}
Tensor dt_sigmoid_(DtUnary a)
{
    return unary(a, OP_SIGMOID);
}
Tensor dt_silu_(DtUnary a)
{
    return unary(a, OP_SILU);
}
Tensor dt_hard_sigmoid_(DtUnary a)
{
    return unary(a, OP_HARD_SIGMOID);
}
Tensor dt_hard_swish_(DtUnary a)
{
    return unary(a, OP_HARD_SWISH);
}

Tensor dt_leaky_relu_(DtLeakyRelu a)
{
    const double slope = a.slope != 0 ? (double)a.slope : 0.01;
    Layer        l;
    if (!layer_open(&l, "leaky_relu", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!(slope > 0 && slope <= 1)) {
        layer_error(&l, "slope is %g, expected above 0 and at most 1", slope);
        layer_help(&l, "it is the factor of what is below 0; 0.01 is usual");
        return layer_poison(&l);
    }
    if (!layer_start(&l, "leaky_relu", a.name))
        return layer_poison(&l);
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_LEAKY_RELU, IR_IN(l.x), AF(SLOPE, slope)));
}

/* ---- Two branches --------------------------------------------------------------------------------------------------
 */

/* "x is 2x3x4x4, y is 2x3": where both were made, and where we are. */
static void shapes_differ(Layer *l, const Layer *other, const char *what)
{
    const char *scope = context_scope(l->ctx);
    layer_error(l, "%s: x is %s, y is %s%s%s%s", what, layer_shape(l, l->in), layer_shape(l, other->in),
                scope ? " (in " : "", scope ? scope : "", scope ? ")" : "");
    layer_note_operand(l, "x", l->x);
    layer_note_operand(l, "y", other->x);
}

Tensor dt_add_(DtBinary a)
{
    Layer  l, other;
    Tensor poison;
    if (!layer_open_pair(&l, &other, "add", a, &poison))
        return poison;
    if (!shape_eq(l.in, other.in)) {
        shapes_differ(&l, &other, "shapes differ");
        const bool spatial = l.in.rank == 4 && other.in.rank == 4 && l.in.dim[2] != other.in.dim[2];
        layer_help(
            &l,
            spatial
                ? "give both branches the same strides and padding; shortcut_a(x, channels, .stride = 2) has no params"
                : "give both branches the same number of channels");
        return layer_poison(&l);
    }
    if (!layer_start(&l, "add", a.name))
        return layer_poison(&l);
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_ADD, IR_IN(l.x, other.x)));
}

/* One number for each channel of each sample. */
static bool is_gate(Shape gate, Shape x)
{
    bool channels = x.rank == 4 && gate.rank >= 2 && gate.dim[0] == x.dim[0] && gate.dim[1] == x.dim[1];
    return channels && (gate.rank == 2 || (gate.dim[2] == 1 && gate.dim[3] == 1));
}

Tensor dt_mul_(DtBinary a)
{
    Layer  l, other;
    Tensor poison;
    if (!layer_open_pair(&l, &other, "mul", a, &poison))
        return poison;
    if (!shape_eq(l.in, other.in) && !is_gate(other.in, l.in)) {
        shapes_differ(&l, &other, "y is neither of the shape of x nor a gate");
        layer_help(&l, is_gate(l.in, other.in) ? "the gate is the second operand: mul(x, gate)"
                                               : "a gate has a number for each channel of x: [N, C]");
        return layer_poison(&l);
    }
    if (!layer_start(&l, "mul", a.name))
        return layer_poison(&l);
    ValueId gate = other.x;
    if (other.in.rank < l.in.rank)
        gate = ir_emit(&l.ctx->b, OP_RESHAPE, IR_IN(gate), AI(CHANNELS, l.in.dim[1]), AI(H, 1), AI(W, 1));
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_MUL, IR_IN(l.x, gate)));
}

/* ---- Random --------------------------------------------------------------------------------------------------------
 */

static bool check_drop(Layer *l, double p, const char *what)
{
    if (p >= 0 && p < 1)
        return true;
    layer_error(l, "p is %g, expected at least 0 and below 1", p);
    layer_help(l, "p is the probability that %s is dropped", what);
    return false;
}

Tensor dt_dropout_(DtDropout a)
{
    Layer l;
    if (!layer_open(&l, "dropout", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!check_drop(&l, (double)a.p, "an element") || !layer_start(&l, "dropout", a.name))
        return layer_poison(&l);
    if (l.ctx->step != STEP_TRAIN || a.p == 0)
        return a.x;
    ValueId seed = layer_random_input(l.ctx, &l.ctx->seed, "seed");
    ValueId turn = layer_random_input(l.ctx, &l.ctx->turn, "step");
    return layer_tensor(
        &l, ir_emit(&l.ctx->b, OP_DROPOUT, IR_IN(l.x, seed, turn), AF(P, (double)a.p), AI(STREAM, layer_stream(&l))));
}

/* A mask of one number a sample, and a product: the draws are made once, all masks of a step in one launch. */
Tensor dt_drop_connect_(DtDropout a)
{
    Layer l;
    if (!layer_open(&l, "drop_connect", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!check_drop(&l, (double)a.p, "a sample") || !layer_start(&l, "drop_connect", a.name))
        return layer_poison(&l);
    if (l.ctx->step != STEP_TRAIN || a.p == 0)
        return a.x;
    Builder *b = &l.ctx->b;
    ValueId  seed = layer_random_input(l.ctx, &l.ctx->seed, "seed");
    ValueId  turn = layer_random_input(l.ctx, &l.ctx->turn, "step");
    ValueId  mask = ir_emit(b, OP_SAMPLE_MASK, IR_IN(seed, turn), AI(COUNT, l.in.dim[0]), AF(P, (double)a.p),
                            AI(STREAM, layer_stream(&l)));
    if (l.in.rank == 2)
        mask = ir_emit(b, OP_RESHAPE, IR_IN(mask), AI(CHANNELS, 1));
    return layer_tensor(&l, ir_emit(b, OP_MUL, IR_IN(l.x, mask)));
}
