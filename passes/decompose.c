/* decompose.c: composites become primitives. Autodiff has seen the composites (their gradients are better known as a
 * whole than op by op); from here on every op is a leaf, an effect, a view, a library call or has a body.
 *
 *     batchnorm x, mean, var, gamma, beta   ->  affine x, a, b with a = bn_scale gamma, var; b = bn_shift beta, mean, a
 *     cross_entropy logits, labels          ->  1/N sum (logsumexp logits - pick logits, labels); with two labels a
 *                                               number between what both pick, smoothed towards the mean logit
 *     distill logits, teacher               ->  T^2/N sum kl_term of both, divided by T, and their logsumexp
 *     mse x, target                         ->  1/n sum (x - target)^2; l1, charbonnier, asymmetric: likewise
 *     tv x                                  ->  sum of tv_each x
 *     an image reduced to one number        ->  to one for each channel, then these: rows of channels are what
 *                                               reductions walk fastest, and what other reductions of it keep
 *     grad_scale x                          ->  x: autodiff has seen it
 *
 * Tested by tests/unit/test_autodiff.c and tests/golden. */
#include "passes/pass_impl.h"

/* A rule emits the replacement of `v`, whose inputs are `in`. */
typedef ValueId (*DecomposeFn)(Builder *b, const Value *v, const ValueId *in);

static ValueId decompose_batchnorm(Builder *b, const Value *v, const ValueId *in)
{
    const ValueId x = in[0], mean = in[1], var = in[2], gamma = in[3], beta = in[4];
    ValueId       scale = ir_emit(b, OP_BN_SCALE, IR_IN(gamma, var), AF(EPS, ir_float(v, A_EPS)));
    ValueId       shift = ir_emit(b, OP_BN_SHIFT, IR_IN(beta, mean, scale));
    return ir_emit(b, OP_AFFINE, IR_IN(x, scale, shift));
}

/* What softmax is compared with: sum over classes of q x, which is x[label] unless labels are mixed or smoothed. */
static ValueId label_logit(Builder *b, const Value *v, const ValueId *in)
{
    const double smoothing = ir_float(v, A_SMOOTHING), classes = (double)ir_value(b->g, in[0])->type.shape.dim[1];
    ValueId      picked = ir_emit(b, OP_PICK, IR_IN(in[0], in[1]));
    if (v->n_in == 4) { /* second + share (first - second) */
        ValueId second = ir_emit(b, OP_PICK, IR_IN(in[0], in[2]));
        ValueId more = ir_emit(b, OP_SUB, IR_IN(picked, second));
        picked = ir_emit(b, OP_AFFINE, IR_IN(more, in[3], second));
    }
    if (smoothing == 0)
        return picked;
    ValueId all = ir_emit(b, OP_REDUCE_SUM, IR_IN(in[0]), AT(KEEP, "n"), AF(SCALE, smoothing / classes));
    ValueId most = ir_emit(b, OP_SCALE, IR_IN(picked), AF(SCALE, 1 - smoothing));
    return ir_emit(b, OP_ADD, IR_IN(most, all));
}

static ValueId decompose_cross_entropy(Builder *b, const Value *v, const ValueId *in)
{
    const double n = (double)ir_value(b->g, in[0])->type.shape.dim[0];
    ValueId      lse = ir_emit(b, OP_LOGSUMEXP, IR_IN(in[0]));
    ValueId      picked = label_logit(b, v, in);
    ValueId      each = ir_emit(b, OP_SUB, IR_IN(lse, picked));
    return ir_emit(b, OP_REDUCE_SUM, IR_IN(each), AT(KEEP, ""), AF(SCALE, 1.0 / n));
}

static ValueId decompose_mse(Builder *b, const Value *v, const ValueId *in)
{
    (void)v;
    const double n = (double)shape_elems(ir_value(b->g, in[0])->type.shape);
    ValueId      diff = ir_emit(b, OP_SUB, IR_IN(in[0], in[1]));
    ValueId      square = ir_emit(b, OP_MUL, IR_IN(diff, diff));
    return ir_emit(b, OP_REDUCE_SUM, IR_IN(square), AT(KEEP, ""), AF(SCALE, 1.0 / n));
}

/* 1 over the elements of what a loss is the mean of. */
static double mean_scale(const Builder *b, ValueId x)
{
    return 1.0 / (double)shape_elems(ir_value(b->g, x)->type.shape);
}

static ValueId decompose_l1(Builder *b, const Value *v, const ValueId *in)
{
    (void)v;
    ValueId diff = ir_emit(b, OP_SUB, IR_IN(in[0], in[1]));
    return ir_emit(b, OP_REDUCE_ABS, IR_IN(diff), AT(KEEP, ""), AF(SCALE, mean_scale(b, in[0])));
}

static ValueId decompose_charbonnier(Builder *b, const Value *v, const ValueId *in)
{
    return ir_emit(b, OP_REDUCE_CHARBONNIER, IR_IN(in[0], in[1]), AT(KEEP, ""), AF(EPS, ir_float(v, A_EPS)),
                   AF(SCALE, mean_scale(b, in[0])));
}

static ValueId decompose_asymmetric(Builder *b, const Value *v, const ValueId *in)
{
    return ir_emit(b, OP_REDUCE_ASYMMETRIC, IR_IN(in[0], in[1]), AT(KEEP, ""), AF(ALPHA, ir_float(v, A_ALPHA)),
                   AF(SCALE, mean_scale(b, in[0])));
}

static ValueId decompose_tv(Builder *b, const Value *v, const ValueId *in)
{
    (void)v;
    ValueId each = ir_emit(b, OP_TV_EACH, IR_IN(in[0]));
    return ir_emit(b, OP_REDUCE_SUM, IR_IN(each), AT(KEEP, ""));
}

static ValueId decompose_distill(Builder *b, const Value *v, const ValueId *in)
{
    const double t = ir_float(v, A_TEMPERATURE), n = (double)ir_value(b->g, in[0])->type.shape.dim[0];
    ValueId      x[2], lse[2];
    for (int32_t i = 0; i < 2; i++) {
        x[i] = ir_emit(b, OP_SCALE, IR_IN(in[i]), AF(SCALE, 1 / t));
        lse[i] = ir_emit(b, OP_LOGSUMEXP, IR_IN(x[i]));
    }
    ValueId each = ir_emit(b, OP_KL_TERM, IR_IN(x[0], lse[0], x[1], lse[1]));
    return ir_emit(b, OP_REDUCE_SUM, IR_IN(each), AT(KEEP, ""), AF(SCALE, t * t / n));
}

/* The same op with other attributes `keep` and `scale`. */
static ValueId emit_reduction(Builder *b, const Value *v, const ValueId *in, const char *keep, double scale)
{
    enum { MOST_ATTRS = 8 };
    const OpInfo *op = &ir_ops[v->op];
    AttrSet       attrs[MOST_ATTRS];
    DT_ASSERT(op->n_attrs <= MOST_ATTRS, "%s has %d attributes", op->text, op->n_attrs);
    for (int32_t i = 0; i < op->n_attrs; i++) {
        attrs[i] = (AttrSet){ op->attrs[i].id, v->attr[i] };
        if (attrs[i].id == A_KEEP)
            attrs[i] = AT(KEEP, keep);
        else if (attrs[i].id == A_SCALE)
            attrs[i] = AF(SCALE, scale);
    }
    return ir_emit_(b, v->op, in, v->n_in, attrs, op->n_attrs);
}

static ValueId decompose_reduction(Builder *b, const Value *v, const ValueId *in)
{
    static const OpCode again[] = {
        [KACC_SUM] = OP_REDUCE_SUM, [KACC_MIN] = OP_REDUCE_MIN, [KACC_MAX] = OP_REDUCE_MAX
    };
    ValueId channels = emit_reduction(b, v, in, "c", 1);
    return ir_emit(b, again[ir_ops[v->op].acc], IR_IN(channels), AT(KEEP, ""), AF(SCALE, ir_float(v, A_SCALE)));
}

static ValueId decompose_grad_scale(Builder *b, const Value *v, const ValueId *in)
{
    (void)b, (void)v;
    return in[0];
}

static const DecomposeFn rules[OP_COUNT] = {
    [OP_BATCHNORM] = decompose_batchnorm,
    [OP_CROSS_ENTROPY] = decompose_cross_entropy,
    [OP_DISTILL] = decompose_distill,
    [OP_MSE] = decompose_mse,
    [OP_L1] = decompose_l1,
    [OP_CHARBONNIER] = decompose_charbonnier,
    [OP_ASYMMETRIC] = decompose_asymmetric,
    [OP_TV] = decompose_tv,
    [OP_GRAD_SCALE] = decompose_grad_scale,
};

static bool has_attr(const Value *v, AttrId id)
{
    for (int32_t i = 0; i < ir_ops[v->op].n_attrs; i++)
        if (ir_ops[v->op].attrs[i].id == id)
            return true;
    return false;
}

/* By value: computed from params, their gradients and numbers alone, as prepared weights are: no image. */
static bool *find_prepared(Arena *a, const Graph *g)
{
    bool *prepared = ARENA_ARRAY(a, bool, g->values.len);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        bool    all = ir_value(g, id)->n_in > 0;
        for (int32_t k = 0; k < ir_value(g, id)->n_in; k++)
            all = all && prepared[ir_value(g, id)->in[k]];
        bool number = ir_has(g, id, T_LEAF) && ir_value(g, id)->type.shape.rank == 0;
        bool weight = layout_makes_weight(ir_value(g, id)->op) || ir_is(g, id, OP_LINEAR_GRAD_W);
        prepared[id] =
            all || number || weight || ir_is(g, id, OP_CONST) || ir_is(g, id, OP_PARAM) || ir_is(g, id, OP_STATE);
    }
    return prepared;
}

/* To one number, of what has channels and is no weight: nothing of its size was computed from params alone. */
static bool reduces_image(const Graph *g, const Value *v, const bool *prepared)
{
    const Shape s = v->n_in > 0 ? ir_value(g, v->in[0])->type.shape : v->type.shape;
    if ((ir_ops[v->op].traits & T_REDUCE) == 0 || v->type.shape.rank != 0 || s.rank < 2 || s.dim[1] < 2 ||
        !has_attr(v, A_KEEP) || !has_attr(v, A_SCALE))
        return false;
    for (int32_t i = 0; i < v->n_in; i++)
        if (prepared[v->in[i]] && shape_eq(ir_value(g, v->in[i])->type.shape, s))
            return false;
    return true;
}

static DecomposeFn find_rule(const Graph *g, const Value *v, const bool *prepared)
{
    return reduces_image(g, v, prepared) ? decompose_reduction : rules[v->op];
}

bool pass_decompose(PassCtx *c, Graph *g)
{
    int64_t     n = 0;
    const bool *prepared = find_prepared(c->scratch, g);
    Rewriter    r = ir_rewrite_begin(g, c->scratch, c->d, "decompose");
    for (int32_t i = 0; i < r.n_old; i++) {
        const ValueId     id = r.old[i];
        const Value       v = *ir_value(g, id);
        const DecomposeFn rule = find_rule(g, &v, prepared);
        if (rule == NULL) {
            DT_ASSERT(!(ir_ops[v.op].traits & T_COMPOSITE), "%s is a composite without a rule", ir_ops[v.op].text);
            ir_keep(&r, id);
            continue;
        }
        ValueId in[5];
        DT_ASSERT(v.n_in <= DT_COUNT(in), "%s has %d inputs", ir_ops[v.op].text, v.n_in);
        for (int32_t k = 0; k < v.n_in; k++)
            in[k] = ir_mapped(&r, v.in[k]);
        r.b.like = id;
        r.b.backward = v.backward;
        ir_replace(&r, id, rule(&r.b, &v, in));
        n++;
    }
    pass_count(c, "composites", n);
    return ir_rewrite_end(&r);
}
