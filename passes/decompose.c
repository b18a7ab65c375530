/* decompose.c: composites become primitives. Autodiff has seen the composites (their gradients are better known as a
 * whole than op by op); from here on every op is a leaf, an effect, a view, a library call or has a body.
 *
 *     batchnorm x, mean, var, gamma, beta   ->  affine x, a, b with a = bn_scale gamma, var; b = bn_shift beta, mean, a
 *     cross_entropy logits, labels          ->  1/N sum (logsumexp logits - pick logits, labels)
 *     mse x, target                         ->  1/n sum (x - target)^2
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

static ValueId decompose_cross_entropy(Builder *b, const Value *v, const ValueId *in)
{
    (void)v;
    const double n = (double)ir_value(b->g, in[0])->type.shape.dim[0];
    ValueId      lse = ir_emit(b, OP_LOGSUMEXP, IR_IN(in[0]));
    ValueId      picked = ir_emit(b, OP_PICK, IR_IN(in[0], in[1]));
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

static const DecomposeFn rules[OP_COUNT] = {
    [OP_BATCHNORM] = decompose_batchnorm,
    [OP_CROSS_ENTROPY] = decompose_cross_entropy,
    [OP_MSE] = decompose_mse,
};

bool pass_decompose(PassCtx *c, Graph *g)
{
    int64_t  n = 0;
    Rewriter r = ir_rewrite_begin(g, c->scratch, c->d, "decompose");
    for (int32_t i = 0; i < r.n_old; i++) {
        const ValueId id = r.old[i];
        const Value   v = *ir_value(g, id);
        if (!(ir_ops[v.op].traits & T_COMPOSITE)) {
            ir_keep(&r, id);
            continue;
        }
        DT_ASSERT(rules[v.op], "%s is a composite without a rule", ir_ops[v.op].text);
        ValueId in[5];
        DT_ASSERT(v.n_in <= DT_COUNT(in), "%s has %d inputs", ir_ops[v.op].text, v.n_in);
        for (int32_t k = 0; k < v.n_in; k++)
            in[k] = ir_mapped(&r, v.in[k]);
        r.b.like = id;
        r.b.backward = v.backward;
        ir_replace(&r, id, rules[v.op](&r.b, &v, in));
        n++;
    }
    pass_count(c, "composites", n);
    return ir_rewrite_end(&r);
}
