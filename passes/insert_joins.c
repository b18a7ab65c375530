/* insert_joins.c: quantizers of activations that meet no weight: what is added, joined, gated and averaged. In the
 * papers of the methods these stay in float, and so does the setting joins=float, the default. Integer hardware wants
 * codes there, too:
 *
 *   joins=requantize   each operand has its own quantizer
 *
 *     %z = add %x, %y     =>    %xq = qdq %x, %sx      %sx = param "s1.b0.add.x.step"
 *                               %yq = qdq %y, %sy      %sy = param "s1.b0.add.y.step"
 *                               %z  = add %xq, %yq
 *
 *   joins=shared       the operands of one add or concat have one step size, so that their codes are what is added, or
 *                      stand side by side: %s = param "s1.b0.add.operands.step"
 *
 * An operand that a layer quantizes alike shares the layer's quantizer. A shared quantizer is made of the operands as
 * one tensor, which is what its method, calibration and diagnosis see; each operand then gets the same ops with itself
 * in that tensor's place, and what nobody reads goes away. A gate and a mean have operands that cannot share.
 *
 * Joins are named by scope and op, with a number where a scope has several: "s1.b0.add", "s1.b0.add_2".
 *
 * Tested by tests/unit/test_joins.c and tests/golden. */
#include "passes/insert_impl.h"

/* Names of the operands; the second is NULL where there is one. */
static const struct {
    const char *operand[2];
    bool        shares; /* with joins=shared */
} join_rules[OP_COUNT] = {
    [OP_ADD] = { { "x", "y" }, true },
    [OP_CONCAT] = { { "x", "y" }, true },
    [OP_MUL] = { { "x", "gate" }, false },
    [OP_AVGPOOL] = { { "input", NULL }, false },
    [OP_GLOBAL_AVGPOOL] = { { "input", NULL }, false },
};

/* ---- Which ops --------------------------------------------------------------------------------------------------- */

/* A value for each sample of the batch: not a bias, a factor of a folded batch norm, a loss, or a mask of samples. */
static bool is_activation(const Graph *g, ValueId x, Shape s)
{
    const Value *v = ir_value(g, x);
    return v->type.dtype == DTYPE_F32 && v->type.shape.rank == s.rank && s.rank >= 2 && v->op != OP_PARAM &&
           v->op != OP_STATE && v->op != OP_SAMPLE_MASK;
}

static bool is_join(const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    if (join_rules[v->op].operand[0] == NULL || is_teacher(g, id))
        return false;
    for (int32_t i = 0; i < v->n_in; i++)
        if (!is_activation(g, v->in[i], v->type.shape))
            return false;
    return true;
}

static const char *join_label(Arena *a, const Value *v)
{
    const char *op = ir_ops[v->op].text;
    return v->scope != NULL ? arena_printf(a, "%s.%s", v->scope, op) : op;
}

/* A setting that names no join does nothing. False: reported. */
static bool check_setting(const Inserter *q, const RecipeSetting *s)
{
    for (int32_t i = 0; i < q->joins.len; i++)
        if (s->pattern == NULL || str_glob(s->pattern, q->joins.at[i].name))
            return true;
    const char *where = s->pattern != NULL ? arena_printf(q->c->scratch, " whose name is like '%s'", s->pattern) : "";
    diag_error(q->c->d, s->at, "%s: joins would do nothing: the network has no add, concat, mul or mean%s", s->what,
               where);
    if (q->joins.len > 0)
        diag_help(q->c->d, "they are named by scope and op: the first is %s", q->joins.at[0].name);
    else
        diag_help(q->c->d, "leave it out");
    return false;
}

bool joins_find(Inserter *q, const Graph *g)
{
    Arena *a = q->c->scratch;
    bool   ok = true;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (!is_join(g, id))
            continue;
        Join j = { .id = id, .name = insert_unique_name(q, join_label(a, ir_value(g, id))) };
        for (int role = 0; role < ROLE_COUNT; role++)
            if (!recipe_resolve(a, q->c->d, q->recipe, j.name, false, (Role)role, &j.spec[role]))
                return false;
        const char *word = spec_word(&j.spec[ROLE_ACT], SET_JOINS);
        j.spec[ROLE_WEIGHT].bits = j.spec[ROLE_WEIGHT].told = 0;
        if (str_eq(word, "float"))
            j.spec[ROLE_ACT].bits = j.spec[ROLE_ACT].told = 0;
        j.shared = str_eq(word, "shared") && join_rules[ir_value(g, id)->op].shares;
        vec_push(a, &q->joins, j);
    }
    for (int32_t i = 0; i < q->recipe->settings.len; i++)
        if (q->recipe->settings.at[i].id == SET_JOINS)
            ok = check_setting(q, &q->recipe->settings.at[i]) && ok;
    return ok;
}

/* ---- One join ---------------------------------------------------------------------------------------------------- */

static const char *quantizer_name(const Inserter *q, const Graph *g, const Join *j, int32_t i)
{
    const char *operand = j->shared ? "operands" : join_rules[ir_value(g, j->id)->op].operand[i];
    return arena_printf(q->c->keep, "%s.%s", j->name, operand);
}

bool joins_check_names(Inserter *q, const Graph *g)
{
    for (int32_t i = 0; i < q->joins.len; i++) {
        const Join  *j = &q->joins.at[i];
        const Value *v = ir_value(g, j->id);
        for (int32_t k = 0; k < v->n_in && j->spec[ROLE_ACT].bits; k++)
            if (!insert_is_quantized(g, v->in[k]) && !insert_check_name(q, g, quantizer_name(q, g, j, k), j->name))
                return false;
    }
    return true;
}

static Site join_site(const Inserter *q, const Graph *g, const Join *j, int32_t i)
{
    const ValueId x = ir_value(g, j->id)->in[i];
    return (Site){ .layer = j->name,
                   .name = quantizer_name(q, g, j, i),
                   .spec = &j->spec[ROLE_ACT],
                   .role = ROLE_ACT,
                   .axis = 1,
                   .nonneg = q->nonneg[x],
                   .given = insert_is_given(g, x) };
}

/* v with `x` in the place of `whole`: what was computed element by element is computed again, sums and what follows
 * from them stay. */
static ValueId replay(Inserter *q, ValueId v, ValueId whole, ValueId x)
{
    Builder    *b = &q->r.b;
    const Value val = *ir_value(b->g, v);
    bool        again = false;
    if (v == whole)
        return x;
    if (!shape_eq(val.type.shape, ir_value(b->g, whole)->type.shape) || !ir_has(b->g, v, T_ELTWISE))
        return v;
    ValueId *in = ARENA_ARRAY(q->c->scratch, ValueId, val.n_in);
    for (int32_t i = 0; i < val.n_in; i++) {
        in[i] = replay(q, val.in[i], whole, x);
        again |= in[i] != val.in[i];
    }
    if (!again)
        return v;
    ValueId copy = ir_copy(b, v, in);
    ir_value(b->g, copy)->type = ir_value(b->g, x)->type;
    return copy;
}

/* Takes what was made from `begin` of the order on away again, as far as neither the join nor the host reads it. */
static void drop_unread(const Inserter *q, int32_t begin, ValueId join)
{
    Graph  *g = q->r.b.g;
    bool   *read = ARENA_ARRAY(q->c->scratch, bool, g->values.len);
    int32_t n = begin;
    read[join] = true;
    for (int32_t i = g->order.len - 1; i >= begin; i--) {
        const Value *v = ir_value(g, g->order.at[i]);
        read[g->order.at[i]] |= (ir_ops[v->op].traits & (T_LEAF | T_EFFECT)) != 0;
        for (int32_t k = 0; k < v->n_in && read[g->order.at[i]]; k++)
            read[v->in[k]] = true;
    }
    for (int32_t i = begin; i < g->order.len; i++)
        if (read[g->order.at[i]])
            g->order.at[n++] = g->order.at[i];
    g->order.len = n;
}

/* False: reported. */
static bool quantize_shared(Inserter *q, const Join *j, ValueId in[2])
{
    const Graph *g = q->r.b.g;
    const Site   y = join_site(q, g, j, 1);
    Site         both = join_site(q, g, j, 0);
    both.nonneg &= y.nonneg;
    both.given &= y.given; /* else the gradients of both inputs are there anyway */
    ValueId whole = ir_emit(&q->r.b, OP_CONCAT, IR_IN(in[0], in[1])), quantized = VALUE_NONE;
    if (whole != VALUE_NONE && shape_elems(ir_value(g, whole)->type.shape) > INT32_MAX)
        diag_error(q->c->d, ir_loc(g, ir_value(g, j->id)),
                   "insert-quantize: %s: joins=shared: its operands are more than 2^31 - 1 elements together", j->name);
    else if (whole != VALUE_NONE)
        quantized = insert_quantizer(q, &both, whole);
    for (int32_t i = 0; i < 2 && quantized != VALUE_NONE; i++)
        in[i] = replay(q, quantized, whole, in[i]);
    return quantized != VALUE_NONE;
}

/* False: reported. */
static bool quantize_each(Inserter *q, const Join *j, const Value *v, ValueId in[2])
{
    for (int32_t i = 0; i < v->n_in; i++) {
        const Site s = join_site(q, q->r.b.g, j, i);
        if (!insert_is_quantized(q->r.b.g, v->in[i]))
            in[i] = insert_or_share(q, &s, v->in[i]);
        if (in[i] == VALUE_NONE)
            return false;
    }
    return true;
}

bool joins_rewrite(Inserter *q, const Join *j)
{
    const Graph  *g = q->r.b.g;
    const Value   v = *ir_value(g, j->id);
    const int32_t begin = g->order.len;
    ValueId       in[2];
    for (int32_t i = 0; i < v.n_in; i++)
        in[i] = ir_mapped(&q->r, v.in[i]);
    q->r.b.like = j->id;
    if (j->spec[ROLE_ACT].bits > 0) {
        bool shared = j->shared && !insert_is_quantized(g, v.in[0]) && !insert_is_quantized(g, v.in[1]);
        if (!(shared ? quantize_shared(q, j, in) : quantize_each(q, j, &v, in)))
            return false;
        pass_count(q->c, "joins", 1);
    }
    insert_rewrite(q, j->id, in);
    drop_unread(q, begin, ir_mapped(&q->r, j->id));
    return true;
}
