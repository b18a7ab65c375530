/* fold_batchnorm.c: what is quantized of a layer in front of a batch norm is its weight times gamma / sigma, the weight
 * that an integer convolution will have, and not the weight as it is trained (Jacob et al., CVPR 2018, section 3.2).
 * sigma_m, mu_m are the running statistics, sigma_b, mu_b those of the batch; k = gamma / sigma_m for each output
 * channel moves slowly, as a quantizer's range must.
 *
 *   fold=one    y' = conv(x, Q(w k)) (1 / k),  batchnorm y'
 *               One convolution; the batch norm stays what it was and takes the statistics of the quantized
 *               convolution (the form of PyTorch and MQBench). |gamma| is kept above 1e-8: it divides.
 *
 *   fold=two    y0 = conv(x, Q(w k)),  mu_b, sigma_b of conv(x, w)
 *               y = y0 (sigma_m / sigma_b) + (beta - gamma mu_b / sigma_b)       with statistics of the batch
 *               y = y0 + (beta - mu_m k)                                         with running statistics
 *               The paper's: statistics of the float convolution, which is a second one until freeze-bn.
 *
 * Without quantizers both are the batch norm.
 *
 * Gradients: with fold=one none flows through k. y' does not depend on k but for the rounding of w k; the part that
 * goes through w k and the part that goes through 1 / k cancel, and would cost two sums over the whole of y'. With
 * fold=two gradients flow through gamma, beta, w, mu_b and sigma_b; sigma_m and mu_m are constants.
 *
 * A layer is folded when the recipe quantizes its weight and asks for it, its weight is a param that nobody else reads,
 * and one batch norm, with nobody else, reads its result. A recipe that names layers and asks for what cannot be is
 * wrong; a method's default or a setting of the whole network folds what can be folded.
 *
 * It runs before insert-quantize, which finds a product in the weight's place and quantizes that. Tested by
 * tests/unit/test_fold.c and tests/golden. */
#include "passes/batchnorm.h"

typedef struct Fold {
    ValueId layer, norm;
    ValueId mean, var;  /* running statistics */
    bool    two, batch; /* batch: the batch norm takes the batch's statistics */
    ValueId folded, k;  /* two: the folded layer's result, and k, in the new graph */
} Fold;

typedef struct Folder {
    PassCtx *c;
    Rewriter r;
    Uses     uses;
    VEC(Fold) folds;
    int32_t *of;   /* by value: the fold that a layer or a batch norm belongs to, from 1 */
    bool    *kept; /* by value: already in the new order */
} Folder;

/* ---- Which layers ------------------------------------------------------------------------------------------------ */

/* The one batch norm that reads the layer, alone but for its statistics. */
static ValueId norm_behind(const Folder *f, const Graph *g, ValueId layer)
{
    ValueId norm = VALUE_NONE;
    for (int32_t i = f->uses.first[layer]; i < f->uses.first[layer + 1]; i++) {
        ValueId user = f->uses.users[i];
        if (ir_is(g, user, OP_BN_MEAN) || ir_is(g, user, OP_BN_VAR))
            continue;
        if (!ir_is(g, user, OP_BATCHNORM) || ir_value(g, user)->in[NORM_X] != layer || norm != VALUE_NONE)
            return VALUE_NONE;
        norm = user;
    }
    return norm;
}

static bool of_batch(const Graph *g, ValueId stat, OpCode op, ValueId layer)
{
    return ir_is(g, stat, op) && ir_value(g, stat)->in[0] == layer;
}

/* Fills in the fold; NULL, or why it cannot be. */
static const char *find_fold(const Folder *f, const Graph *g, Fold *p)
{
    if (ir_is(g, p->layer, OP_CONV_TRANSPOSE2D))
        return "it is a transposed convolution";
    if (ir_use_count(&f->uses, ir_value(g, p->layer)->in[1]) > 1)
        return "its weight is read by others, too";
    p->norm = norm_behind(f, g, p->layer);
    if (p->norm == VALUE_NONE)
        return "its result is not read by one batch norm and nobody else";
    const ValueId *in = ir_value(g, p->norm)->in;
    p->mean = batchnorm_running(f->c->scratch, g, &f->uses, in[NORM_MEAN]);
    p->var = batchnorm_running(f->c->scratch, g, &f->uses, in[NORM_VAR]);
    p->batch = of_batch(g, in[NORM_MEAN], OP_BN_MEAN, p->layer) && of_batch(g, in[NORM_VAR], OP_BN_VAR, p->layer);
    bool running = in[NORM_MEAN] == p->mean && in[NORM_VAR] == p->var;
    if (p->mean == VALUE_NONE || p->var == VALUE_NONE || !(p->batch || running))
        return "its batch norm has no running statistics";
    return NULL;
}

/* A recipe that speaks of these layers alone is wrong; others fold what can be folded. False: reported. */
static bool left_alone(const Folder *f, const Graph *g, const QuantSpec *spec, ValueId layer, const char *why)
{
    int32_t by = spec->by[SET_FOLD];
    pass_explain(f->c, g, layer, "is not folded: %s", why);
    pass_count(f->c, "layers left alone", 1);
    if (by < 0 || f->c->recipe->settings.at[by].pattern == NULL)
        return true;
    const RecipeSetting *s = &f->c->recipe->settings.at[by];
    diag_error(f->c->d, s->at, "%s: fold: layer %s cannot be folded: %s", s->what, layer_name(f->c->scratch, g, layer),
               why);
    diag_help(f->c->d, "say fold=off for it, or name layers in front of a batch norm alone");
    return false;
}

/* Quant-Noise with a share of 0: the step sees the weight in float, and is what float training is, to the bit. */
static bool sees_float(const Folder *f, const QuantSpec *spec)
{
    return f->c->step == STEP_TRAIN && spec->method->penalty == NULL && spec_number(spec, SET_NOISE, f->c->moment) <= 0;
}

/* False: reported. */
static bool consider(Folder *f, const Graph *g, ValueId layer)
{
    QuantSpec   spec;
    Arena      *a = f->c->scratch;
    const char *name = layer_name(a, g, layer);
    if (!ir_is(g, ir_value(g, layer)->in[1], OP_PARAM)) /* folded or quantized before */
        return true;
    /* whether a layer is the first or the last changes how many bits it has, not whether it has any */
    if (!recipe_resolve(a, f->c->d, f->c->recipe, name, false, ROLE_WEIGHT, &spec))
        return false;
    const char *word = spec_word(&spec, SET_FOLD);
    if (spec.bits == 0 || str_eq(word, "off") || sees_float(f, &spec))
        return true;
    Fold        p = { .layer = layer, .two = str_eq(word, "two") };
    const char *why = find_fold(f, g, &p);
    if (why != NULL)
        return left_alone(f, g, &spec, layer, why);
    vec_push(a, &f->folds, p);
    f->of[p.layer] = f->of[p.norm] = f->folds.len;
    pass_explain(f->c, g, layer, "is folded with its batch norm (fold=%s)", word);
    pass_count(f->c, "layers folded", 1);
    return true;
}

/* ---- Rewriting --------------------------------------------------------------------------------------------------- */

static void keep(Folder *f, ValueId id)
{
    if (!f->kept[id])
        ir_keep(&f->r, id);
    f->kept[id] = true;
}

/* The layer with its weight (and bias) times k. */
static ValueId emit_folded(Folder *f, const Fold *p, ValueId k)
{
    Builder    *b = &f->r.b;
    const Value v = *ir_value(b->g, p->layer);
    ValueId     in[3];
    DT_ASSERT(v.n_in <= DT_COUNT(in), "%s has %d inputs", ir_ops[v.op].text, v.n_in);
    in[0] = ir_mapped(&f->r, v.in[0]);
    in[1] = ir_emit(b, OP_MUL, IR_IN(ir_mapped(&f->r, v.in[1]), k), AI(AXIS, 0));
    if (v.n_in == 3)
        in[2] = ir_emit(b, OP_MUL, IR_IN(ir_mapped(&f->r, v.in[2]), k));
    return ir_copy(b, p->layer, in);
}

static void rewrite_layer(Folder *f, Fold *p)
{
    Builder      *b = &f->r.b;
    const Value   norm = *ir_value(b->g, p->norm);
    const double  eps = ir_float(&norm, A_EPS);
    const ValueId leaves[] = { norm.in[NORM_GAMMA], norm.in[NORM_BETA], p->mean, p->var };
    for (int32_t i = 0; i < DT_COUNT(leaves); i++)
        keep(f, leaves[i]); /* they belong to the batch norm, which comes later */
    const ValueId gamma = ir_mapped(&f->r, norm.in[NORM_GAMMA]), var = ir_mapped(&f->r, p->var);
    b->like = p->layer;
    p->k = ir_emit(b, p->two ? OP_BN_SCALE : OP_BN_FOLD, IR_IN(gamma, var), AF(EPS, eps));
    p->folded = emit_folded(f, p, p->k);
    if (p->two && p->batch) {
        keep(f, p->layer); /* its statistics remain, behind the folded one: insert-quantize counts on it */
    } else if (p->two) {
        ir_replace(&f->r, p->layer, p->folded);
    } else {
        ValueId back = ir_emit(b, OP_BN_UNFOLD, IR_IN(gamma, var), AF(EPS, eps));
        ir_replace(&f->r, p->layer, ir_emit(b, OP_MUL, IR_IN(p->folded, back)));
    }
}

/* fold=two: the batch norm becomes what the folded layer lacks. */
static void rewrite_norm(Folder *f, const Fold *p)
{
    Builder      *b = &f->r.b;
    const Value   norm = *ir_value(b->g, p->norm);
    const double  eps = ir_float(&norm, A_EPS);
    const ValueId gamma = ir_mapped(&f->r, norm.in[NORM_GAMMA]), beta = ir_mapped(&f->r, norm.in[NORM_BETA]);
    b->like = p->norm;
    if (!p->batch) {
        ValueId shift = ir_emit(b, OP_BN_SHIFT, IR_IN(beta, ir_mapped(&f->r, p->mean), p->k));
        ir_replace(&f->r, p->norm, ir_emit(b, OP_ADD, IR_IN(p->folded, shift)));
        return;
    }
    ValueId mean = ir_mapped(&f->r, norm.in[NORM_MEAN]), var = ir_mapped(&f->r, norm.in[NORM_VAR]);
    ValueId running = ir_emit(b, OP_BN_DEVIATION, IR_IN(ir_mapped(&f->r, p->var)), AF(EPS, eps));
    ValueId ratio = ir_emit(b, OP_BN_SCALE, IR_IN(running, var), AF(EPS, eps));
    ValueId scale = ir_emit(b, OP_BN_SCALE, IR_IN(gamma, var), AF(EPS, eps));
    ValueId shift = ir_emit(b, OP_BN_SHIFT, IR_IN(beta, mean, scale));
    ir_replace(&f->r, p->norm, ir_emit(b, OP_AFFINE, IR_IN(p->folded, ratio, shift)));
}

bool pass_fold_batchnorm(PassCtx *c, Graph *g)
{
    if (c->recipe == NULL || !recipe_quantizes(c->recipe))
        return false;
    Folder f = { .c = c,
                 .uses = ir_uses(c->scratch, g),
                 .of = ARENA_ARRAY(c->scratch, int32_t, g->values.len),
                 .kept = ARENA_ARRAY(c->scratch, bool, g->values.len) };
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        bool    layer = ir_is(g, id, OP_CONV2D) || ir_is(g, id, OP_LINEAR) || ir_is(g, id, OP_CONV_TRANSPOSE2D);
        if (layer && !consider(&f, g, id))
            return false;
    }
    if (f.folds.len == 0)
        return false;
    f.r = ir_rewrite_begin(g, c->scratch, c->d, "fold-batchnorm");
    for (int32_t i = 0; i < f.r.n_old; i++) {
        ValueId id = f.r.old[i];
        Fold   *p = f.of[id] > 0 ? &f.folds.at[f.of[id] - 1] : NULL;
        if (p != NULL && id == p->layer)
            rewrite_layer(&f, p);
        else if (p != NULL && p->two)
            rewrite_norm(&f, p);
        else
            keep(&f, id);
    }
    return ir_rewrite_end(&f.r);
}
