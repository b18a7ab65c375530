/* insert_quantize.c: puts quantizers where the recipe wants them. Each conv2d and linear reads a quantized weight and a
 * quantized input:
 *
 *   %c = conv2d %x, %w          =>    %sx = param "s1.b0.conv1.input.step"      %sw = param "s1.b0.conv1.weight.step"
 *                                     %xq = qdq %x, %sx {lo, hi, bits, role="act"}
 *                                     %wq = qdq %w, %sw {lo, hi, bits, role="weight"}
 *                                     %c  = conv2d %xq, %wq
 *
 * Weights use the full signed range [-2^(b-1), 2^(b-1) - 1]; an input that can never be negative uses [0, 2^b - 1], any
 * other the signed range. Layers that read one value with the same range share one quantizer, which has the name of the
 * first. The first and the last layer get edge_bits (LSQ, Esser et al. 2020, section 3); rows of the recipe come after
 * that, and the last that matches wins.
 *
 * In the init step the step size is computed from the value itself and the qdq uses that number, so every quantizer is
 * initialised on what it will see: values that went through the quantizers before it.
 *
 * Tested by tests/unit/test_quantize.c and tests/golden. */
#include "passes/pass_impl.h"

#include <string.h>

typedef enum Role { ROLE_WEIGHT, ROLE_ACT, ROLE_COUNT } Role;

static const struct {
    const char *name, *param; /* attribute of the qdq; middle of the step size's name */
    int32_t     input;        /* of the layer */
} roles[ROLE_COUNT] = {
    [ROLE_WEIGHT] = { "weight", "weight", 1 },
    [ROLE_ACT] = { "act", "input", 0 },
};

/* What the recipe says of one side of one layer. */
typedef struct Choice {
    int32_t bits; /* 0: float */
    int32_t row;  /* ROW_DEFAULT, ROW_EDGE or an index into the recipe's rows */
} Choice;
enum { ROW_DEFAULT = -1, ROW_EDGE = -2 };

typedef struct Layer {
    ValueId     id;
    const char *name;   /* what patterns match */
    const char *unique; /* the same, or with a number behind it: step sizes are named by it */
    Choice      choice[ROLE_COUNT];
} Layer;

/* A quantizer that exists: value x (id before the rewrite) with this range. */
typedef struct Quantizer {
    ValueId x;
    int64_t lo, hi;
    ValueId q;
} Quantizer;

typedef struct Inserter {
    PassCtx      *c;
    const Recipe *recipe;
    Rewriter      r;
    bool         *nonneg; /* by value id */
    VEC(Layer) layers;    /* in order */
    VEC(Quantizer) made;
} Inserter;

/* ---- Values that are never negative ------------------------------------------------------------------------------ */

/* When is the result >= 0 (or NaN)? */
typedef enum NonnegRule { NONNEG_NO, NONNEG_ALWAYS, NONNEG_FIRST, NONNEG_ALL, NONNEG_SCALE, NONNEG_CODES } NonnegRule;

static const NonnegRule nonneg_rules[OP_COUNT] = {
    [OP_RELU] = NONNEG_ALWAYS,          [OP_MAXPOOL] = NONNEG_FIRST, [OP_AVGPOOL] = NONNEG_FIRST,
    [OP_GLOBAL_AVGPOOL] = NONNEG_FIRST, [OP_RESHAPE] = NONNEG_FIRST, [OP_DROPOUT] = NONNEG_FIRST,
    [OP_SHORTCUT_A] = NONNEG_FIRST,     [OP_ADD] = NONNEG_ALL,       [OP_MUL] = NONNEG_ALL,
    [OP_SCALE] = NONNEG_SCALE,          [OP_QDQ] = NONNEG_CODES,
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
    case NONNEG_CODES: /* step sizes are kept positive by the optimizer */
        return ir_int(v, A_LO) >= 0 || known[v->in[0]];
    }
    DT_UNREACHABLE("rule %d of %s in @%s", (int)nonneg_rules[v->op], ir_ops[v->op].text, g->name);
}

static void find_nonneg(Inserter *q, const Graph *g)
{
    q->nonneg = ARENA_ARRAY(q->c->scratch, bool, g->values.len);
    for (int32_t i = 0; i < g->order.len; i++)
        q->nonneg[g->order.at[i]] = value_nonneg(g, ir_value(g, g->order.at[i]), q->nonneg);
}

/* ---- The recipe ------------------------------------------------------------------------------------------------- */

/* "s1.b0.conv1" of a layer whose weight is the param "s1.b0.conv1.weight"; else its label. */
static const char *layer_name(Arena *a, const Graph *g, ValueId id)
{
    const char *weight = ir_value(g, ir_value(g, id)->in[1])->name;
    size_t      len = weight ? strlen(weight) : 0, tail = strlen(".weight");
    if (len > tail && strcmp(weight + len - tail, ".weight") == 0)
        return arena_strndup(a, weight, len - tail);
    return ir_label(a, g, id);
}

static Choice choose(const Recipe *r, const char *layer, bool edge, Role role)
{
    Choice c = { role == ROLE_WEIGHT ? r->weight_bits : r->act_bits, ROW_DEFAULT };
    if (edge && r->edge_bits && c.bits) /* a side that is float stays float */
        c = (Choice){ r->edge_bits, ROW_EDGE };
    for (int32_t i = 0; i < r->rows.len; i++) {
        const RecipeRow *row = &r->rows.at[i];
        if ((!row->role || str_eq(row->role, roles[role].name)) && str_glob(row->pattern, layer))
            c = (Choice){ row->bits, i };
    }
    return c;
}

/* Layers that share a weight, or have no name, must not share the names of their step sizes. */
static const char *unique_name(Arena *a, StrMap *taken, const char *name)
{
    const char *unique = name;
    for (int n = 2; strmap_get(taken, unique) >= 0; n++)
        unique = arena_printf(a, "%s_%d", name, n);
    strmap_put(taken, unique, 1);
    return unique;
}

static void find_layers(Inserter *q, const Graph *g)
{
    Arena *a = q->c->scratch;
    StrMap taken = strmap_new(a);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (!ir_is(g, id, OP_CONV2D) && !ir_is(g, id, OP_LINEAR))
            continue;
        const char *name = layer_name(a, g, id);
        vec_push(a, &q->layers, (Layer){ .id = id, .name = name, .unique = unique_name(a, &taken, name) });
    }
    for (int32_t i = 0; i < q->layers.len; i++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            Layer *l = &q->layers.at[i];
            l->choice[role] = choose(q->recipe, l->name, i == 0 || i == q->layers.len - 1, (Role)role);
        }
}

/* "stem.conv, s0.*, s1.*, head": each first part of a name once. */
static const char *layers_summary(Inserter *q)
{
    Arena *a = q->c->scratch;
    Str    s = str_new(a);
    StrMap seen = strmap_new(a);
    for (int32_t i = 0; i < q->layers.len; i++) {
        const char *name = q->layers.at[i].name, *dot = strchr(name, '.');
        const char *part = dot ? arena_printf(a, "%.*s.*", (int)(dot - name), name) : name;
        if (strmap_put(&seen, part, i))
            str_printf(&s, "%s%s", s.len ? ", " : "", part);
    }
    return s.s;
}

static bool check_row(Inserter *q, const RecipeRow *row)
{
    Arena       *a = q->c->scratch;
    const char **names = ARENA_ARRAY(a, const char *, q->layers.len + 1);
    for (int32_t i = 0; i < q->layers.len; i++) {
        names[i] = q->layers.at[i].name;
        if (str_glob(row->pattern, names[i]))
            return true;
    }
    const char *near = str_nearest(a, row->pattern, names, q->layers.len);
    diag_error(q->c->d, LOC_NONE, "%s: unknown layer '%s'%s%s", row->what, row->pattern, *near ? "; nearest are " : "",
               near);
    diag_help(q->c->d, "layers are %s", layers_summary(q));
    return false;
}

static bool check_bits(Inserter *q, const char *what, int32_t bits)
{
    if (bits == 0 || (bits >= 2 && bits <= 8))
        return true;
    diag_error(q->c->d, LOC_NONE, "insert-quantize: %s: expected 2 to 8 bits, or 0 for float, found %d", what, bits);
    return false;
}

static const char *step_name(Arena *a, const Layer *l, Role role)
{
    return arena_printf(a, "%s.%s.step", l->unique, roles[role].param);
}

/* A network that brings a param of that name would get two of them. */
static bool check_names(Inserter *q, const Graph *g)
{
    for (int32_t i = 0; i < q->layers.len; i++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            const Layer *l = &q->layers.at[i];
            const char  *name = step_name(q->c->scratch, l, (Role)role);
            bool         there = ir_is(g, ir_value(g, l->id)->in[roles[role].input], OP_QDQ);
            if (there || !l->choice[role].bits || ir_find(g, name) == VALUE_NONE)
                continue;
            diag_error(q->c->d, LOC_NONE, "insert-quantize: the name %s is taken, and layer %s needs it", name,
                       l->name);
            return false;
        }
    return true;
}

static bool check_recipe(Inserter *q)
{
    const Recipe *r = q->recipe;
    bool          ok = check_bits(q, "weights", r->weight_bits) && check_bits(q, "activations", r->act_bits) &&
              check_bits(q, "first and last layer", r->edge_bits);
    for (int32_t i = 0; i < r->rows.len; i++) {
        ok = check_bits(q, r->rows.at[i].pattern, r->rows.at[i].bits) && ok;
        ok = check_row(q, &r->rows.at[i]) && ok;
    }
    return ok;
}

static bool recipe_quantizes(PassCtx *c)
{
    if (!c->recipe || !c->recipe->method)
        return false;
    const char **names = ARENA_ARRAY(c->scratch, const char *, pass_n_methods);
    for (int32_t i = 0; i < pass_n_methods; i++) {
        names[i] = pass_methods[i].name;
        if (str_eq(names[i], c->recipe->method))
            return pass_methods[i].quantizes;
    }
    const char *near = str_nearest(c->scratch, c->recipe->method, names, pass_n_methods);
    diag_error(c->d, LOC_NONE, "insert-quantize: unknown method '%s'%s%s", c->recipe->method,
               *near ? "; nearest: " : "", near);
    return false;
}

/* ---- Rewriting -------------------------------------------------------------------------------------------------- */

/* Trained, except for the step size of what the host hands in: the grid of an image is the data's, and training it
 * would cost the input gradient of the first layer, which nothing else needs. */
static ValueId emit_step_leaf(Builder *b, ValueId x, const char *name)
{
    const AttrSet attrs[] = { AT(INIT, "value"), AF(VALUE, 1.0), AT(GROUP, "step") };
    bool          fixed = ir_is(b->g, x, OP_INPUT);
    Type          scalar = { .dtype = DTYPE_F32, .shape = shape_of(0, NULL), .layout = LAYOUT_ROWS };
    return ir_leaf(b, fixed ? OP_STATE : OP_PARAM, name, scalar, attrs, fixed ? 2 : 3);
}

/* The first step size, from the mean and the largest magnitude of x; the leaf is set to it. */
static ValueId emit_first_step(Builder *b, ValueId x, ValueId leaf, Quantizer range, int32_t bits)
{
    double  elems = (double)shape_elems(ir_value(b->g, x)->type.shape);
    ValueId mean = ir_emit(b, OP_REDUCE_ABS, IR_IN(x), AT(KEEP, ""), AF(SCALE, 1.0 / elems));
    ValueId most = ir_emit(b, OP_REDUCE_MAXABS, IR_IN(x), AT(KEEP, ""));
    ValueId step = ir_emit(b, OP_LSQ_INIT, IR_IN(mean, most), AI(HI, range.hi), AI(BITS, bits));
    ir_assign(b, leaf, step);
    return step;
}

static Quantizer range_of(const Inserter *q, ValueId x, Role role, int32_t bits)
{
    if (role == ROLE_ACT && q->nonneg[x])
        return (Quantizer){ x, 0, ((int64_t)1 << bits) - 1, VALUE_NONE };
    int64_t half = (int64_t)1 << (bits - 1);
    return (Quantizer){ x, -half, half - 1, VALUE_NONE };
}

static ValueId emit_quantizer(Inserter *q, const Layer *l, Role role, Quantizer z)
{
    Builder    *b = &q->r.b;
    PassCtx    *c = q->c;
    Choice      choice = l->choice[role];
    const char *name = step_name(c->keep, l, role);
    ValueId     x = ir_mapped(&q->r, z.x);
    ValueId     leaf = emit_step_leaf(b, x, name);
    ValueId     step = c->step == STEP_INIT ? emit_first_step(b, x, leaf, z, choice.bits) : leaf;
    vec_push(c->keep, &c->quantizers,
             (QuantizerInfo){ .layer = arena_strdup(c->keep, l->name),
                              .role = roles[role].name,
                              .step = name,
                              .bits = choice.bits,
                              .row = choice.row,
                              .lo = z.lo,
                              .hi = z.hi });
    pass_count(c, role == ROLE_WEIGHT ? "weights" : "activations", 1);
    return ir_emit(b, OP_QDQ, IR_IN(x, step), AI(LO, z.lo), AI(HI, z.hi), AI(BITS, choice.bits),
                   AT(METHOD, q->recipe->method), AT(ROLE, roles[role].name), AI(ROW, choice.row));
}

/* The quantized input of a layer, made now or by an earlier layer. */
static ValueId quantized_input(Inserter *q, const Layer *l, Role role)
{
    const Graph *g = q->r.b.g;
    ValueId      x = ir_value(g, l->id)->in[roles[role].input];
    if (l->choice[role].bits == 0 || ir_is(g, x, OP_QDQ))
        return ir_mapped(&q->r, x);
    Quantizer z = range_of(q, x, role, l->choice[role].bits);
    for (int32_t i = 0; i < q->made.len; i++) {
        const Quantizer *m = &q->made.at[i];
        if (m->x == z.x && m->lo == z.lo && m->hi == z.hi) {
            pass_count(q->c, "shared", 1);
            return m->q;
        }
    }
    z.q = emit_quantizer(q, l, role, z);
    vec_push(q->c->scratch, &q->made, z);
    return z.q;
}

static void rewrite_layer(Inserter *q, const Layer *l)
{
    int32_t  n = ir_value(q->r.b.g, l->id)->n_in;
    ValueId *in = ARENA_ARRAY(q->c->scratch, ValueId, n);
    q->r.b.like = l->id;
    for (int32_t i = 0; i < n; i++)
        in[i] = ir_mapped(&q->r, ir_value(q->r.b.g, l->id)->in[i]);
    bool new = false;
    for (int role = 0; role < ROLE_COUNT; role++) {
        ValueId z = quantized_input(q, l, (Role)role);
        new |= z != in[roles[role].input];
        in[roles[role].input] = z;
    }
    if (new)
        ir_replace(&q->r, l->id, ir_copy(&q->r.b, l->id, in));
    else
        ir_keep(&q->r, l->id);
}

bool pass_insert_quantize(PassCtx *c, Graph *g)
{
    if (!recipe_quantizes(c))
        return false;
    Inserter q = { .c = c, .recipe = c->recipe };
    find_layers(&q, g);
    if (!check_recipe(&q) || !check_names(&q, g))
        return false;
    find_nonneg(&q, g);
    q.r = ir_rewrite_begin(g, c->scratch, c->d, "insert-quantize");
    int32_t next = 0;
    for (int32_t i = 0; i < q.r.n_old; i++) {
        ValueId id = q.r.old[i];
        if (next < q.layers.len && q.layers.at[next].id == id)
            rewrite_layer(&q, &q.layers.at[next++]);
        else
            ir_keep(&q.r, id);
    }
    return ir_rewrite_end(&q.r);
}
