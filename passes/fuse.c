/* fuse.c: which element-wise values are stored, and which are computed where they are used.
 *
 * Everything that is not a library call is bound by memory traffic, so the cost is passes over memory. A value is
 * stored when somebody needs it in memory (a library call, a window, an output, a broadcast), or when computing it
 * again in each kernel that uses it would read more than storing it once and reading it back:
 *
 *     stored:       1 write + (k - 1) reads            k kernels use it; the first one computes it
 *     in place:     sum over the others of the full-size leaves they do not read anyway
 *
 * So batchnorm -> relu -> quantize is one kernel, and backward computes relu's mask again from the convolution's output
 * that it reads anyway; the sum of a residual block has two leaves and many users, and is stored.
 *
 * Which kernels there will be is not known yet; the estimate takes every stored user as a kernel of its own and all
 * reductions of one direction over one space as one. fuse_group.c does the real grouping.
 *
 * Tested by tests/unit/test_fuse.c and tests/golden. */
#include "passes/fuse.h"
#include "passes/pass_impl.h"

#include <string.h>

Space fuse_space(const Graph *g, ValueId v)
{
    const Value *val = ir_value(g, v);
    if (ir_has(g, v, T_FOLD))
        val = ir_value(g, val->in[0]);
    if (!ir_has(g, v, T_REDUCE))
        return (Space){ val->type.shape, val->type.layout };
    const Value *big = ir_value(g, val->in[0]);
    for (int32_t i = 1; i < val->n_in; i++)
        if (shape_elems(ir_value(g, val->in[i])->type.shape) > shape_elems(big->type.shape))
            big = ir_value(g, val->in[i]);
    return (Space){ big->type.shape, big->type.layout };
}

bool space_eq(Space a, Space b)
{
    return shape_eq(a.shape, b.shape) && a.layout == b.layout;
}

int32_t fuse_vector_dim(const Graph *g, ValueId v)
{
    const Value  *val = ir_value(g, v);
    const OpInfo *op = &ir_ops[val->op];
    for (int32_t i = 0; i < op->n_attrs; i++)
        if (op->attrs[i].id == A_AXIS)
            return (int32_t)val->attr[i].i;
    return 1;
}

bool fuse_virtual(const FuseCtx *f, ValueId v)
{
    return f->leaves[v] != NULL && !f->stored[v];
}

bool fuse_full_size(const FuseCtx *f, ValueId input, Space s)
{
    return shape_eq(ir_value(f->g, input)->type.shape, s.shape);
}

/* Nests that only move elements, or look at a few neighbours, may be computed in place like element-wise ops. */
static bool fuse_can_be_in_place(const Graph *g, ValueId v)
{
    return ir_has(g, v, T_ELTWISE) || ir_is(g, v, OP_SHORTCUT_A) || ir_is(g, v, OP_SHORTCUT_A_GRAD) ||
           ir_is(g, v, OP_TV_EACH) || ir_is(g, v, OP_TV_GRAD) || ir_is(g, v, OP_CONCAT) || ir_is(g, v, OP_SLICE) ||
           ir_is(g, v, OP_PAD_IMAGE) || ir_is(g, v, OP_INTERLEAVE) ||
           (ir_is(g, v, OP_UPSAMPLE) && !ir_int(ir_value(g, v), A_BILINEAR));
}

/* Somebody reads v as memory: not at the points of one loop nest. */
static bool fuse_needed_in_memory(const FuseCtx *f, ValueId v, const char **why)
{
    Space own = fuse_space(f->g, v);
    for (int32_t i = f->uses.first[v]; i < f->uses.first[v + 1]; i++) {
        ValueId user = f->uses.users[i];
        if (ir_has(f->g, user, T_LIBRARY | T_EFFECT | T_VIEW))
            return *why = "a library call, a view or an output reads it", true;
        if (ir_has(f->g, user, T_FOLD))
            return *why = "a kernel of its own reads it", true;
        if (ir_has(f->g, user, T_NEST))
            return *why = "a window or a strided read needs it in memory", true;
        if (!ir_is(f->g, v, OP_CONST) && !space_eq(own, fuse_space(f->g, user)))
            return *why = "it is broadcast over a larger tensor", true;
    }
    return false;
}

/* leaves[v] from the decisions about its inputs. */
static void fuse_collect_leaves(FuseCtx *f, ValueId v)
{
    Space s = fuse_space(f->g, v);
    memset(f->leaves[v], 0, sizeof(uint64_t) * (size_t)f->words);
    const Value *val = ir_value(f->g, v);
    for (int32_t i = 0; i < val->n_in; i++) {
        ValueId x = val->in[i];
        if (fuse_virtual(f, x)) {
            for (int32_t w = 0; w < f->words; w++)
                f->leaves[v][w] |= f->leaves[x][w];
        } else if (ir_has(f->g, v, T_NEST) || fuse_full_size(f, x, s)) {
            set_put(f->leaves[v], x);
        }
    }
}

static int32_t set_minus_count(ValueSet a, ValueSet b, int32_t words)
{
    int32_t n = 0;
    for (int32_t w = 0; w < words; w++)
        n += __builtin_popcountll(a[w] & ~b[w]);
    return n;
}

static int32_t set_count(ValueSet a, int32_t words)
{
    int32_t n = 0;
    for (int32_t w = 0; w < words; w++)
        n += __builtin_popcountll(a[w]);
    return n;
}

/* ---- The kernels that will use a value, estimated --------------------------------------------------------------- */

enum { FUSE_MAX_SINKS = 24 };

/* A kernel that v flows into: reads[] is what it reads besides v. */
typedef struct Sink {
    ValueId  root; /* a reduction or a value that will be stored */
    bool     reduce;
    ValueSet reads;
} Sink;

typedef struct Sinks {
    Sink    at[FUSE_MAX_SINKS];
    int32_t len;
} Sinks;

static Sink *sinks_find(FuseCtx *f, Sinks *s, ValueId root)
{
    bool reduce = ir_has(f->g, root, T_REDUCE);
    for (int32_t i = 0; i < s->len; i++) {
        bool same = s->at[i].root == root;
        bool joint =
            reduce && s->at[i].reduce && ir_value(f->g, s->at[i].root)->backward == ir_value(f->g, root)->backward;
        if (same || joint)
            return &s->at[i];
    }
    if (s->len == FUSE_MAX_SINKS)
        return NULL;
    s->at[s->len] = (Sink){ root, reduce, ARENA_ARRAY(f->c->scratch, uint64_t, f->words) };
    return &s->at[s->len++];
}

/* Walks from v to what is stored. `reads` gathers what is read along the way. */
static void fuse_find_sinks(FuseCtx *f, ValueId v, ValueSet reads, Sinks *out, int32_t depth)
{
    for (int32_t i = f->uses.first[v]; i < f->uses.first[v + 1]; i++) {
        ValueId  user = f->uses.users[i];
        ValueSet now = arena_copy(f->c->scratch, reads, sizeof(uint64_t) * (size_t)f->words);
        Space    s = fuse_space(f->g, user);
        for (int32_t j = 0; j < ir_value(f->g, user)->n_in; j++) {
            ValueId x = ir_value(f->g, user)->in[j];
            if (x == v || !fuse_full_size(f, x, s))
                continue;
            if (!fuse_virtual(f, x))
                set_put(now, x);
            else
                for (int32_t w = 0; w < f->words; w++)
                    now[w] |= f->leaves[x][w];
        }
        if (fuse_virtual(f, user) && depth < 16) {
            fuse_find_sinks(f, user, now, out, depth + 1);
            continue;
        }
        Sink *sink = sinks_find(f, out, user);
        if (sink != NULL)
            for (int32_t w = 0; w < f->words; w++)
                sink->reads[w] |= now[w];
    }
}

static bool fuse_cheaper_stored(FuseCtx *f, ValueId v)
{
    if (ir_use_count(&f->uses, v) < 2 || set_count(f->leaves[v], f->words) < 2)
        return false;
    Sinks sinks = { .len = 0 };
    fuse_find_sinks(f, v, ARENA_ARRAY(f->c->scratch, uint64_t, f->words), &sinks, 0);
    int32_t again = 0;
    for (int32_t i = 1; i < sinks.len; i++)
        again += set_minus_count(f->leaves[v], sinks.at[i].reads, f->words);
    return sinks.len < again;
}

/* A first guess, for values that are decided after those that look at them: several users and several leaves. */
static void fuse_guess(FuseCtx *f)
{
    const char *why;
    for (int32_t i = 0; i < f->g->order.len; i++) {
        ValueId v = f->g->order.at[i];
        f->stored[v] = !fuse_can_be_in_place(f->g, v);
        if (f->stored[v] && !ir_has(f->g, v, T_REDUCE | T_NEST))
            continue;
        f->leaves[v] = ARENA_ARRAY(f->c->scratch, uint64_t, f->words);
        fuse_collect_leaves(f, v);
        if (!f->stored[v])
            f->stored[v] = fuse_needed_in_memory(f, v, &why) ||
                           (ir_use_count(&f->uses, v) > 1 && set_count(f->leaves[v], f->words) > 1);
    }
}

static void fuse_decide(FuseCtx *f)
{
    Graph *g = f->g;
    fuse_guess(f);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId     v = g->order.at[i];
        const char *why = "computing it again would read more than it costs to store";
        if (f->leaves[v] == NULL)
            continue;
        fuse_collect_leaves(f, v);
        if (!fuse_can_be_in_place(g, v) || ir_is(g, v, OP_CONST)) /* a number: in the guess already */
            continue;
        f->stored[v] = fuse_needed_in_memory(f, v, &why) || fuse_cheaper_stored(f, v);
        pass_count(f->c, f->stored[v] ? "values stored" : "values computed in place", 1);
        pass_explain(f->c, g, v, "%s%s", f->stored[v] ? "stored: " : "computed in place", f->stored[v] ? why : "");
    }
}

bool pass_fuse(PassCtx *c, Graph *g)
{
    int32_t      n = g->values.len;
    GroupedOrder old = grouped_order(c->scratch, g);
    FuseCtx      f = {
             .c = c,
             .g = g,
             .uses = ir_uses(c->scratch, g),
             .n = n,
             .words = n / 64 + 1,
             .stored = ARENA_ARRAY(c->scratch, bool, n),
             .leaves = ARENA_ARRAY(c->scratch, ValueSet, n),
    };
    fuse_decide(&f);
    fuse_make_groups(&f);
    return !grouped_order_same(&old, g);
}
