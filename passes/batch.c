/* batch.c: one launch over many small tensors.
 *
 * A network has dozens of weights; each wants its quantizer before the forward pass and its optimizer update after the
 * backward pass. Kernels that depend on leaves alone move to the front of the step, kernels that only updates wait for
 * move to its end; among those of one level (so none waits for another) the ones of equal structure become one group.
 * lower writes it as one kernel over a segment table.
 *
 * Only flat kernels take part: every operand is a scalar, or has the shape and the layout of the kernel's space, so
 * that the elements are walked as they lie in memory, or has a number for each output of a weight (steps by channel,
 * the scale of a folded batch norm): a weight's outputs lie one behind the other. That is in rows, or for weights
 * whichever layout the target has for them: of images in NHWC each has a kernel of its own. Repeating numbers over
 * groups of channels is flat, too.
 *
 * Tested by tests/unit/test_fuse.c and tests/golden. */
#include "passes/fuse.h"
#include "passes/lower.h"
#include "passes/pass_impl.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 4096 }; /* of one launch: its table is part of the code */

typedef enum BatchSet { SET_FRONT, SET_MIDDLE, SET_END } BatchSet;

typedef struct BatchGroup {
    int32_t     first, count; /* its values in the old order */
    bool        flat;
    BatchSet    set;
    int32_t     level;
    const char *key;
    int32_t     merged; /* new number */
} BatchGroup;

/* What the parts of the launch that is being written read, and which leaves they update: by value, the launch's number.
 */
typedef struct Touched {
    int32_t *read, *updated;
} Touched;

typedef struct Batch {
    PassCtx    *c;
    Graph      *g;
    Uses        uses;
    bool       *weight; /* by value: a weight, or of a weight's shape and computed from weights of that shape alone */
    ValueId    *old;
    int32_t     n_old;
    BatchGroup *at;
    int32_t     n;
    Touched     touched;
} Batch;

/* Every full-size operand of an element-wise op is a weight, and there is one. */
static bool value_is_weight(const Batch *b, const Value *v)
{
    bool any = false;
    if (v->type.shape.rank != 4 || layout_makes_weight(v->op))
        return v->type.shape.rank == 4;
    if ((ir_ops[v->op].traits & T_ELTWISE) == 0)
        return false;
    for (int32_t i = 0; i < v->n_in; i++) {
        if (!shape_eq(ir_value(b->g, v->in[i])->type.shape, v->type.shape))
            continue;
        if (!b->weight[v->in[i]])
            return false;
        any = true;
    }
    return any;
}

static void find_weights(Batch *b)
{
    b->weight = ARENA_ARRAY(b->c->scratch, bool, b->g->values.len);
    for (int32_t i = 0; i < b->g->order.len; i++)
        b->weight[b->g->order.at[i]] = value_is_weight(b, ir_value(b->g, b->g->order.at[i]));
}

/* Is x a number for each output of what the space has, as v reads or keeps it? */
static bool is_by_output(const Batch *b, ValueId v, Type x, Space s)
{
    bool outputs = ir_has(b->g, v, T_REDUCE) && str_eq(fuse_keep(b->g, v), "o");
    return x.shape.rank == 1 && s.shape.rank > 1 && x.shape.dim[0] == s.shape.dim[0] &&
           (outputs || fuse_vector_dim(b->g, v) == 0);
}

/* Of the operand, or the result, x of v. */
static bool operand_is_flat(const Batch *b, ValueId v, ValueId x, Space s)
{
    Type t = ir_value(b->g, x)->type;
    return t.shape.rank == 0 || is_by_output(b, v, t, s) ||
           (shape_eq(t.shape, s.shape) && t.layout == s.layout && (t.layout == LAYOUT_ROWS || b->weight[x]));
}

/* Numbers that are repeated, or taken together, in groups; sums of numbers. */
static bool is_flat_nest(const Graph *g, ValueId v)
{
    return ir_is(g, v, OP_REPEAT) || ir_is(g, v, OP_REPEAT_GRAD) || ir_is(g, v, OP_GROUP_MAX) || ir_is(g, v, OP_TOTAL);
}

static bool value_is_flat(const Batch *b, ValueId v)
{
    const Graph *g = b->g;
    const Value *val = ir_value(g, v);
    if (ir_is(g, v, OP_CONST) || is_flat_nest(g, v))
        return true;
    if (!ir_has(g, v, T_ELTWISE | T_REDUCE))
        return false;
    Space s = fuse_space(g, v);
    if (ir_has(g, v, T_REDUCE) ? val->type.shape.rank != 0 && !is_by_output(b, v, val->type, s)
                               : !operand_is_flat(b, v, v, s))
        return false;
    for (int32_t i = 0; i < val->n_in; i++)
        if (!operand_is_flat(b, v, val->in[i], s))
            return false;
    return true;
}

/* ---- Which groups may move --------------------------------------------------------------------------------------- */

/* Level 0 reads leaves; -1: something before it stays in the middle. */
static int32_t front_level(const Batch *b, int32_t k)
{
    int32_t level = 0;
    for (int32_t i = 0; i < b->at[k].count; i++) {
        const Value *v = ir_value(b->g, b->old[b->at[k].first + i]);
        for (int32_t j = 0; j < v->n_in; j++) {
            int32_t from = ir_value(b->g, ir_root(b->g, v->in[j]))->group;
            if (from < 0 || from == k)
                continue;
            if (b->at[from].set != SET_FRONT)
                return -1;
            level = level > b->at[from].level ? level : b->at[from].level + 1;
        }
    }
    return level;
}

/* All that use v, through views, are effects or groups at the end. */
static bool only_the_end_uses(const Batch *b, ValueId v, int32_t own)
{
    for (int32_t i = b->uses.first[v]; i < b->uses.first[v + 1]; i++) {
        ValueId user = b->uses.users[i];
        if (ir_has(b->g, user, T_EFFECT))
            continue;
        if (ir_has(b->g, user, T_VIEW))
            return false;
        int32_t k = ir_value(b->g, user)->group;
        if (k != own && b->at[k].set != SET_END)
            return false;
    }
    return true;
}

static bool moves_to_end(const Batch *b, int32_t k)
{
    for (int32_t i = 0; i < b->at[k].count; i++)
        if (!only_the_end_uses(b, b->old[b->at[k].first + i], k))
            return false;
    return true;
}

static int32_t end_level(const Batch *b, int32_t k)
{
    int32_t level = 0;
    for (int32_t i = 0; i < b->at[k].count; i++) {
        const Value *v = ir_value(b->g, b->old[b->at[k].first + i]);
        for (int32_t j = 0; j < v->n_in; j++) {
            int32_t from = ir_value(b->g, ir_root(b->g, v->in[j]))->group;
            if (from >= 0 && from != k && b->at[from].set == SET_END && level <= b->at[from].level)
                level = b->at[from].level + 1;
        }
    }
    return level;
}

static void batch_place(Batch *b)
{
    for (int32_t k = 0; k < b->n; k++) {
        int32_t level = b->at[k].flat ? front_level(b, k) : -1;
        b->at[k].set = level >= 0 ? SET_FRONT : SET_MIDDLE;
        b->at[k].level = level;
    }
    for (int32_t k = b->n - 1; k >= 0; k--)
        if (b->at[k].flat && b->at[k].set == SET_MIDDLE && moves_to_end(b, k))
            b->at[k].set = SET_END;
    for (int32_t k = 0; k < b->n; k++)
        if (b->at[k].set == SET_END)
            b->at[k].level = end_level(b, k);
}

/* ---- Structure of a group as text -------------------------------------------------------------------------------- */

/* Constants become columns of the table, and some attributes are for people. */
static bool is_free(AttrId id)
{
    return id == A_LO || id == A_HI || id == A_STREAM || id == A_BITS || id == A_ROW || id == A_ROLE;
}

/* Of factors and blocks 0 and 1 may have been simplified away. */
static char number_kind(double x)
{
    return x == 0 ? '0' : x == 1 ? '1' : 'x';
}

static void key_attrs(Str *s, const Value *v)
{
    const OpInfo *op = &ir_ops[v->op];
    for (int32_t i = 0; i < op->n_attrs; i++) {
        AttrId id = op->attrs[i].id;
        if (is_free(id))
            continue;
        if (id == A_BLOCK)
            str_printf(s, " %c", number_kind((double)v->attr[i].i));
        else if (attr_kind(id) == ATTR_FLOAT)
            str_printf(s, " %c", number_kind(v->attr[i].f));
        else if (attr_kind(id) == ATTR_TEXT)
            str_printf(s, " %s", v->attr[i].s != NULL ? v->attr[i].s : "");
        else
            str_printf(s, " %lld", (long long)v->attr[i].i);
    }
}

static int32_t index_of(const ValueId *at, int32_t n, ValueId v)
{
    for (int32_t i = 0; i < n; i++)
        if (at[i] == v)
            return i;
    return -1;
}

/* Who takes the value: "a2" assigned to outer value 2, "o" the host, "w" other kernels, however many. */
static void key_users(const Batch *b, Str *s, ValueId id, int32_t own, const ValueId *outer, int32_t n_outer)
{
    bool host = false, kernels = false;
    for (int32_t i = b->uses.first[id]; i < b->uses.first[id + 1]; i++) {
        ValueId user = b->uses.users[i];
        if (ir_is(b->g, user, OP_ASSIGN))
            str_printf(s, " a%d", index_of(outer, n_outer, ir_value(b->g, user)->in[0]));
        else if (ir_is(b->g, user, OP_OUTPUT))
            host = true;
        else
            kernels |= ir_value(b->g, user)->group != own;
    }
    str_printf(s, "%s%s", host ? " o" : "", kernels ? " w" : "");
}

static const char *batch_key(const Batch *b, int32_t k)
{
    enum { MAX_OUTER = 64 };
    Str     s = str_new(b->c->scratch);
    ValueId outer[MAX_OUTER];
    int32_t n_outer = 0;
    str_printf(&s, "%d %d", b->at[k].set, b->at[k].level);
    for (int32_t i = 0; i < b->at[k].count; i++) {
        ValueId      id = b->old[b->at[k].first + i];
        const Value *v = ir_value(b->g, id);
        str_printf(&s, "; %s", ir_ops[v->op].text);
        key_attrs(&s, v);
        for (int32_t j = 0; j < v->n_in; j++) {
            ValueId x = v->in[j];
            int32_t inner = index_of(b->old + b->at[k].first, i, x);
            int32_t o = index_of(outer, n_outer, x);
            if (inner >= 0) {
                str_printf(&s, " %%%d", inner);
                continue;
            }
            if (o < 0 && n_outer < MAX_OUTER)
                outer[o = n_outer++] = x;
            const Value *xv = ir_value(b->g, x);
            bool         vector = xv->type.shape.rank == 1 && fuse_space(b->g, id).shape.rank > 1;
            str_printf(&s, " @%d%s%s", o,
                       xv->type.shape.rank == 0 ? "s"
                       : vector                 ? "v"
                                                : "",
                       ir_has(b->g, x, T_LEAF) ? ir_ops[xv->op].text : "");
        }
        key_users(b, &s, id, k, outer, n_outer);
    }
    return s.s;
}

/* ---- Writing the new order --------------------------------------------------------------------------------------- */

static void write_group(Batch *b, int32_t k, int32_t number)
{
    for (int32_t i = 0; i < b->at[k].count; i++) {
        ValueId v = b->old[b->at[k].first + i];
        ir_value(b->g, v)->group = number;
        vec_push(b->g->arena, &b->g->order, v);
    }
}

/* Rows of one launch run in any order: none may read what another updates. */
static bool touches_alone(const Batch *b, int32_t k, const Touched *t, int32_t number)
{
    for (int32_t i = 0; i < b->at[k].count; i++) {
        ValueId      id = b->old[b->at[k].first + i];
        const Value *v = ir_value(b->g, id);
        for (int32_t j = 0; j < v->n_in; j++)
            if (t->updated[v->in[j]] == number)
                return false;
        for (int32_t j = b->uses.first[id]; j < b->uses.first[id + 1]; j++)
            if (ir_is(b->g, b->uses.users[j], OP_ASSIGN) && t->read[ir_value(b->g, b->uses.users[j])->in[0]] == number)
                return false;
    }
    return true;
}

static void touch(const Batch *b, int32_t k, const Touched *t, int32_t number)
{
    for (int32_t i = 0; i < b->at[k].count; i++) {
        ValueId      id = b->old[b->at[k].first + i];
        const Value *v = ir_value(b->g, id);
        for (int32_t j = 0; j < v->n_in; j++)
            t->read[v->in[j]] = number;
        for (int32_t j = b->uses.first[id]; j < b->uses.first[id + 1]; j++)
            if (ir_is(b->g, b->uses.users[j], OP_ASSIGN))
                t->updated[ir_value(b->g, b->uses.users[j])->in[0]] = number;
    }
}

static int64_t rows_of(const Batch *b, int32_t k)
{
    return b->at[k].flat ? lower_rows_of(b->g, (Part){ b->old + b->at[k].first, b->at[k].count }) : 1;
}

/* May kernel j be part of the launch that k began? */
static bool joins(const Batch *b, int32_t j, int32_t k, int64_t rows, int32_t number)
{
    return b->at[k].set != SET_MIDDLE && b->at[j].merged < 0 && str_eq(b->at[j].key, b->at[k].key) &&
           rows + rows_of(b, j) <= MOST_ROWS && touches_alone(b, j, &b->touched, number);
}

/* Kernel k and, at the front and at the end, all of its level and structure. */
static void write_merged(Batch *b, int32_t k, const Group *old_groups)
{
    Graph  *g = b->g;
    int32_t number = g->groups.len, parts = 0;
    int64_t rows = 0;
    for (int32_t j = k; j < b->n; j++) {
        if (j != k && !joins(b, j, k, rows, number))
            continue;
        rows += rows_of(b, j);
        touch(b, j, &b->touched, number);
        write_group(b, j, number);
        b->at[j].merged = number;
        parts++;
    }
    Group merged = old_groups[k];
    merged.segments = parts > 1;
    if (parts > 1) {
        merged.name = arena_printf(g->arena, "%d x %s", parts, merged.name);
        pass_count(b->c, "kernels joined", parts);
    }
    vec_push(g->arena, &g->groups, merged);
    for (int32_t j = k; j < b->n; j++)
        if (b->at[j].merged == number)
            for (int32_t i = 0; i < b->at[j].count; i++)
                fuse_write_views(b->g, &b->uses, b->old[b->at[j].first + i]);
}

static void write_set(Batch *b, BatchSet set, const Group *old_groups)
{
    int32_t levels = 0;
    for (int32_t k = 0; k < b->n; k++)
        if (b->at[k].set == set && b->at[k].level >= levels)
            levels = b->at[k].level + 1;
    for (int32_t level = 0; level < levels; level++)
        for (int32_t k = 0; k < b->n; k++)
            if (b->at[k].set == set && b->at[k].level == level && b->at[k].merged < 0)
                write_merged(b, k, old_groups);
}

static void batch_write(Batch *b)
{
    Graph *g = b->g;
    Group *old_groups = arena_copy(b->c->scratch, g->groups.at, sizeof(Group) * (size_t)g->groups.len);
    g->groups.len = 0;
    g->order.len = 0;
    for (int32_t i = 0; i < b->n_old; i++)
        if (ir_has(g, b->old[i], T_LEAF)) {
            vec_push(g->arena, &g->order, b->old[i]);
            fuse_write_views(b->g, &b->uses, b->old[i]);
        }
    write_set(b, SET_FRONT, old_groups);
    for (int32_t k = 0; k < b->n; k++)
        if (b->at[k].set == SET_MIDDLE)
            write_merged(b, k, old_groups);
    write_set(b, SET_END, old_groups);
    for (int32_t i = 0; i < b->n_old; i++)
        if (ir_has(g, b->old[i], T_EFFECT))
            vec_push(g->arena, &g->order, b->old[i]);
}

bool pass_batch(PassCtx *c, Graph *g)
{
    if (g->groups.len == 0)
        return false; /* nothing was fused */
    GroupedOrder old = grouped_order(c->scratch, g);
    Batch        b = { .c = c, .g = g, .uses = ir_uses(c->scratch, g), .n_old = g->order.len, .n = g->groups.len };
    find_weights(&b);
    b.old = arena_copy(c->scratch, g->order.at, sizeof(ValueId) * (size_t)b.n_old);
    b.at = ARENA_ARRAY(c->scratch, BatchGroup, b.n);
    for (int32_t i = 0; i < b.n_old; i++) {
        int32_t k = ir_value(g, b.old[i])->group;
        if (k < 0)
            continue;
        if (b.at[k].count++ == 0)
            b.at[k] = (BatchGroup){ .first = i, .count = 1, .flat = true, .merged = -1 };
        b.at[k].flat &= value_is_flat(&b, b.old[i]);
    }
    b.touched =
        (Touched){ ARENA_ARRAY(c->scratch, int32_t, g->values.len), ARENA_ARRAY(c->scratch, int32_t, g->values.len) };
    memset(b.touched.read, -1, sizeof(int32_t) * (size_t)g->values.len);
    memset(b.touched.updated, -1, sizeof(int32_t) * (size_t)g->values.len);
    batch_place(&b);
    for (int32_t k = 0; k < b.n; k++)
        b.at[k].key = batch_key(&b, k);
    batch_write(&b);
    return !grouped_order_same(&old, g);
}
