/* grad.c: the gradient rule of every differentiable op. A rule gets a value and dy, the gradient of the loss with
 * respect to it, and adds gradients of those inputs behind which something trained lies. Rules emit graph ops only, so
 * that a gradient is fused, quantized, planned and printed like everything else.
 *
 * Notation: y = op(x, ...); dx is d loss / d x. A rule copies the Value it looks at: emitting moves the vector of
 * values.
 *
 * Quantizers are in grad_quant.c, the primitives of batch norm in grad_norm.c, activations and losses in grad_act.c.
 * Tested by tests/unit/test_autodiff.c (structure) and, numerically, by the op matrix. */
#include "ir/grad_impl.h"

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

static bool in_set(const AttrSet *set, int32_t n, AttrId id)
{
    for (int32_t i = 0; i < n; i++)
        if (set[i].id == id)
            return true;
    return false;
}

ValueId grad_emit_like(GradCtx *c, const Value *v, OpCode op, const ValueId *in, int32_t n_in, const AttrSet *own,
                       int32_t n_own)
{
    enum { MAX_SHARED = 12 };
    AttrSet set[2 * MAX_SHARED];
    int32_t n = 0;
    for (int32_t i = 0; i < n_own; i++)
        set[n++] = own[i];
    const OpInfo *from = &ir_ops[v->op], *to = &ir_ops[op];
    DT_ASSERT(n_own <= MAX_SHARED && from->n_attrs <= MAX_SHARED, "%s: %d attributes", from->text, from->n_attrs);
    for (int32_t i = 0; i < from->n_attrs; i++)
        for (int32_t j = 0; j < to->n_attrs; j++)
            if (from->attrs[i].id == to->attrs[j].id && !in_set(own, n_own, from->attrs[i].id))
                set[n++] = (AttrSet){ from->attrs[i].id, v->attr[i] };
    return ir_emit_(c->b, op, in, n_in, set, n);
}

static void no_gradient(GradCtx *c, const Value *v, const char *why, Shape s)
{
    diag_error(c->b->d, ir_loc(c->b->g, v), "%s: there is no gradient %s %s", ir_ops[v->op].text, why,
               shape_text(c->b->g->arena, s));
}

/* Which dimensions remain when a result of shape `from` is summed to shape `to`; NULL: no reduction does that. */
static const char *kept_dims(Shape from, Shape to, int64_t axis)
{
    if (to.rank == 0)
        return "";
    if (from.rank < 2 || to.dim[0] != from.dim[to.rank == 1 ? axis : 0])
        return NULL;
    if (to.rank == 1)
        return axis == 1 ? "c" : axis == 0 ? "o" : NULL;
    if (to.rank == 2 && from.rank == 2)
        return to.dim[1] == 1 ? "n" : NULL;
    if (from.rank != 4 || to.rank != 4 || to.dim[2] != 1 || to.dim[3] != 1)
        return NULL;
    return to.dim[1] == from.dim[1] ? "nc" : to.dim[1] == 1 ? "n" : NULL;
}

/* An operand that was broadcast gets the sum of the gradients of its copies. */
void grad_add_summed(GradCtx *c, const Value *v, ValueId input, ValueId g, int64_t axis)
{
    if (g == VALUE_NONE)
        return;
    Shape from = grad_shape(c, g), to = grad_shape(c, input);
    if (!shape_eq(from, to)) {
        const char *keep = kept_dims(from, to, axis);
        if (!keep) {
            no_gradient(c, v, "of an operand that is broadcast from", to);
            return;
        }
        g = ir_emit(c->b, OP_REDUCE_SUM, IR_IN(g), AT(KEEP, keep));
        if (grad_shape(c, g).rank < to.rank) /* one number a sample: [N, 1] */
            g = ir_emit(c->b, OP_RESHAPE, IR_IN(g), AI(CHANNELS, 1), AI(H, 1), AI(W, 1));
    }
    c->add(c, input, g);
}

/* ---- Convolution, linear ----------------------------------------------------------------------------------------- */

static void grad_bias(GradCtx *c, const Value *v, ValueId dy)
{
    if (v->n_in == 3 && c->wants(c, v->in[2]))
        c->add(c, v->in[2], ir_emit(c->b, OP_REDUCE_SUM, IR_IN(dy), AT(KEEP, "c")));
}

void grad_conv2d(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId x = v.in[0], w = v.in[1];
    const Shape   xs = grad_shape(c, x), ws = grad_shape(c, w);
    if (c->wants(c, w))
        c->add(c, w, emit_like(c, &v, OP_CONV2D_GRAD_W, IR_IN(dy, x), AI(KERNEL, ws.dim[2])));
    if (c->wants(c, x))
        c->add(c, x, emit_like(c, &v, OP_CONV2D_GRAD_X, IR_IN(dy, w), AI(H, xs.dim[2]), AI(W, xs.dim[3])));
    grad_bias(c, &v, dy);
}

void grad_linear(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const ValueId x = v.in[0], w = v.in[1];
    if (c->wants(c, w))
        c->add(c, w, ir_emit(c->b, OP_LINEAR_GRAD_W, IR_IN(dy, x)));
    if (c->wants(c, x))
        c->add(c, x, ir_emit(c->b, OP_LINEAR_GRAD_X, IR_IN(dy, w)));
    grad_bias(c, &v, dy);
}

/* ---- Batch norm -------------------------------------------------------------------------------------------------- */

/* y = gamma (x - mean) r + beta with r = 1 / sqrt(var + eps), a = gamma r, n values a channel.
 *
 *   dbeta  = sum dy
 *   dgamma = r dot,  dot = sum dy (x - mean)
 *   dx     = a (dy - dbeta / n - (x - mean) r^2 dot / n)        mean and var are those of x
 *          = a dy + kx x + k1,  kx = -a dot / ((var + eps) n),  k1 = -a dbeta / n - kx mean
 *   dx     = a dy                                               mean and var are given numbers
 *
 * The gradient through bn_mean and bn_var of the same x is thereby part of this rule; other origins of mean and var
 * that would need one are refused. */
void grad_batchnorm(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const Graph  *g = c->b->g;
    const ValueId x = v.in[0], mean = v.in[1], var = v.in[2], gamma = v.in[3], beta = v.in[4];
    const bool    batch = ir_is(g, mean, OP_BN_MEAN) && ir_is(g, var, OP_BN_VAR) && ir_value(g, mean)->in[0] == x &&
                       ir_value(g, var)->in[0] == x;
    if (!batch && (c->wants(c, mean) || c->wants(c, var))) {
        no_gradient(c, &v, "of mean and var that are not bn_mean and bn_var of x; x is", grad_shape(c, x));
        return;
    }
    const bool    wants_x = c->wants(c, x);
    const double  eps = ir_float(&v, A_EPS);
    const Shape   s = v.type.shape;
    const int64_t count = shape_elems(s) / s.dim[1];

    ValueId       dot = VALUE_NONE, dbeta = VALUE_NONE;
    if (c->wants(c, beta) || (wants_x && batch))
        dbeta = ir_emit(c->b, OP_REDUCE_SUM, IR_IN(dy), AT(KEEP, "c"));
    if (c->wants(c, gamma) || (wants_x && batch))
        dot = ir_emit(c->b, OP_BN_DGAMMA, IR_IN(dy, x, mean));
    if (c->wants(c, beta))
        c->add(c, beta, dbeta);
    if (c->wants(c, gamma))
        c->add(c, gamma, ir_emit(c->b, OP_RSQRT_MUL, IR_IN(dot, var), AF(EPS, eps)));
    if (!wants_x)
        return;

    ValueId a = ir_emit(c->b, OP_BN_SCALE, IR_IN(gamma, var), AF(EPS, eps));
    if (!batch) {
        c->add(c, x, ir_emit(c->b, OP_MUL, IR_IN(dy, a)));
        return;
    }
    ValueId kx = ir_emit(c->b, OP_BN_GRAD_X, IR_IN(var, a, dot), AF(EPS, eps), AI(COUNT, count));
    ValueId k1 = ir_emit(c->b, OP_BN_GRAD_1, IR_IN(a, dbeta, kx, mean), AI(COUNT, count));
    c->add(c, x, ir_emit(c->b, OP_AFFINE2, IR_IN(dy, a, x, kx, k1)));
}

/* ---- Element-wise ------------------------------------------------------------------------------------------------ */

void grad_relu(GradCtx *c, ValueId id, ValueId dy)
{
    /* By its result, which is kept anyway for the next layer. */
    c->add(c, grad_value(c, id).in[0], ir_emit(c->b, OP_RELU_GRAD, IR_IN(id, dy)));
}

void grad_add(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    for (int32_t i = 0; i < 2; i++)
        if (c->wants(c, v.in[i]))
            grad_add_summed(c, &v, v.in[i], dy, ir_int(&v, A_AXIS));
}

void grad_sub(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    if (c->wants(c, v.in[0]))
        grad_add_summed(c, &v, v.in[0], dy, ir_int(&v, A_AXIS));
    if (c->wants(c, v.in[1]))
        grad_add_summed(c, &v, v.in[1], ir_emit(c->b, OP_SCALE, IR_IN(dy), AF(SCALE, -1)), ir_int(&v, A_AXIS));
}

/* d(x y) = dy y, dy x */
void grad_mul(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    for (int32_t i = 0; i < 2; i++)
        if (c->wants(c, v.in[i]))
            grad_add_summed(c, &v, v.in[i], emit_like(c, &v, OP_MUL, IR_IN(dy, v.in[1 - i])), ir_int(&v, A_AXIS));
}

void grad_scale(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    c->add(c, v.in[0], emit_like(c, &v, OP_SCALE, IR_IN(dy)));
}

/* The same draw as forward, made again: seed, step, stream and index are the same. */
void grad_dropout(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    c->add(c, v.in[0], emit_like(c, &v, OP_DROPOUT, IR_IN(dy, v.in[1], v.in[2])));
}

/* ---- Pooling, shapes --------------------------------------------------------------------------------------------- */

void grad_maxpool(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    const Shape s = grad_shape(c, v.in[0]);
    ValueId     tap = emit_like(c, &v, OP_MAXPOOL_TAP, IR_IN(v.in[0]));
    c->add(c, v.in[0], emit_like(c, &v, OP_MAXPOOL_GRAD, IR_IN(tap, dy), AI(H, s.dim[2]), AI(W, s.dim[3])));
}

void grad_avgpool(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    const Shape s = grad_shape(c, v.in[0]);
    c->add(c, v.in[0], emit_like(c, &v, OP_AVGPOOL_GRAD, IR_IN(dy), AI(H, s.dim[2]), AI(W, s.dim[3])));
}

/* y = mean over H W: each element gets dy / (H W). */
void grad_gap(GradCtx *c, ValueId id, ValueId dy)
{
    const Value  v = grad_value(c, id);
    const Shape  s = grad_shape(c, v.in[0]);
    const double scale = 1.0 / (double)(s.dim[2] * s.dim[3]);
    c->add(c, v.in[0],
           ir_emit(c->b, OP_BROADCAST, IR_IN(dy), AF(SCALE, scale), AI(CHANNELS, s.dim[1]), AI(H, s.dim[2]),
                   AI(W, s.dim[3])));
}

void grad_reshape(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    const Shape s = grad_shape(c, v.in[0]);
    const bool  image = s.rank == 4;
    c->add(c, v.in[0],
           ir_emit(c->b, OP_RESHAPE, IR_IN(dy), AI(CHANNELS, s.dim[1]), AI(H, image ? s.dim[2] : 0),
                   AI(W, image ? s.dim[3] : 0)));
}

void grad_shortcut(GradCtx *c, ValueId id, ValueId dy)
{
    const Value v = grad_value(c, id);
    const Shape s = grad_shape(c, v.in[0]);
    c->add(c, v.in[0],
           emit_like(c, &v, OP_SHORTCUT_A_GRAD, IR_IN(dy), AI(CHANNELS, s.dim[1]), AI(H, s.dim[2]), AI(W, s.dim[3])));
}

/* y = scale sum x: each element of what was summed gets scale dy. */
void grad_reduce_sum(GradCtx *c, ValueId id, ValueId dy)
{
    const Value   v = grad_value(c, id);
    const Shape   s = grad_shape(c, v.in[0]), kept = v.type.shape;
    const double  scale = ir_float(&v, A_SCALE);
    const bool    image = s.rank == 4;
    const int64_t h = image ? s.dim[2] : 0, w = image ? s.dim[3] : 0;
    if (shape_eq(s, kept)) {
        c->add(c, v.in[0], ir_emit(c->b, OP_SCALE, IR_IN(dy), AF(SCALE, scale)));
        return;
    }
    if (s.rank != 2 && s.rank != 4) {
        no_gradient(c, &v, "for an operand of shape", s);
        return;
    }
    if (image && kept.rank == 2) /* [N, 1] */
        dy = ir_emit(c->b, OP_RESHAPE, IR_IN(dy), AI(CHANNELS, 1), AI(H, 1), AI(W, 1));
    c->add(c, v.in[0],
           ir_emit(c->b, OP_BROADCAST, IR_IN(dy), AF(SCALE, scale), AI(CHANNELS, s.dim[1]), AI(H, h), AI(W, w),
                   AI(AXIS, str_eq(ir_text(&v, A_KEEP), "o") ? 0 : 1),
                   AI(COUNT, kept.rank < 2 ? s.dim[0] : 0))); /* dy has lost N */
}
