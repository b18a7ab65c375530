/* insert_quantize.c: puts quantizers where the recipe wants them. Each conv2d, conv_transpose2d and linear reads a
 * quantized weight and a quantized input (what meets no weight: insert_joins.c):
 *
 *   %c = conv2d %x, %w          =>    %sx = param "s1.b0.conv1.input.step"      %sw = param "s1.b0.conv1.weight.step"
 *                                     %xq = qdq %x, %sx {lo, hi, bits, role="act"}
 *                                     %wq = qdq %w, %sw {lo, hi, bits, role="weight"}
 *                                     %c  = conv2d %xq, %wq
 *
 * The leaves and the op are those of the layer's method (quantize.h); what is common to all methods is here:
 *
 *   codes     weights: the signed range; an input that can never be negative: [0, 2^b - 1], any other: the signed range
 *   sharing   layers that read one value with the same quantizer share it; it has the name of the first
 *   edges     the first and the last layer get edge_bits (LSQ, Esser et al. 2020, section 3); rows of the recipe come
 *             after that, and the last that matches wins
 *   noise     a training step sees a random share of the weight quantized
 *   delay     a training step before that epoch sees inputs in float
 *   folding   a weight that fold-batchnorm multiplied is quantized as the product and named as the param; the
 *             convolution that gives statistics beside it keeps its weight
 *
 * In the init step a first value is computed from the value itself and used at once, so every quantizer begins with
 * what it will see: values that went through the quantizers before it. The observe step has no quantizers: it hands
 * what they would read to the host, which calibrates. The inspect step counts what they do.
 *
 * Tested by tests/unit/test_quantize.c and tests/golden. */
#include "passes/batchnorm.h"
#include "passes/insert_impl.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *param; /* middle of the names of a quantizer's leaves */
    int32_t     input; /* of the layer */
} roles[ROLE_COUNT] = {
    [ROLE_WEIGHT] = { "weight", 1 },
    [ROLE_ACT] = { "input", 0 },
};

/* ---- Values that are never negative ------------------------------------------------------------------------------ */

/* When is the result >= 0 (or NaN)? */
typedef enum NonnegRule { NONNEG_NO, NONNEG_ALWAYS, NONNEG_FIRST, NONNEG_ALL, NONNEG_SCALE, NONNEG_CODES } NonnegRule;

static const NonnegRule nonneg_rules[OP_COUNT] = {
    [OP_RELU] = NONNEG_ALWAYS,
    [OP_MAXPOOL] = NONNEG_FIRST,
    [OP_AVGPOOL] = NONNEG_FIRST,
    [OP_GLOBAL_AVGPOOL] = NONNEG_FIRST,
    [OP_RESHAPE] = NONNEG_FIRST,
    [OP_DROPOUT] = NONNEG_FIRST,
    [OP_SHORTCUT_A] = NONNEG_FIRST,
    [OP_ADD] = NONNEG_ALL,
    [OP_MUL] = NONNEG_ALL,
    [OP_SCALE] = NONNEG_SCALE,
    [OP_QDQ] = NONNEG_CODES,
    [OP_RELU6] = NONNEG_ALWAYS,
    [OP_SIGMOID] = NONNEG_ALWAYS,
    [OP_HARD_SIGMOID] = NONNEG_ALWAYS,
    [OP_SAMPLE_MASK] = NONNEG_ALWAYS,
    [OP_CONCAT] = NONNEG_ALL,
    [OP_SLICE] = NONNEG_FIRST,
    [OP_PAD_IMAGE] = NONNEG_FIRST,
    [OP_UPSAMPLE] = NONNEG_FIRST,
};

static bool value_nonneg(const Graph *g, const Value *v, const bool *known)
{
    switch (nonneg_rules[v->op]) {
    case NONNEG_NO:
        return false;
    case NONNEG_ALWAYS:
        return true;
    case NONNEG_FIRST:
        return known[v->in[0]];
    case NONNEG_ALL:
        for (int32_t i = 0; i < v->n_in; i++)
            if (!known[v->in[i]])
                return false;
        return true;
    case NONNEG_SCALE:
        return ir_float(v, A_SCALE) >= 0 && known[v->in[0]];
    case NONNEG_CODES: /* step sizes are kept positive by the optimizer; codes below a zero point are negative numbers
                        */
        return (ir_int(v, A_LO) >= 0 && v->n_in == 2) || known[v->in[0]];
    }
    DT_UNREACHABLE("rule %d of %s in @%s", (int)nonneg_rules[v->op], ir_ops[v->op].text, g->name);
}

static void find_nonneg(Inserter *q, const Graph *g)
{
    q->nonneg = ARENA_ARRAY(q->c->scratch, bool, g->values.len);
    for (int32_t i = 0; i < g->order.len; i++)
        q->nonneg[g->order.at[i]] = value_nonneg(g, ir_value(g, g->order.at[i]), q->nonneg);
}

/* ---- Layers ----------------------------------------------------------------------------------------------------- */

/* The param behind a weight: itself, or what is multiplied by the scale of a batch norm. */
static ValueId weight_param(const Graph *g, ValueId w)
{
    return ir_is(g, w, OP_MUL) ? ir_value(g, w)->in[0] : w;
}

const char *layer_name(Arena *a, const Graph *g, ValueId id)
{
    const char *weight = ir_value(g, weight_param(g, ir_value(g, id)->in[1]))->name;
    size_t      len = weight ? strlen(weight) : 0, tail = strlen(".weight");
    if (len > tail && strcmp(weight + len - tail, ".weight") == 0)
        return arena_strndup(a, weight, len - tail);
    return ir_label(a, g, id);
}

const char *insert_unique_name(Inserter *q, const char *name)
{
    const char *unique = name;
    for (int n = 2; strmap_get(&q->taken, unique) >= 0; n++)
        unique = arena_printf(q->c->scratch, "%s_%d", name, n);
    strmap_put(&q->taken, unique, 1);
    return unique;
}

/* Ops with a weight. Of a transposed convolution's, the second dimension is the outputs. */
static bool is_layer(const Graph *g, ValueId id)
{
    return ir_is(g, id, OP_CONV2D) || ir_is(g, id, OP_LINEAR) || ir_is(g, id, OP_CONV_TRANSPOSE2D);
}

static bool find_layers(Inserter *q, const Graph *g)
{
    Arena *a = q->c->scratch;
    Uses   uses = ir_uses(a, g);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (!is_layer(g, id) || is_teacher(g, id) || batchnorm_only_statistics(g, &uses, id))
            continue;
        const char *name = layer_name(a, g, id);
        /* layers that share a weight, or have no name, must not share the names of their step sizes */
        vec_push(a, &q->layers, (Layer){ .id = id, .name = name, .unique = insert_unique_name(q, name) });
    }
    for (int32_t i = 0; i < q->layers.len; i++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            Layer *l = &q->layers.at[i];
            bool   edge = i == 0 || i == q->layers.len - 1;
            if (!recipe_resolve(a, q->c->d, q->recipe, l->name, edge, (Role)role, &l->spec[role]))
                return false;
        }
    return true;
}

/* ---- Is the recipe sound? ---------------------------------------------------------------------------------------- */

bool insert_is_quantized(const Graph *g, ValueId x)
{
    return ir_is(g, x, OP_QDQ) || ir_is(g, x, OP_QUANT_NOISE);
}

bool insert_check_name(Inserter *q, const Graph *g, const char *name, const char *layer)
{
    static const char *const suffixes[] = { "step", "offset", "min", "max" };
    for (int32_t k = 0; k < DT_COUNT(suffixes); k++) {
        const char *leaf = arena_printf(q->c->scratch, "%s.%s", name, suffixes[k]);
        if (ir_find(g, leaf) == VALUE_NONE)
            continue;
        diag_error(q->c->d, LOC_NONE, "insert-quantize: the name %s is taken, and layer %s needs it", leaf, layer);
        return false;
    }
    return true;
}

static const char *quantizer_name(const Inserter *q, const Layer *l, Role role)
{
    return arena_printf(q->c->keep, "%s.%s", l->unique, roles[role].param);
}

static bool check_names(Inserter *q, const Graph *g)
{
    for (int32_t i = 0; i < q->layers.len; i++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            const Layer *l = &q->layers.at[i];
            if (l->spec[role].bits && !insert_is_quantized(g, ir_value(g, l->id)->in[roles[role].input]) &&
                !insert_check_name(q, g, quantizer_name(q, l, (Role)role), l->name))
                return false;
        }
    return joins_check_names(q, g);
}

static bool check_recipe(Inserter *q)
{
    RecipeLayer *layers = ARENA_ARRAY(q->c->scratch, RecipeLayer, q->layers.len + q->joins.len + 1);
    int32_t      n = 0;
    for (int32_t i = 0; i < q->layers.len; i++) {
        const Layer *l = &q->layers.at[i];
        layers[n++] = (RecipeLayer){ l->name, { &l->spec[ROLE_WEIGHT], &l->spec[ROLE_ACT] } };
    }
    for (int32_t i = 0; i < q->joins.len; i++) {
        const Join *j = &q->joins.at[i];
        if (!str_eq(spec_word(&j->spec[ROLE_ACT], SET_JOINS), "float"))
            layers[n++] = (RecipeLayer){ j->name, { &j->spec[ROLE_WEIGHT], &j->spec[ROLE_ACT] } };
    }
    return recipe_check(q->c->scratch, q->c->d, q->recipe, layers, n);
}

/* ---- One quantizer ----------------------------------------------------------------------------------------------- */

/* Codes of the form that most methods want; a method may choose others. */
static void choose_codes(Quantizing *z)
{
    int64_t codes = (int64_t)1 << z->info.bits;
    bool    is_signed = z->role == ROLE_WEIGHT || !z->nonneg;
    bool    narrow = z->role == ROLE_WEIGHT && str_eq(quantizing_word(z, SET_CODES), "narrow");
    z->info.lo = is_signed ? -codes / 2 + narrow : 0;
    z->info.hi = is_signed ? codes / 2 - 1 : codes - 1;
}

/* How many steps, and how many outputs of the weight share one. False: reported. */
static bool choose_grain(Quantizing *z)
{
    const char *grain = quantizing_word(z, SET_GRAIN);
    z->steps = z->group = 1;
    if (z->role == ROLE_ACT || str_eq(grain, "tensor"))
        return true;
    int64_t outputs = ir_value(z->b->g, z->x)->type.shape.dim[z->axis];
    z->group = str_eq(grain, "channel") ? 1 : strtoll(grain, NULL, 10);
    z->steps = outputs / z->group;
    if (outputs % z->group == 0)
        return true;
    int32_t              by = z->spec->by[SET_GRAIN];
    const RecipeSetting *said = by >= 0 ? &z->c->recipe->settings.at[by] : NULL;
    diag_error(z->c->d, said ? said->at : LOC_NONE,
               "%s: grain: expected tensor, channel or a divisor of the %lld outputs of %s, found %s",
               said ? said->what : z->spec->method->name, (long long)outputs, z->name, grain);
    diag_help(z->c->d, "write grain=channel, or name the layers whose outputs are groups of %s", grain);
    return false;
}

/* Inputs that every random op of a step shares. Where the network has them, they are kept before all else. */
static const char *const random_inputs[] = { "seed", "step" };

static bool              is_random_input(const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    return v->op == OP_INPUT && (str_eq(v->name, random_inputs[0]) || str_eq(v->name, random_inputs[1]));
}

static ValueId random_input(Builder *b, int32_t i)
{
    const char *name = random_inputs[i];
    ValueId     there = ir_find(b->g, name);
    if (there != VALUE_NONE)
        return there;
    return ir_leaf(b, OP_INPUT, name, (Type){ DTYPE_U32, shape_of(0, NULL), LAYOUT_ROWS }, NULL, 0);
}

/* A share of the weight is seen quantized. */
static ValueId add_noise(Quantizing *z, ValueId x, ValueId q)
{
    double p = quantizing_number(z, SET_NOISE);
    if (z->role != ROLE_WEIGHT || z->c->step != STEP_TRAIN || p >= 1)
        return q;
    if (p <= 0)
        return x;
    ValueId seed = random_input(z->b, 0), step = random_input(z->b, 1);
    return ir_emit(z->b, OP_QUANT_NOISE, IR_IN(x, q, seed, step), AF(P, p), AI(STREAM, hash_u32(z->name)),
                   AI(BLOCK, (int64_t)quantizing_number(z, SET_NOISE_BLOCK)));
}

static void inspect_output(Quantizing *z, ValueId v, const char *what)
{
    ir_output(z->b, v, arena_printf(z->c->keep, INSPECT_OUTPUT "%s:%s", z->name, what));
}

/* What the host wants to know about the quantizer that makes y of x. What is clipped its op knows, which with an offset
 * that is no whole number of steps sees x less that. */
static void add_inspection(Quantizing *z, ValueId x, ValueId y)
{
    Builder *b = z->b;
    if (z->c->step != STEP_INSPECT)
        return;
    const Value v = *ir_value(b->g, z->qdq);
    ValueId     clipped = ir_emit(b, OP_COUNT_CLIPPED, IR_INS(v.in, v.n_in), AI(LO, z->info.lo), AI(HI, z->info.hi),
                                  AI(AXIS, ir_int(&v, A_AXIS)), AT(KEEP, ""));
    inspect_output(z, clipped, "clipped");
    inspect_output(z, ir_emit(b, OP_SQUARED_ERROR, IR_IN(x, y), AT(KEEP, "")), "noise");
    inspect_output(z, ir_emit(b, OP_REDUCE_DOT, IR_IN(x, x), AT(KEEP, "")), "signal");
    inspect_output(z, ir_emit(b, OP_COUNT_NONFINITE, IR_IN(x), AT(KEEP, "")), "bad");
    inspect_output(z, v.in[1], "step");
    if (v.n_in > 2)
        inspect_output(z, v.in[2], "zero");
    if (z->role == ROLE_WEIGHT)
        inspect_output(z, y, "value");
}

bool insert_is_given(const Graph *g, ValueId x)
{
    while (ir_ops[ir_value(g, x)->op].traits & T_VIEW)
        x = ir_value(g, x)->in[0];
    return ir_is(g, x, OP_INPUT);
}

/* Does the training step leave inputs as they are? */
static bool sees_float(const PassCtx *c, const QuantSpec *spec, Role role)
{
    if (c->step != STEP_TRAIN || role != ROLE_ACT)
        return false;
    return str_eq(spec_word(spec, SET_TRAINING), "float") ||
           c->moment.epoch < recipe_setting(c->scratch, c->recipe, SET_DELAY).number[0];
}

/* Values that are clipped and not rounded are what a penalty draws to the grid. */
static bool rounds(const PassCtx *c, const QuantSpec *spec, Role role)
{
    bool clamps = c->step == STEP_TRAIN && role == ROLE_ACT && str_eq(spec_word(spec, SET_TRAINING), "clamp");
    return !(c->step == STEP_EVAL && c->clamped) && (!clamps || sees_float(c, spec, role));
}

ValueId insert_quantizer(Inserter *q, const Site *s, ValueId x)
{
    PassCtx         *c = q->c;
    const QuantSpec *spec = s->spec;
    Quantizing       z = { .c = c,
                           .b = &q->r.b,
                           .spec = spec,
                           .role = s->role,
                           .name = s->name,
                           .x = x,
                           .nonneg = s->nonneg,
                           .given = s->given,
                           .round = rounds(c, spec, s->role),
                           .axis = s->axis,
                           .info = { .layer = arena_strdup(c->keep, s->layer),
                                     .role = role_name(s->role),
                                     .method = spec->method->name,
                                     .bits = spec->bits,
                                     .row = spec->row,
                                     .calibrate = arena_strdup(c->keep, spec_word(spec, SET_CALIBRATE)),
                                     .percentile = spec_number(spec, SET_PERCENTILE, c->moment) } };
    choose_codes(&z);
    if (!choose_grain(&z))
        return VALUE_NONE;
    z.info.name = z.name;
    z.info.steps = z.steps;
    z.info.axis = z.axis;
    z.info.elems = shape_elems(ir_value(z.b->g, x)->type.shape);
    ValueId y = spec->method->quantize(&z);
    if (c->step == STEP_OBSERVE) {
        z.info.observed = arena_printf(c->keep, OBSERVE_OUTPUT "%s", z.name);
        ir_output(z.b, x, z.info.observed);
        y = x;
    }
    add_inspection(&z, x, y);
    vec_push(c->keep, &c->quantizers, z.info);
    pass_count(c, s->role == ROLE_WEIGHT ? "weights" : "activations", 1);
    return sees_float(c, spec, s->role) ? x : add_noise(&z, x, y);
}

/* Would both quantize alike? */
static bool same_spec(const QuantSpec *a, const QuantSpec *b, Role role)
{
    if (a->method != b->method || a->bits != b->bits)
        return false;
    for (int32_t i = 0; i < SETTING_COUNT; i++)
        if (i != SET_METHOD && i != SET_JOINS && (pass_settings[i].roles & 1u << role) != 0 &&
            !str_eq(a->value[i].text, b->value[i].text))
            return false;
    return true;
}

ValueId insert_or_share(Inserter *q, const Site *s, ValueId old)
{
    for (int32_t i = 0; i < q->made.len; i++) {
        const Made *m = &q->made.at[i];
        if (m->x == old && m->role == s->role && same_spec(m->spec, s->spec, s->role)) {
            pass_count(q->c, "shared", 1);
            return m->q;
        }
    }
    ValueId y = insert_quantizer(q, s, ir_mapped(&q->r, old));
    vec_push(q->c->scratch, &q->made, ((Made){ old, s->role, s->spec, y }));
    return y;
}

/* ---- Layers, rewritten ------------------------------------------------------------------------------------------- */

/* The quantized operand of a layer. VALUE_NONE: reported. */
static ValueId quantized_operand(Inserter *q, const Layer *l, Role role)
{
    const Graph *g = q->r.b.g;
    const Value *v = ir_value(g, l->id);
    ValueId      x = v->in[roles[role].input];
    if (l->spec[role].bits == 0 || insert_is_quantized(g, x))
        return ir_mapped(&q->r, x);
    const Site s = { .layer = l->name,
                     .name = quantizer_name(q, l, role),
                     .spec = &l->spec[role],
                     .role = role,
                     .axis = role == ROLE_WEIGHT && v->op != OP_CONV_TRANSPOSE2D ? 0 : 1,
                     .nonneg = q->nonneg[x],
                     .given = insert_is_given(g, x) };
    return insert_or_share(q, &s, x);
}

void insert_rewrite(Inserter *q, ValueId id, const ValueId *in)
{
    const Value *v = ir_value(q->r.b.g, id);
    bool         is_new = false;
    for (int32_t i = 0; i < v->n_in; i++)
        is_new |= in[i] != ir_mapped(&q->r, v->in[i]);
    if (is_new)
        ir_replace(&q->r, id, ir_copy(&q->r.b, id, in));
    else
        ir_keep(&q->r, id);
}

/* False: reported. */
static bool rewrite_layer(Inserter *q, const Layer *l)
{
    int32_t  n = ir_value(q->r.b.g, l->id)->n_in;
    ValueId *in = ARENA_ARRAY(q->c->scratch, ValueId, n);
    q->r.b.like = l->id;
    for (int32_t i = 0; i < n; i++)
        in[i] = ir_mapped(&q->r, ir_value(q->r.b.g, l->id)->in[i]);
    for (int role = 0; role < ROLE_COUNT; role++) {
        in[roles[role].input] = quantized_operand(q, l, (Role)role);
        if (in[roles[role].input] == VALUE_NONE)
            return false;
    }
    insert_rewrite(q, l->id, in);
    return true;
}

/* The convolution of fold=two that serves statistics alone follows the folded one: its weight stays in float, its input
 * is what that one reads. */
static void rewrite_statistics(Inserter *q, const Layer *before, ValueId id)
{
    const Value v = *ir_value(q->r.b.g, id);
    ValueId    *in = ARENA_ARRAY(q->c->scratch, ValueId, v.n_in);
    for (int32_t i = 0; i < v.n_in; i++)
        in[i] = ir_mapped(&q->r, v.in[i]);
    ValueId folded = ir_mapped(&q->r, before->id);
    if (ir_value(q->r.b.g, folded)->in[0] == in[0]) {
        ir_keep(&q->r, id);
        return;
    }
    in[0] = ir_value(q->r.b.g, folded)->in[0];
    q->r.b.like = id;
    ir_replace(&q->r, id, ir_copy(&q->r.b, id, in));
}

/* Has the layer rewritten last the same input, and is this one no layer of its own? */
static bool is_statistics(const Inserter *q, const Graph *g, int32_t next, ValueId id)
{
    return next > 0 && ir_is(g, id, ir_value(g, q->layers.at[next - 1].id)->op) &&
           ir_value(g, id)->in[0] == ir_value(g, q->layers.at[next - 1].id)->in[0];
}

bool pass_insert_quantize(PassCtx *c, Graph *g)
{
    if (c->recipe == NULL || !recipe_quantizes(c->recipe))
        return false;
    Inserter q = { .c = c, .recipe = c->recipe, .taken = strmap_new(c->scratch) };
    if (!find_layers(&q, g) || !joins_find(&q, g) || !check_recipe(&q) || !check_names(&q, g))
        return false;
    find_nonneg(&q, g);
    q.r = ir_rewrite_begin(g, c->scratch, c->d, "insert-quantize");
    int32_t layer = 0, join = 0;
    for (int32_t i = 0; i < q.r.n_old; i++)
        if (is_random_input(g, q.r.old[i]))
            ir_keep(&q.r, q.r.old[i]);
    for (int32_t i = 0; i < q.r.n_old; i++) {
        ValueId id = q.r.old[i];
        bool    ok = true;
        if (is_random_input(g, id))
            continue;
        if (layer < q.layers.len && q.layers.at[layer].id == id)
            ok = rewrite_layer(&q, &q.layers.at[layer++]);
        else if (join < q.joins.len && q.joins.at[join].id == id)
            ok = joins_rewrite(&q, &q.joins.at[join++]);
        else if (is_statistics(&q, g, layer, id))
            rewrite_statistics(&q, &q.layers.at[layer - 1], id);
        else
            ir_keep(&q.r, id);
        if (!ok)
            return false;
    }
    return ir_rewrite_end(&q.r);
}
