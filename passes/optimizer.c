/* optimizer.c: gradients become updates. The outputs "grad:PARAM" of autodiff are read and removed:
 *
 *     grad:PARAM  ->  sum over steps (accumulate)  ->  clipped  ->  update of the optimizer (optimizers.c)  ->  average
 *
 * Clipping by norm: the squares of each gradient are summed, by one launch for all that are alike, and these sums by a
 * tree of few inputs a node, in the order of the params: the same bits with any number of threads.
 *
 * With accumulate there are two steps: one gathers, "PARAM.grad" <- "PARAM.grad" + g, and updates nothing; in the other
 * the mean of that sum and its own gradient goes the way of every gradient, and the sum becomes 0.
 *
 * What an optimizer group changes is one row of a table. The learning rate is the input "lr". Every step of a run - of
 * all phases, gathering or not - has the same states in the same order, whichever it updates: they share memory.
 *
 * Tested by tests/unit/test_optimizers.c, test_autodiff.c and tests/golden. */
#include "passes/pass_impl.h"

#include <math.h>
#include <string.h>

/* Step sizes stay positive: a quantizer divides by them. */
static const struct {
    const char *group;
    bool        decays;
    double      floor;
} groups[] = {
    { "weight", true, 0 }, { "bias", false, 0 }, { "norm", false, 0 }, { "step", false, 1e-8 }, { "offset", false, 0 },
};

static int32_t find_group(const Value *param)
{
    for (int32_t i = 0; i < DT_COUNT(groups); i++)
        if (str_eq(groups[i].group, ir_text(param, A_GROUP)))
            return i;
    DT_UNREACHABLE("%s: optimizer group \"%s\"", param->name, ir_text(param, A_GROUP));
}

/* A param, by its id before the rewrite, and what becomes of it. */
typedef struct Update {
    ValueId     param, grad; /* grad VALUE_NONE: it has none in this step */
    bool        own;         /* it may begin to be trained later than others: what corrects its moments is its own */
    bool        updates;
    ValueId     to;         /* the param, afterwards */
    ValueId     g, seen[2]; /* gradient; weights that the moments have seen */
    ValueId     sum;        /* PARAM.grad */
    ValueId     moment[3];  /* its states */
    const char *name;
} Update;

typedef struct Pass {
    PassCtx               *c;
    const OptimizerConfig *cfg;
    const Optimizer       *row;
    Rewriter               r;
    VEC(Update) updates; /* in the order of params */
    ValueId lr, step_lr; /* step_lr: of steps and offsets */
    ValueId seen[2];     /* shared */
    ValueId rate, root, step_rate;
} Pass;

static const char grad_prefix[] = "grad:";

static bool       is_gradient_output(const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    return v->op == OP_OUTPUT && strncmp(v->name, grad_prefix, sizeof grad_prefix - 1) == 0;
}

/* Does a quantizer own it? Such a param may have no gradient, or not be updated, in some phases of a run. */
static bool is_range(const Graph *g, ValueId param)
{
    const char *group = ir_text(ir_value(g, param), A_GROUP);
    return str_eq(group, "step") || str_eq(group, "offset");
}

/* Steps and offsets of quantizers stay as they are from freeze-ranges on. */
static bool is_frozen(PassCtx *c, const Graph *g, ValueId param)
{
    if (optimizer_freezes(c, ir_value(g, param)->name))
        return true;
    if (c->recipe == NULL || !is_range(g, param))
        return false;
    return c->moment.epoch >= recipe_setting(c->scratch, c->recipe, SET_FREEZE_RANGES).number[0];
}

/* The last epoch up to which the options keep it as it is; 0: they never do. */
static double frozen_until(const OptimizerConfig *cfg, const char *param)
{
    double until = 0;
    for (int32_t i = 0; i < cfg->n_freeze; i++)
        if (str_glob(cfg->freeze[i].pattern, param))
            until = fmax(until, cfg->freeze[i].until);
    return until;
}

/* What matches nothing was meant to match something. False: reported. */
static bool check_freezes(PassCtx *c, const Graph *g)
{
    const OptimizerConfig *o = c->optimizer;
    for (int32_t i = 0; i < o->n_freeze; i++) {
        bool any = false;
        for (int32_t k = 0; k < g->order.len && !any; k++)
            any =
                ir_is(g, g->order.at[k], OP_PARAM) && str_glob(o->freeze[i].pattern, ir_value(g, g->order.at[k])->name);
        if (any)
            continue;
        diag_error(c->d, LOC_NONE, "--freeze: expected a pattern that matches params, '%s' matches none",
                   o->freeze[i].pattern);
        diag_help(c->d, "params are named like s0.b0.conv1.weight; `detent info` lists the layers");
        return false;
    }
    return true;
}

/* The params that some phase of the run trains. False: the step has no gradients. */
static bool find_updates(Pass *p, const Graph *g)
{
    Arena  *a = p->c->scratch;
    StrMap  by_name = strmap_new(a);
    int32_t n = g->order.len;
    bool    any = false;
    for (int32_t i = 0; i < n; i++)
        if (is_gradient_output(g, g->order.at[i])) {
            const Value *v = ir_value(g, g->order.at[i]);
            const char  *param = v->name + sizeof grad_prefix - 1;
            ValueId      found = ir_find(g, param);
            DT_ASSERT(found != VALUE_NONE && ir_is(g, found, OP_PARAM), "output \"%s\" belongs to no param", v->name);
            strmap_put(&by_name, param, v->in[0]);
            any = true;
        }
    for (int32_t i = 0; i < n; i++) {
        ValueId id = g->order.at[i];
        if (!ir_is(g, id, OP_PARAM))
            continue;
        const char  *name = ir_value(g, id)->name;
        const double until = frozen_until(p->cfg, name);
        if (isinf(until)) /* nobody ever trains it: it needs no states */
            continue;
        int32_t grad = strmap_get(&by_name, name);
        bool    own = is_range(g, id) || until > 0;
        Update  u = { .param = id, .grad = grad >= 0 ? grad : VALUE_NONE, .own = own, .name = name };
        u.updates = u.grad != VALUE_NONE && !is_frozen(p->c, g, id);
        if (u.grad != VALUE_NONE || own)
            vec_push(a, &p->updates, u);
    }
    return any && p->updates.len > 0;
}

/* ---- States ------------------------------------------------------------------------------------------------------ */

static ValueId state_leaf(Builder *b, const char *name, Type type, double first)
{
    const AttrSet zeros[] = { AT(INIT, "zeros") }, value[] = { AT(INIT, "value"), AF(VALUE, first) };
    type.layout = LAYOUT_ROWS;
    return ir_leaf(b, OP_STATE, arena_printf(b->g->arena, "%s", name), type, first != 0 ? value : zeros,
                   first != 0 ? DT_COUNT(value) : DT_COUNT(zeros));
}

static ValueId param_leaf(Pass *p, const Update *u, const char *what, double first)
{
    Builder   *b = &p->r.b;
    const Type type = ir_value(b->g, u->to)->type;
    b->like = u->to;
    return state_leaf(b, arena_printf(p->c->scratch, "%s.%s", u->name, what), type, first);
}

/* Of the weights that two moments have seen: s <- s + (1 - beta) (1 - s). */
static void see(Pass *p, const ValueId leaf[2], ValueId next[2])
{
    const double betas[2] = { p->cfg->beta1, p->cfg->beta2 };
    Builder     *b = &p->r.b;
    ValueId      one = ir_const(b, 1);
    for (int32_t i = 0; i < 2; i++) {
        next[i] = ir_emit(b, OP_EMA, IR_IN(leaf[i], one), AF(MOMENTUM, 1 - betas[i]));
        ir_assign(b, leaf[i], next[i]);
    }
}

static void seen_leaves(Pass *p, const char *of, ValueId out[2])
{
    static const char *const names[2] = { "seen1", "seen2" };
    const Type               scalar = { DTYPE_F32, shape_of(0, NULL), LAYOUT_ROWS };
    for (int32_t i = 0; i < 2; i++)
        out[i] = state_leaf(&p->r.b, arena_printf(p->c->scratch, "%s.%s", of, names[i]), scalar, 0);
}

/* What all params share: learning rates, corrections of moments. */
static void emit_shared(Pass *p)
{
    Builder *b = &p->r.b;
    b->like = ir_mapped(&p->r, p->updates.at[0].param);
    p->lr = ir_leaf(b, OP_INPUT, "lr", (Type){ DTYPE_F32, shape_of(0, NULL), LAYOUT_ROWS }, NULL, 0);
    p->step_lr = p->lr;
    if (p->row->corrects)
        seen_leaves(p, "optimizer", p->seen);
    if (p->cfg->gather)
        return;
    if (p->cfg->step_lr != 0 && p->cfg->step_lr != 1)
        p->step_lr = ir_emit(b, OP_SCALE, IR_IN(p->lr), AF(SCALE, p->cfg->step_lr));
    if (p->row->corrects) {
        ValueId seen[2];
        see(p, p->seen, seen);
        p->rate = ir_emit(b, OP_DIV, IR_IN(p->lr, seen[0]));
        p->root = ir_emit(b, OP_SQRT, IR_IN(seen[1]));
    }
}

static void emit_leaves(Pass *p, Update *u)
{
    const int32_t skip = p->cfg->momentum == 0 ? p->row->only_with_momentum : 0;
    for (int32_t k = 0; k < DT_COUNT(u->moment); k++) {
        const char *what = p->row->moments[k];
        bool        there = what != NULL && k >= skip;
        u->moment[k] = there ? param_leaf(p, u, what, str_eq(what, "moment2") ? p->row->first : 0) : VALUE_NONE;
    }
    if (p->row->corrects && u->own)
        seen_leaves(p, u->name, u->seen);
}

/* ---- Gradients --------------------------------------------------------------------------------------------------- */

/* Of this step and those before it that only gathered. */
static void emit_sum(Pass *p, Update *u)
{
    Builder *b = &p->r.b;
    u->g = u->updates ? ir_mapped(&p->r, u->grad) : VALUE_NONE;
    if (p->cfg->accumulate < 2)
        return;
    u->sum = param_leaf(p, u, &OPT_GRAD[1], 0);
    if (!u->updates)
        return;
    ValueId sum = ir_emit(b, OP_ADD, IR_IN(u->sum, u->g));
    ir_assign(b, u->sum, p->cfg->gather ? sum : ir_emit(b, OP_SCALE, IR_IN(u->sum), AF(SCALE, 0)));
    if (!p->cfg->gather)
        u->g = ir_emit(b, OP_SCALE, IR_IN(sum), AF(SCALE, 1.0 / p->cfg->accumulate));
}

/* Of n numbers: as many as an op takes at a time, and those sums again. */
static ValueId emit_total(Builder *b, ValueId *at, int32_t n)
{
    enum { NODE = 16 };
    while (n > 1) {
        int32_t next = 0;
        for (int32_t i = 0; i < n; i += NODE) {
            int32_t k = n - i < NODE ? n - i : NODE;
            at[next++] = k > 1 ? ir_emit_(b, OP_TOTAL, at + i, k, NULL, 0) : at[i];
        }
        n = next;
    }
    return at[0];
}

static void emit_clip_norm(Pass *p)
{
    Builder *b = &p->r.b;
    ValueId *squares = ARENA_ARRAY(p->c->scratch, ValueId, p->updates.len);
    int32_t  n = 0;
    for (int32_t i = 0; i < p->updates.len; i++) {
        const Update *u = &p->updates.at[i];
        if (!u->updates)
            continue;
        b->like = u->to;
        bool scalar = ir_value(b->g, u->g)->type.shape.rank == 0;
        squares[n++] =
            scalar ? ir_emit(b, OP_MUL, IR_IN(u->g, u->g)) : ir_emit(b, OP_REDUCE_DOT, IR_IN(u->g, u->g), AT(KEEP, ""));
    }
    if (n == 0)
        return;
    b->like = ir_mapped(&p->r, p->updates.at[0].param);
    ValueId factor = ir_emit(b, OP_CLIP_FACTOR, IR_IN(emit_total(b, squares, n)), AF(LIMIT, p->cfg->clip_norm));
    for (int32_t i = 0; i < p->updates.len; i++) {
        Update *u = &p->updates.at[i];
        b->like = u->to;
        if (u->updates)
            u->g = ir_emit(b, OP_MUL, IR_IN(u->g, factor));
    }
}

static void emit_clip_value(Pass *p)
{
    for (int32_t i = 0; i < p->updates.len; i++) {
        Update *u = &p->updates.at[i];
        p->r.b.like = u->to;
        if (u->updates)
            u->g = ir_emit(&p->r.b, OP_CLIP_VALUE, IR_IN(u->g), AF(LIMIT, p->cfg->clip_value));
    }
}

/* ---- Updates ----------------------------------------------------------------------------------------------------- */

static void emit_update(Pass *p, Update *u)
{
    Builder      *b = &p->r.b;
    const int32_t group = find_group(ir_value(b->g, u->to));
    const bool    range = is_range(b->g, u->to);
    Updating      x = { .b = b,
                        .cfg = p->cfg,
                        .row = p->row,
                        .param = u->to,
                        .grad = u->g,
                        .lr = range ? p->step_lr : p->lr,
                        .rate = p->rate,
                        .root = p->root,
                        .decay = groups[group].decays ? p->cfg->weight_decay : 0,
                        .floor = groups[group].floor };
    if (p->row->corrects && u->own) {
        ValueId seen[2];
        see(p, u->seen, seen);
        x.rate = ir_emit(b, OP_DIV, IR_IN(x.lr, seen[0]));
        x.root = ir_emit(b, OP_SQRT, IR_IN(seen[1]));
    }
    for (int32_t k = 0; k < DT_COUNT(x.moment); k++) {
        x.moment[k] = u->moment[k];
        x.next[k] = VALUE_NONE;
    }
    ValueId next = p->row->update(&x);
    for (int32_t k = 0; k < DT_COUNT(x.moment); k++)
        if (x.next[k] != VALUE_NONE)
            ir_assign(b, x.moment[k], x.next[k]);
    ir_assign(b, u->to, next);
    u->to = next;
}

static void emit_updates(Pass *p)
{
    for (int32_t i = 0; i < p->updates.len; i++) {
        Update *u = &p->updates.at[i];
        p->r.b.like = u->to;
        emit_leaves(p, u);
        emit_sum(p, u);
        if (u->updates && !p->cfg->gather && p->cfg->clip_norm == 0 && p->cfg->clip_value == 0)
            emit_update(p, u);
    }
    if (p->cfg->gather || (p->cfg->clip_norm == 0 && p->cfg->clip_value == 0))
        return;
    if (p->cfg->clip_value != 0)
        emit_clip_value(p);
    if (p->cfg->clip_norm != 0)
        emit_clip_norm(p);
    for (int32_t i = 0; i < p->updates.len; i++) {
        p->r.b.like = p->updates.at[i].to;
        if (p->updates.at[i].updates)
            emit_update(p, &p->updates.at[i]);
    }
}

/* ---- Averages ---------------------------------------------------------------------------------------------------- */

/* By value id before the rewrite: what a leaf holds after the step. */
static ValueId *find_after(Pass *p, const Graph *g)
{
    ValueId *after = ARENA_ARRAY(p->c->scratch, ValueId, g->values.len);
    for (int32_t i = 0; i < p->r.n_old; i++) {
        ValueId      id = p->r.old[i];
        const Value *v = ir_value(g, id);
        if (ir_has(g, id, T_LEAF))
            after[id] = ir_mapped(&p->r, id);
        else if (v->op == OP_ASSIGN) /* its inputs are mapped already: it was kept */
            after[v->in[0]] = v->in[1];
    }
    for (int32_t i = 0; i < p->updates.len; i++)
        after[p->updates.at[i].param] = p->updates.at[i].to;
    return after;
}

/* Every average goes a part of the way to what it is of. */
static void emit_averages(Pass *p, Graph *g, ValueId updates)
{
    Builder *b = &p->r.b;
    ValueId *after = find_after(p, g);
    StrMap   by_name = strmap_new(p->c->scratch);
    for (int32_t i = 0; i < p->r.n_old; i++) {
        const Value *v = ir_value(g, p->r.old[i]);
        if (v->op == OP_PARAM || v->op == OP_STATE)
            strmap_put(&by_name, v->name, p->r.old[i]);
    }
    b->like = updates;
    ValueId rate = ir_emit(b, OP_EMA_RATE, IR_IN(updates), AF(DECAY, p->cfg->ema), AI(WARM, p->cfg->ema_warm));
    ir_assign(b, updates, ir_emit(b, OP_ADD, IR_IN(updates, ir_const(b, 1))));
    for (int32_t i = 0; i < p->r.n_old; i++) {
        const Value *v = ir_value(g, p->r.old[i]);
        const size_t tail = sizeof OPT_EMA - 1, len = v->op == OP_STATE ? strlen(v->name) : 0;
        if (len <= tail || !str_eq(v->name + len - tail, OPT_EMA))
            continue;
        int32_t of = strmap_get(&by_name, arena_strndup(p->c->scratch, v->name, len - tail));
        DT_ASSERT(of >= 0, "%s is the average of nothing", v->name);
        ValueId average = ir_mapped(&p->r, p->r.old[i]);
        b->like = average;
        ir_assign(b, average, ir_emit(b, OP_LERP, IR_IN(average, after[of], rate)));
    }
}

bool pass_optimizer(PassCtx *c, Graph *g)
{
    DT_ASSERT(c->optimizer, "the optimizer pass runs without an optimizer");
    Pass p = { .c = c, .cfg = c->optimizer, .row = optimizer_find(c->optimizer->name) };
    DT_ASSERT(p.row, "there is no optimizer %s", c->optimizer->name);
    if (!check_freezes(c, g))
        return true;
    if (!find_updates(&p, g))
        return false;
    ValueId updates = ir_find(g, OPT_UPDATES);
    p.r = ir_rewrite_begin(g, c->scratch, c->d, "optimizer");
    for (int32_t i = 0; i < p.r.n_old; i++)
        if (!is_gradient_output(g, p.r.old[i]))
            ir_keep(&p.r, p.r.old[i]);
    p.r.b.backward = true;
    for (int32_t i = 0; i < p.updates.len; i++)
        p.updates.at[i].to = ir_mapped(&p.r, p.updates.at[i].param);
    emit_shared(&p);
    emit_updates(&p);
    if (updates != VALUE_NONE && !p.cfg->gather)
        emit_averages(&p, g, ir_mapped(&p.r, updates));
    p.r.changed = true;
    int64_t n = 0;
    for (int32_t i = 0; i < p.updates.len; i++)
        n += p.updates.at[i].updates;
    pass_count(c, c->optimizer->gather ? "gradients gathered" : "params updated", n);
    return ir_rewrite_end(&p.r);
}
