/* recompute.c: quantized activations that the weights' gradients read are made again in backward, not kept for it.
 *
 *   %xq = qdq %x, %s                        %xq = qdq %x, %s                  ends behind its convolution
 *   %y  = conv2d %xq, %w                    %y  = conv2d %xq, %w
 *   ...                                     ...
 *   %gw = conv2d_grad_w %dy, %xq     =>     %gq = conv2d_grad_x %dy, %w
 *   %gq = conv2d_grad_x %dy, %w             %gx = qdq_grad_x %x, %s, %gq      reads %x, as before
 *   %gx = qdq_grad_x %x, %s, %gq            %xa = qdq %x, %s                  ... so this costs one write, in its
 * kernel %gw = conv2d_grad_w %dy, %xa
 *
 * The straight-through mask and the gradient of the step size need the number that was quantized, to its last bit, and
 * batch norm the convolution's output that it was computed from: one of the two is there in backward whatever is
 * done. With it a float of the quantized value is never needed, and neither is its code: that would be kept beside a
 * float that tells more. So a quantizer keeps nothing of its own for backward. The numbers are the same to the bit:
 * the formula and its operands are.
 *
 * A value is made again where all it is computed from, through element-wise ops and those that move elements or pool
 * them, is read by backward anyway, or is small beside it. So are joined and pooled values in front of a quantizer:
 * backward has what they were joined from. The gradients that read it are put behind the last of the ops that read the
 * same floats for the gradient of the quantizer's input: there fuse gives it their kernel. Without such a place it is
 * made right before them.
 *
 * Tested by tests/unit/test_recompute.c (equal parameters after training with and without it) and tests/golden. */
#include "passes/pass_impl.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_DEPTH = 12, /* ops between a value and what it is made from */
    SMALL = 8,       /* an operand with an eighth of the elements may be kept for it */
    NEVER = -1,      /* a cost: it cannot be made again */
    MOST_CALLS = 2,  /* library calls between a weight's gradient and the first that reads the same floats */
};

typedef struct Recompute {
    PassCtx *c;
    Graph   *g;
    Builder  b;
    Uses     uses;
    ValueId *old;
    int32_t  n_old, n_values;
    int32_t *pos;       /* by value: where it stands in the old order */
    bool    *quantized; /* by value: an activation's quantizer, or element-wise of such */
    bool    *again;     /* by value: backward gets a copy */
    int64_t *after;     /* by value: key of its copy and those who read it, see put() */
    ValueId *copy;      /* by value: the copy; VALUE_NONE: not yet */
    bool    *cone;      /* by value, for the candidate looked at: it is computed from this */
    VEC(int64_t) key;   /* by value */
} Recompute;

/* ---- What backward reads ----------------------------------------------------------------------------------------- */

/* Its result at one point is of its inputs at others: they must lie in memory. */
static bool moves_elements(const Graph *g, ValueId v)
{
    return ir_is(g, v, OP_CONCAT) || ir_is(g, v, OP_SLICE) || ir_is(g, v, OP_PAD_IMAGE) || ir_is(g, v, OP_SHORTCUT_A) ||
           (ir_is(g, v, OP_UPSAMPLE) && !ir_int(ir_value(g, v), A_BILINEAR));
}

static bool joins_or_pools(const Graph *g, ValueId v)
{
    return ir_is(g, v, OP_CONCAT) || ir_is(g, v, OP_AVGPOOL) || ir_is(g, v, OP_MAXPOOL);
}

static bool wants_memory(const Graph *g, ValueId v)
{
    return moves_elements(g, v) || joins_or_pools(g, v);
}

static bool is_cheap(const Graph *g, ValueId v)
{
    return ir_has(g, v, T_ELTWISE) || wants_memory(g, v);
}

static bool is_weight_gradient(const Graph *g, ValueId v)
{
    return ir_is(g, v, OP_CONV2D_GRAD_W) || ir_is(g, v, OP_LINEAR_GRAD_W) || ir_is(g, v, OP_DEPTHWISE_GRAD_W);
}

static void mark_quantized(const Recompute *r, ValueId id)
{
    const Value *v = ir_value(r->g, id);
    bool         yes = v->op == OP_QDQ && str_eq(ir_text(v, A_ROLE), "act");
    for (int32_t i = 0; i < v->n_in && !yes && (ir_has(r->g, id, T_ELTWISE) || moves_elements(r->g, id)); i++)
        yes = r->quantized[v->in[i]];
    r->quantized[id] = yes && !v->backward;
}

/* A weight's gradient, or another call or walk of backward, wants it in memory. */
static bool is_held_for_backward(const Recompute *r, ValueId id)
{
    for (int32_t i = r->uses.first[id]; i < r->uses.first[id + 1]; i++)
        if (ir_value(r->g, r->uses.users[i])->backward && ir_has(r->g, r->uses.users[i], T_LIBRARY | T_FOLD))
            return true;
    return false;
}

static bool is_read_by_backward(const Recompute *r, ValueId id)
{
    for (int32_t i = r->uses.first[id]; i < r->uses.first[id + 1]; i++)
        if (ir_value(r->g, r->uses.users[i])->backward && !ir_has(r->g, r->uses.users[i], T_EFFECT))
            return true;
    return false;
}

/* A quantizer reads it, and backward. */
static bool is_joined_for_quantizer(const Recompute *r, ValueId id)
{
    bool quantized = false;
    for (int32_t i = r->uses.first[id]; i < r->uses.first[id + 1]; i++)
        quantized |= r->quantized[r->uses.users[i]];
    return quantized && joins_or_pools(r->g, id) && !ir_value(r->g, id)->backward && is_read_by_backward(r, id);
}

/* ---- What it costs ----------------------------------------------------------------------------------------------- */

/* How backward comes by a value of forward. */
typedef enum Way { WAY_THERE, WAY_AGAIN, WAY_NONE } Way;

/* Adds to *bytes what backward would have to keep beyond what it keeps anyway, so that a value of `elems` elements can
 * be computed from this one. `memory`: not at the same point only. */
static Way way_to(const Recompute *r, ValueId id, int64_t elems, bool memory, int32_t depth, int64_t *bytes)
{
    const uint32_t stored = T_LEAF | T_LIBRARY | T_VIEW | T_FOLD | T_REDUCE;
    const Value   *v = ir_value(r->g, id);
    const bool     there = !r->again[id] && is_read_by_backward(r, id);
    if (ir_has(r->g, id, T_LEAF) || ir_is(r->g, id, OP_CONST) || (there && (!memory || ir_has(r->g, id, stored))))
        return WAY_THERE;
    if (shape_elems(v->type.shape) <= elems / SMALL) {
        *bytes += type_bytes(v->type);
        return WAY_THERE;
    }
    int64_t more = 0;
    Way     way = depth < MOST_DEPTH && is_cheap(r->g, id) ? WAY_AGAIN : WAY_NONE;
    for (int32_t i = 0; i < v->n_in && way == WAY_AGAIN; i++)
        if (way_to(r, v->in[i], elems, wants_memory(r->g, id), depth + 1, &more) == WAY_NONE)
            way = WAY_NONE;
    if (way == WAY_NONE && there) /* stored for the same op of forward, and nothing but it tells backward what it was */
        return WAY_THERE;
    *bytes += more;
    return way;
}

/* The image itself: batch would put what depends on rows of it alone at the front of the step. */
static bool is_of_leaves(const Graph *g, const Value *v)
{
    for (int32_t i = 0; i < v->n_in; i++)
        if (!ir_has(g, v->in[i], T_LEAF))
            return false;
    return v->type.shape.rank != 4;
}

/* Why the value is kept; NULL: it is made again. */
static const char *why_kept(const Recompute *r, ValueId id)
{
    const Value *v = ir_value(r->g, id);
    int64_t      bytes = 0, elems = shape_elems(v->type.shape);
    if (is_of_leaves(r->g, v))
        return "it is of the inputs of the step alone";
    for (int32_t i = 0; i < v->n_in; i++) {
        Way way = way_to(r, v->in[i], elems, wants_memory(r->g, id), 0, &bytes);
        if (way == WAY_NONE)
            return "what it is computed from is not there in backward";
        if (way == WAY_AGAIN && joins_or_pools(r->g, id) && !r->quantized[id])
            return "what it is joined from would have to be made again, too";
    }
    return 2 * bytes > type_bytes(v->type) ? "what it is computed from would have to be kept instead" : NULL;
}

/* ---- Where it is made -------------------------------------------------------------------------------------------- */

static void mark_cone(const Recompute *r, ValueId id, bool on, int32_t depth)
{
    r->cone[id] = on;
    if (depth == MOST_DEPTH || !is_cheap(r->g, id))
        return;
    for (int32_t i = 0; i < ir_value(r->g, id)->n_in; i++)
        if (ir_value(r->g, ir_value(r->g, id)->in[i])->type.shape.rank > 1)
            mark_cone(r, ir_value(r->g, id)->in[i], on, depth + 1);
}

static bool reads_cone(const Recompute *r, ValueId id)
{
    const Value *v = ir_value(r->g, id);
    for (int32_t i = 0; i < v->n_in; i++)
        if (v->backward && ir_has(r->g, id, T_ELTWISE | T_REDUCE) && r->cone[v->in[i]])
            return true;
    return false;
}

/* The last value behind `from` that reads what the value is computed from, before the next library call that follows
 * one that does; VALUE_NONE: there is none near. */
static ValueId last_reader(const Recompute *r, int32_t from)
{
    ValueId last = VALUE_NONE;
    int32_t calls = 0;
    for (int32_t i = from + 1; i < r->n_old; i++) {
        bool call = ir_has(r->g, r->old[i], T_LIBRARY | T_FOLD);
        calls += call;
        if (call && (last != VALUE_NONE || calls > MOST_CALLS))
            break;
        if (reads_cone(r, r->old[i]))
            last = r->old[i];
    }
    return last;
}

/* Behind which value the copy goes: its key. The gradients that read it wait for it. */
static void choose_place(const Recompute *r, ValueId id)
{
    int32_t first = r->n_old, last = -1;
    bool    may_wait = true; /* nothing that leads to other gradients reads it */
    for (int32_t i = r->uses.first[id]; i < r->uses.first[id + 1]; i++) {
        ValueId user = r->uses.users[i];
        if (!ir_value(r->g, user)->backward)
            continue;
        first = first < r->pos[user] ? first : r->pos[user];
        last = last > r->pos[user] ? last : r->pos[user];
        may_wait &= is_weight_gradient(r->g, user);
    }
    mark_cone(r, id, true, 0);
    may_wait &= type_bytes(ir_value(r->g, id)->type) > r->c->target->cached_bytes;
    ValueId anchor = may_wait ? last_reader(r, last) : VALUE_NONE;
    mark_cone(r, id, false, 0);
    r->after[id] = anchor == VALUE_NONE ? 2 * (int64_t)first - 1 : 2 * (int64_t)r->pos[anchor] + 1;
}

static void choose(Recompute *r, ValueId id)
{
    if (!(r->quantized[id] && is_held_for_backward(r, id)) && !is_joined_for_quantizer(r, id))
        return;
    const char *why = why_kept(r, id);
    r->again[id] = why == NULL;
    pass_explain(r->c, r->g, id, "%s%s", why ? "kept for backward: " : "made again in backward", why ? why : "");
    pass_count(r->c, why ? "values kept" : "values made again", 1);
    if (why == NULL) {
        pass_count(r->c, "bytes not kept", type_bytes(ir_value(r->g, id)->type));
        choose_place(r, id);
    }
}

/* ---- Writing the new order --------------------------------------------------------------------------------------- */

/* The new order is that of the keys: twice a value's old place; what is put between two has the odd number. A key is
 * never below those of the values it reads, so the order is one in which each value comes after its inputs. */
static void put(Recompute *r, ValueId id, int64_t key)
{
    const Value *v = ir_value(r->g, id);
    for (int32_t i = 0; i < v->n_in; i++)
        key = dt_max64(key, r->key.at[v->in[i]]);
    while (r->key.len <= id)
        vec_push(r->c->scratch, &r->key, 0);
    r->key.at[id] = key;
}

static ValueId copy_of(Recompute *r, ValueId id, int64_t key, int64_t elems);

/* What stands for `id` in a copy that comes at `key`. */
static ValueId again(Recompute *r, ValueId id, int64_t key, int64_t elems, bool memory)
{
    int64_t bytes = 0;
    if (way_to(r, id, elems, memory, 0, &bytes) == WAY_THERE)
        return id;
    if (r->again[id] && r->copy[id] == VALUE_NONE)
        r->copy[id] = copy_of(r, id, dt_min64(key, r->after[id]), elems);
    return r->again[id] ? r->copy[id] : copy_of(r, id, key, elems);
}

static ValueId copy_of(Recompute *r, ValueId id, int64_t key, int64_t elems)
{
    const Value v = *ir_value(r->g, id);
    ValueId    *in = ARENA_ARRAY(r->c->scratch, ValueId, v.n_in);
    for (int32_t i = 0; i < v.n_in; i++)
        in[i] = again(r, v.in[i], key, elems, wants_memory(r->g, id));
    ValueId copy = ir_copy(&r->b, id, in);
    ir_value(r->g, copy)->backward = true;
    put(r, copy, key);
    return copy;
}

static void read_copies(Recompute *r, ValueId id)
{
    for (int32_t i = 0; i < ir_value(r->g, id)->n_in; i++) {
        ValueId x = ir_value(r->g, id)->in[i];
        if (x >= r->n_values || !r->again[x])
            continue;
        if (r->copy[x] == VALUE_NONE)
            r->copy[x] = copy_of(r, x, r->after[x], shape_elems(ir_value(r->g, x)->type.shape));
        ir_value(r->g, id)->in[i] = r->copy[x];
    }
}

typedef struct Placed {
    int64_t key;
    int32_t at;
    ValueId v;
} Placed;

static int by_key(const void *x, const void *y)
{
    const Placed *a = x, *b = y;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Gradients of regularizers wait with the gradients of their weights, so that they still share a kernel. */
static bool is_of_params(const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    bool         params = v->backward && v->n_in > 0;
    for (int32_t i = 0; i < v->n_in; i++)
        params &= ir_has(g, v->in[i], T_LEAF) || ir_is(g, v->in[i], OP_CONST);
    return params;
}

static void sort_order(const Recompute *r)
{
    Graph  *g = r->g;
    Placed *all = ARENA_ARRAY(r->c->scratch, Placed, g->order.len + 1);
    for (int32_t i = 0; i < g->order.len; i++)
        all[i] = (Placed){ r->key.at[g->order.at[i]], i, g->order.at[i] };
    qsort(all, (size_t)g->order.len, sizeof(all[0]), by_key);
    for (int32_t i = 0; i < g->order.len; i++)
        g->order.at[i] = all[i].v;
}

/* Nobody may read the original any more: where the forward product has codes of its own. */
static void drop_unread(const Recompute *r)
{
    Graph  *g = r->g;
    Uses    uses = ir_uses(r->c->scratch, g);
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId v = g->order.at[i];
        if (v >= r->n_values || !r->again[v] || ir_use_count(&uses, v) > 0)
            g->order.at[n++] = v;
    }
    g->order.len = n;
}

static Recompute recompute_new(PassCtx *c, Graph *g)
{
    Arena    *a = c->scratch;
    int32_t   n = g->values.len;
    Recompute r = {
        .c = c,
        .g = g,
        .b = { .g = g, .d = c->d, .by = "recompute", .like = VALUE_NONE, .backward = true },
        .uses = ir_uses(a, g),
        .old = arena_copy(a, g->order.at, sizeof(ValueId) * (size_t)(g->order.len + 1)),
        .n_old = g->order.len,
        .n_values = n,
        .pos = ARENA_ARRAY(a, int32_t, n),
        .quantized = ARENA_ARRAY(a, bool, n),
        .again = ARENA_ARRAY(a, bool, n),
        .after = ARENA_ARRAY(a, int64_t, n),
        .copy = ARENA_ARRAY(a, ValueId, n),
        .cone = ARENA_ARRAY(a, bool, n),
    };
    for (int32_t i = 0; i < n; i++)
        r.copy[i] = VALUE_NONE;
    for (int32_t i = 0; i < r.n_old; i++)
        r.pos[r.old[i]] = i;
    return r;
}

bool pass_recompute(PassCtx *c, Graph *g)
{
    Recompute r = recompute_new(c, g);
    int32_t   n_again = 0;
    for (int32_t i = 0; i < r.n_old; i++)
        mark_quantized(&r, r.old[i]);
    for (int32_t i = 0; i < r.n_old; i++) {
        choose(&r, r.old[i]);
        n_again += r.again[r.old[i]];
    }
    if (n_again == 0)
        return false;
    g->order.len = 0;
    for (int32_t i = 0; i < r.n_old; i++) {
        ValueId id = r.old[i];
        if (ir_value(g, id)->backward)
            read_copies(&r, id);
        vec_push(g->arena, &g->order, id);
        put(&r, id, i > 0 && is_of_params(g, id) ? dt_max64(2 * (int64_t)i, r.key.at[r.old[i - 1]]) : 2 * (int64_t)i);
    }
    sort_order(&r);
    drop_unread(&r);
    return true;
}
