/* fuse_group.c: which stored values and reductions share a kernel.
 *
 * Roots (stored element-wise values, reductions, windows) are taken in order; each joins the latest earlier kernel that
 * may take it, or opens one. Kernels are numbered as they are opened and run in that order. A root may join kernel k
 * when
 *
 *   1. it runs over the same index space, and all reductions of the kernel keep the same dimensions;
 *   2. whatever it reads is made by a kernel before k, or by k itself at the same point (a window's input never is);
 *   3. it shares a full-size read with k, or reads a value of k: else nothing is won;
 *   4. k is of backward, if it is an activation that backward computes again (pass recompute): in a kernel of forward
 *      it would have to be kept.
 *
 * Since a root only moves to an earlier kernel whose number is above that of all it reads, the order stays valid and no
 * cycle can arise. A root of the kept shape (per-channel arithmetic on finished sums) joins as part of the kernel's
 * end.
 *
 * Arithmetic on leaves of at most one dimension - steps and zero points from ranges that earlier steps tracked - comes
 * before all else: who needs it is then free to join whichever kernel reads the same.
 *
 * Then each kernel gets its own copy of the values computed in place, so that what crosses kernels is exactly what is
 * stored; and a stored value whose leaves the kernel reads anyway is computed again instead of read.
 *
 * Tested by tests/unit/test_fuse.c. */
#include "passes/fuse.h"
#include "passes/pass_impl.h"

enum { FUSE_MAX_BUFFERS = 28, FUSE_FREE_CONE = 5 };

/* What a root's cone of in-place values reads. strict: at another point than its own, so from memory. */
typedef struct Dep {
    ValueId v;
    bool    full, strict;
} Dep;

typedef struct Deps {
    VEC(Dep) at;
} Deps;

typedef struct FuseGroup {
    Space       space;
    const char *keep;     /* of its reductions; NULL: none */
    Shape       kept;     /* their result */
    bool        closed;   /* library call, or a kernel that nothing joins */
    bool        backward; /* the root that opened it is */
    VEC(ValueId) roots;
    ValueSet reads; /* full-size values from memory */
    int32_t  n_reads;
} FuseGroup;

typedef struct Grouping {
    FuseCtx *f;
    VEC(FuseGroup) groups;
    int32_t  *group_of; /* by value: kernel of a stored one; -1: leaf */
    bool     *kept;     /* by value: lives in the end of its kernel */
    ValueId  *mine;     /* by value: its copy in the kernel being written */
    int32_t  *mine_in;  /* which kernel that is */
    bool     *placed;   /* by value: the original is in some kernel; others copy */
    ValueId **in;       /* by value: its inputs before anything was written */
    bool     *again;    /* by value: backward computes it from what forward left */
} Grouping;

const char *fuse_keep(const Graph *g, ValueId v)
{
    const OpInfo *op = &ir_ops[ir_value(g, v)->op];
    for (int32_t i = 0; i < op->n_attrs; i++)
        if (op->attrs[i].id == A_KEEP)
            return ir_text(ir_value(g, v), A_KEEP);
    return ir_is(g, v, OP_GLOBAL_AVGPOOL) ? "nc" : "c";
}

static void deps_collect(FuseCtx *f, ValueId v, Deps *out)
{
    Space s = fuse_space(f->g, v);
    bool  nest = ir_has(f->g, v, T_NEST);
    for (int32_t i = 0; i < ir_value(f->g, v)->n_in; i++) {
        ValueId x = ir_value(f->g, v)->in[i];
        if (fuse_virtual(f, x)) {
            deps_collect(f, x, out);
        } else {
            bool full = nest || fuse_full_size(f, x, s);
            vec_push(f->c->scratch, &out->at, (Dep){ x, full, nest || ir_has(f->g, x, T_VIEW) });
        }
    }
}

/* ---- Joining ----------------------------------------------------------------------------------------------------- */

static bool group_takes_body(const Grouping *p, int32_t k, ValueId root, const Deps *deps)
{
    const FuseCtx   *f = p->f;
    const FuseGroup *g = &p->groups.at[k];
    bool             shares = false;
    if (g->closed || !space_eq(g->space, fuse_space(f->g, root)) || g->n_reads + g->roots.len >= FUSE_MAX_BUFFERS)
        return false;
    if (ir_has(f->g, root, T_REDUCE) && g->keep != NULL && !str_eq(g->keep, fuse_keep(f->g, root)))
        return false;
    if (p->again[root] && !g->backward)
        return false;
    for (int32_t i = 0; i < deps->at.len; i++) {
        Dep     d = deps->at.at[i];
        int32_t from = p->group_of[ir_root(f->g, d.v)];
        if (from > k || (from == k && (d.strict || !d.full || p->kept[d.v])))
            return false;
        shares |= from == k || (d.full && set_has(g->reads, d.v));
    }
    return shares;
}

/* Arithmetic on what the kernel's reductions found. */
static bool group_takes_kept(const Grouping *p, int32_t k, ValueId root, const Deps *deps)
{
    const Graph     *g = p->f->g;
    const FuseGroup *fg = &p->groups.at[k];
    bool             uses = false;
    if (fg->keep == NULL || !ir_has(g, root, T_ELTWISE) || !shape_eq(ir_value(g, root)->type.shape, fg->kept))
        return false;
    for (int32_t i = 0; i < deps->at.len; i++) {
        Dep     d = deps->at.at[i];
        int32_t from = p->group_of[ir_root(g, d.v)];
        if (from > k || (from == k && (!p->kept[d.v] || d.strict)))
            return false;
        uses |= from == k;
    }
    return uses && fg->n_reads + fg->roots.len < FUSE_MAX_BUFFERS;
}

static void group_join(Grouping *p, int32_t k, ValueId root, const Deps *deps, bool kept)
{
    FuseCtx   *f = p->f;
    FuseGroup *g = &p->groups.at[k];
    bool       reduce = ir_has(f->g, root, T_REDUCE);
    vec_push(f->c->scratch, &g->roots, root);
    p->group_of[root] = k;
    p->kept[root] = kept || reduce;
    if (reduce) {
        g->keep = fuse_keep(f->g, root);
        g->kept = ir_value(f->g, root)->type.shape;
    }
    for (int32_t i = 0; i < deps->at.len; i++) {
        Dep d = deps->at.at[i];
        if (d.full && p->group_of[ir_root(f->g, d.v)] != k && !set_has(g->reads, d.v)) {
            set_put(g->reads, d.v);
            g->n_reads++;
        }
    }
}

static int32_t group_open(Grouping *p, Space space, bool closed)
{
    Arena *a = p->f->c->scratch;
    vec_push(a, &p->groups,
             (FuseGroup){ .space = space, .closed = closed, .reads = ARENA_ARRAY(a, uint64_t, p->f->words) });
    return p->groups.len - 1;
}

static void group_root(Grouping *p, ValueId root)
{
    FuseCtx *f = p->f;
    Deps     deps = { 0 };
    bool     closed = ir_has(f->g, root, T_LIBRARY | T_FOLD);
    deps_collect(f, root, &deps);
    for (int32_t k = p->groups.len - 1; k >= 0 && !closed; k--) {
        bool body = group_takes_body(p, k, root, &deps);
        if (!body && !group_takes_kept(p, k, root, &deps))
            continue;
        pass_explain(f->c, f->g, root, "fused into kernel %d, which %s", k,
                     body ? "reads the same" : "sums what it needs");
        pass_count(f->c, "fusions", 1);
        group_join(p, k, root, &deps, !body);
        return;
    }
    int32_t k = group_open(p, fuse_space(f->g, root), closed);
    p->groups.at[k].backward = ir_value(f->g, root)->backward;
    pass_explain(f->c, f->g, root, "opens kernel %d%s", k,
                 ir_has(f->g, root, T_LIBRARY) ? " (library call)"
                 : closed                      ? " (of its own)"
                                               : ": no earlier one has its space and shares a read");
    group_join(p, k, root, &deps, false);
}

/* ---- Writing the groups into the graph --------------------------------------------------------------------------- */

/* Values computed in place between v and memory; FUSE_FREE_CONE + 1 when more. */
static int32_t cone_size(const Grouping *p, ValueId v)
{
    int32_t n = 1;
    for (int32_t i = 0; i < ir_value(p->f->g, v)->n_in && n <= FUSE_FREE_CONE; i++)
        if (fuse_virtual(p->f, p->in[v][i]))
            n += cone_size(p, p->in[v][i]);
    return n;
}

/* A stored value that costs no read when it is computed again here. */
static bool free_again(const Grouping *p, int32_t k, ValueId v)
{
    const FuseCtx *f = p->f;
    if (f->leaves[v] == NULL || !ir_has(f->g, v, T_ELTWISE) || p->kept[v] || p->group_of[v] == k ||
        !space_eq(p->groups.at[k].space, fuse_space(f->g, v)) || cone_size(p, v) > FUSE_FREE_CONE)
        return false;
    bool any = false;
    for (int32_t w = 0; w < f->words; w++) {
        uint64_t others = p->groups.at[k].reads[w];
        if (v >> 6 == w)
            others &= ~((uint64_t)1 << (v & 63));
        if (f->leaves[v][w] & ~others)
            return false;
        any |= f->leaves[v][w] != 0;
    }
    return any;
}

static ValueId write_value(Grouping *p, int32_t k, ValueId v, bool copy);

/* What `v` is called inside kernel k. `memory`: its reader wants it at other points, too. */
static ValueId write_input(Grouping *p, int32_t k, ValueId v, bool memory)
{
    FuseCtx *f = p->f;
    if (memory && !fuse_virtual(f, v))
        return v;
    if (p->mine_in[v] == k)
        return p->mine[v];
    bool again = !fuse_virtual(f, v) && free_again(p, k, v);
    if (!fuse_virtual(f, v) && !again)
        return v;
    if (again)
        pass_count(f->c, "reads saved by computing again", 1);
    ValueId out = write_value(p, k, v, again || p->placed[v]);
    if (!again)
        p->placed[v] = true;
    p->mine[v] = out;
    p->mine_in[v] = k;
    return out;
}

static ValueId write_value(Grouping *p, int32_t k, ValueId v, bool copy)
{
    Graph   *g = p->f->g;
    int32_t  n_in = ir_value(g, v)->n_in;
    ValueId *in = ARENA_ARRAY(copy ? p->f->c->scratch : g->arena, ValueId, n_in);
    for (int32_t i = 0; i < n_in; i++)
        in[i] = write_input(p, k, p->in[v][i], ir_has(g, v, T_NEST));
    ValueId out = v;
    if (copy) {
        Builder b = { .g = g, .d = p->f->c->d, .by = "fuse", .like = v, .backward = ir_value(g, v)->backward };
        out = ir_copy(&b, v, in);
    } else {
        ir_value(g, v)->in = in;
        vec_push(g->arena, &g->order, v);
    }
    ir_value(g, out)->group = k;
    return out;
}

static const char *group_title(const Graph *g, const FuseGroup *fg, int32_t first)
{
    Str     s = str_new(g->arena);
    ValueId last = fg->roots.at[fg->roots.len - 1];
    if (ir_value(g, last)->scope != NULL)
        str_printf(&s, "%s: ", ir_value(g, last)->scope);
    const char *seen[4] = { NULL };
    int32_t     n = 0;
    for (int32_t i = first; i < g->order.len; i++) {
        const char *op = ir_ops[ir_value(g, g->order.at[i])->op].text;
        bool        known = str_eq(op, "const");
        for (int32_t j = 0; j < n && j < 4; j++)
            known |= str_eq(op, seen[j]);
        if (known)
            continue;
        if (n < 4)
            seen[n] = op, str_printf(&s, "%s%s", n > 0 ? ", " : "", op);
        n++;
    }
    if (n > 4)
        str_printf(&s, " and %d more", n - 4);
    return s.s;
}

void fuse_write_views(Graph *g, const Uses *u, ValueId of)
{
    for (int32_t i = u->first[of]; i < u->first[of + 1]; i++)
        if (ir_has(g, u->users[i], T_VIEW)) {
            vec_push(g->arena, &g->order, u->users[i]);
            fuse_write_views(g, u, u->users[i]);
        }
}

static void write_groups(Grouping *p, const ValueId *old, int32_t n_old)
{
    Graph *g = p->f->g;
    g->order.len = 0;
    for (int32_t i = 0; i < n_old; i++)
        if (ir_has(g, old[i], T_LEAF)) {
            vec_push(g->arena, &g->order, old[i]);
            fuse_write_views(g, &p->f->uses, old[i]);
        }
    for (int32_t k = 0; k < p->groups.len; k++) {
        FuseGroup *fg = &p->groups.at[k];
        int32_t    first = g->order.len;
        for (int32_t i = 0; i < fg->roots.len; i++) {
            ValueId root = fg->roots.at[i];
            write_value(p, k, root, false);
            p->mine[root] = root;
            p->mine_in[root] = k;
        }
        vec_push(g->arena, &g->groups, (Group){ .name = group_title(g, fg, first) });
        for (int32_t i = 0; i < fg->roots.len; i++)
            fuse_write_views(g, &p->f->uses, fg->roots.at[i]);
    }
    for (int32_t i = 0; i < n_old; i++)
        if (ir_has(g, old[i], T_EFFECT))
            vec_push(g->arena, &g->order, old[i]);
}

/* By value: element-wise, of at most one dimension, and computed from leaves through nothing but such values. */
static bool *early_values(const FuseCtx *f, const ValueId *old, int32_t n_old)
{
    bool *early = ARENA_ARRAY(f->c->scratch, bool, f->n);
    for (int32_t i = 0; i < n_old; i++) {
        const Value *v = ir_value(f->g, old[i]);
        early[old[i]] = ir_has(f->g, old[i], T_ELTWISE) && v->type.shape.rank <= 1;
        for (int32_t j = 0; j < v->n_in; j++)
            early[old[i]] &= ir_has(f->g, v->in[j], T_LEAF) || early[v->in[j]];
    }
    return early;
}

/* By value: an activation that backward computes a second time, from what forward made and from no gradient: quantized
 * or random, joined or pooled, or computed from such. Gradients of a loss are of forward's values, too, but none of
 * these; taps of a max-pool are no activations. */
static bool *again_values(const FuseCtx *f, const ValueId *old, int32_t n_old)
{
    bool *act = ARENA_ARRAY(f->c->scratch, bool, f->n), *again = ARENA_ARRAY(f->c->scratch, bool, f->n);
    for (int32_t i = 0; i < n_old; i++) {
        const Value *v = ir_value(f->g, old[i]);
        bool         forward = true, kind = ir_has(f->g, old[i], T_EXACT | T_RANDOM | T_NEST);
        act[old[i]] = ir_has(f->g, old[i], T_LIBRARY) || (v->op == OP_INPUT && v->type.shape.rank > 1);
        for (int32_t j = 0; j < v->n_in; j++) {
            act[old[i]] |= act[v->in[j]];
            kind |= again[v->in[j]] && ir_has(f->g, old[i], T_ELTWISE);
            forward &= !ir_value(f->g, v->in[j])->backward || again[v->in[j]];
        }
        again[old[i]] = v->backward && kind && forward && act[old[i]] && !ir_has(f->g, old[i], T_NODIFF);
    }
    return again;
}

void fuse_make_groups(FuseCtx *f)
{
    Arena   *a = f->c->scratch;
    Graph   *g = f->g;
    int32_t  n_old = g->order.len;
    ValueId *old = arena_copy(a, g->order.at, sizeof(ValueId) * (size_t)n_old);
    Grouping p = {
        .f = f,
        .group_of = ARENA_ARRAY(a, int32_t, f->n),
        .kept = ARENA_ARRAY(a, bool, f->n),
        .mine = ARENA_ARRAY(a, ValueId, f->n),
        .mine_in = ARENA_ARRAY(a, int32_t, f->n),
        .placed = ARENA_ARRAY(a, bool, f->n),
        .in = ARENA_ARRAY(a, ValueId *, f->n),
    };
    for (int32_t i = 0; i < f->n; i++) {
        p.group_of[i] = p.mine_in[i] = -1;
        p.in[i] = ir_value(g, i)->in;
    }
    p.again = again_values(f, old, n_old);
    bool *early = early_values(f, old, n_old);
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < n_old; i++)
            if (!ir_has(g, old[i], T_LEAF | T_EFFECT | T_VIEW) && !fuse_virtual(f, old[i]) &&
                early[old[i]] == (pass == 0))
                group_root(&p, old[i]);
    write_groups(&p, old, n_old);
    pass_count(f->c, "kernels and calls", p.groups.len);
}

/* ---- Was anything changed? --------------------------------------------------------------------------------------- */

GroupedOrder grouped_order(Arena *a, const Graph *g)
{
    int32_t *group = ARENA_ARRAY(a, int32_t, g->order.len);
    for (int32_t i = 0; i < g->order.len; i++)
        group[i] = ir_value(g, g->order.at[i])->group;
    return (GroupedOrder){ arena_copy(a, g->order.at, sizeof(ValueId) * (size_t)g->order.len), group, g->order.len };
}

bool grouped_order_same(const GroupedOrder *old, const Graph *g)
{
    if (old->n != g->order.len)
        return false;
    for (int32_t i = 0; i < old->n; i++)
        if (old->order[i] != g->order.at[i] || old->group[i] != ir_value(g, old->order[i])->group)
            return false;
    return true;
}
