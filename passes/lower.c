/* lower.c: every group gets its kernel; library calls get the memory they read and write.
 *
 * A group over many small tensors is a row of equal parts. Each part becomes a flat kernel, or as many rows as a weight
 * has outputs, and the kernels are merged into one with a segment table; where they turn out to differ in more than
 * numbers, the group is split into its parts.
 *
 * Tested by tests/unit/test_lower.c and tests/golden. */
#include "passes/lower.h"
#include "passes/pass_impl.h"

#include <string.h>

typedef struct LowerGroups {
    PassCtx *c;
    Graph   *g;
    VEC(Group) out;     /* groups with new numbers */
    int32_t *next_read; /* by value: how many launches later it is first read; large: the host reads it, or nobody */
} LowerGroups;

static void lower_number(LowerGroups *l, Part p)
{
    for (int32_t i = 0; i < p.n; i++)
        ir_value(l->g, p.at[i])->group = l->out.len;
}

static void lower_call(LowerGroups *l, Part p, Group group)
{
    const Value *v = ir_value(l->g, p.at[0]);
    group.n_bound = v->n_in + 1;
    group.bound = ARENA_ARRAY(l->g->arena, ValueId, group.n_bound);
    group.bound_at = ARENA_ARRAY(l->g->arena, Place, group.n_bound);
    for (int32_t i = 0; i < group.n_bound; i++) {
        group.bound[i] = i < v->n_in ? v->in[i] : p.at[0];
        group.bound_at[i] = ir_value(l->g, group.bound[i])->place;
    }
    lower_number(l, p);
    vec_push(l->g->arena, &l->out, group);
    pass_count(l->c, "library calls", 1);
}

/* ---- Streaming stores -------------------------------------------------------------------------------------------- */

/* What does not fit the cache of a core and is not read by one of the next launches need not go through it. */
enum { STREAM_BYTES = 4 << 20, STREAM_LAUNCHES = 3 };

static int32_t lower_next_read(const Graph *g, const Uses *u, ValueId v, int32_t made)
{
    int32_t next = INT32_MAX;
    for (int32_t i = u->first[v]; i < u->first[v + 1]; i++) {
        ValueId user = u->users[i];
        int32_t k = ir_value(g, user)->group;
        int32_t after = ir_has(g, user, T_VIEW) ? lower_next_read(g, u, user, made) : k > made ? k - made : INT32_MAX;
        next = after < next ? after : next;
    }
    return next;
}

static void lower_reads(LowerGroups *l)
{
    Uses u = ir_uses(l->c->scratch, l->g);
    l->next_read = ARENA_ARRAY(l->c->scratch, int32_t, l->g->values.len);
    for (int32_t i = 0; i < l->g->order.len; i++) {
        ValueId v = l->g->order.at[i];
        l->next_read[v] = lower_next_read(l->g, &u, v, ir_value(l->g, v)->group);
    }
}

static void lower_streams(LowerGroups *l, const Lowered *k)
{
    for (int32_t i = 0; i < k->kernel->bufs.len; i++) {
        KBuf *b = &k->kernel->bufs.at[i];
        if (b->mode != BUF_OUT || dtype_bytes(b->dtype, b->elems) < STREAM_BYTES ||
            l->next_read[k->bound[i]] <= STREAM_LAUNCHES)
            continue;
        b->stream = true;
        pass_count(l->c, "streaming stores", 1);
    }
}

/* ---- Kernels and calls ------------------------------------------------------------------------------------------- */

static const char *lower_name(const LowerGroups *l)
{
    return arena_printf(l->g->arena, "k%d", l->out.len);
}

static void lower_one(LowerGroups *l, Part p, Group group)
{
    Lowered k = lower_kernel(l->c, l->g, p, lower_name(l), group.name, LOWER_AXES);
    lower_streams(l, &k);
    group.kernel = k.kernel;
    group.bound = k.bound;
    group.bound_at = k.bound_at;
    group.n_bound = k.kernel->bufs.len;
    group.segments = false;
    lower_number(l, p);
    vec_push(l->g->arena, &l->out, group);
    pass_count(l->c, "kernels", 1);
}

/* ---- Segments ---------------------------------------------------------------------------------------------------- */

/* Does value m make x, or take its place in memory? */
static bool lower_makes(const Graph *g, ValueId m, ValueId x)
{
    Place p = ir_value(g, m)->place, q = ir_value(g, x)->place;
    return m == x || (p.kind != MEM_NONE && p.kind == q.kind && p.offset == q.offset);
}

/* True when the first `period` values, repeated, have the ops of the whole group and no value reads what another part
 * makes or updates. */
static bool lower_is_period(const Graph *g, Part p, int32_t period)
{
    for (int32_t i = 0; i < p.n; i++) {
        if (ir_value(g, p.at[i])->op != ir_value(g, p.at[i % period])->op)
            return false;
        const Value *v = ir_value(g, p.at[i]);
        for (int32_t j = 0; j < v->n_in; j++)
            for (int32_t m = 0; m < p.n; m++)
                if (m / period != i / period && lower_makes(g, p.at[m], v->in[j]))
                    return false;
    }
    return true;
}

static int32_t lower_period(const Graph *g, Part p)
{
    for (int32_t period = 1; period <= p.n / 2; period++)
        if (p.n % period == 0 && lower_is_period(g, p, period))
            return period;
    return p.n;
}

/* What is merged: one kernel a row, a part's as often as it has rows. */
typedef struct Rows {
    int32_t  n, n_bufs;
    Kernel **kernel;
    int64_t *base;  /* [n * n_bufs]: where the row's part of a buffer begins, in elements of the merged one */
    int64_t *index; /* where the row begins among the elements of its tensor, in logical order */
    Place   *begin; /* by buffer: the merged one, */
    int64_t *elems; /* and its size */
} Rows;

/* Where merged buffer j begins in its arena, and how long it is. False: its parts lie in different arenas. */
static bool lower_merge_buffer(const Lowered *parts, int32_t n, int32_t j, Place *begin, int64_t *elems)
{
    int64_t end = 0, elem_bytes = dtype_bytes(parts[0].kernel->bufs.at[j].dtype, 1);
    *begin = parts[0].bound_at[j];
    for (int32_t i = 0; i < n; i++) {
        if (parts[i].bound_at[j].kind != begin->kind)
            return false;
        begin->offset = dt_min64(begin->offset, parts[i].bound_at[j].offset);
    }
    for (int32_t i = 0; i < n; i++) {
        int64_t at = (parts[i].bound_at[j].offset - begin->offset) / elem_bytes;
        end = dt_max64(end, at + parts[i].kernel->bufs.at[j].elems);
    }
    *elems = end;
    return true;
}

static Rows lower_rows_new(Arena *a, const Lowered *parts, int32_t n)
{
    Rows r = { .n_bufs = parts[0].kernel->bufs.len };
    for (int32_t i = 0; i < n; i++)
        r.n += parts[i].rows;
    r.kernel = ARENA_ARRAY(a, Kernel *, r.n);
    r.index = ARENA_ARRAY(a, int64_t, r.n);
    r.base = ARENA_ARRAY(a, int64_t, (int64_t)r.n *r.n_bufs);
    r.begin = ARENA_ARRAY(a, Place, r.n_bufs);
    r.elems = ARENA_ARRAY(a, int64_t, r.n_bufs);
    return r;
}

/* False, and why: they cannot become one kernel. */
static bool lower_rows(Arena *a, const Lowered *parts, int32_t n, Rows *out, const char **why)
{
    Rows r = *out = lower_rows_new(a, parts, n);
    *why = "parts have different numbers of buffers";
    for (int32_t i = 0; i < n; i++)
        if (parts[i].kernel->bufs.len != r.n_bufs)
            return false;
    *why = "buffers lie in different arenas";
    for (int32_t j = 0; j < r.n_bufs; j++)
        if (!lower_merge_buffer(parts, n, j, &r.begin[j], &r.elems[j]))
            return false;
    int32_t row = 0;
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < parts[i].rows; k++, row++) {
            r.kernel[row] = parts[i].kernel;
            r.index[row] = k * parts[i].index;
            for (int32_t j = 0; j < r.n_bufs; j++) {
                int64_t bytes = parts[i].bound_at[j].offset - r.begin[j].offset;
                int64_t first = bytes / dtype_bytes(parts[i].kernel->bufs.at[j].dtype, 1);
                r.base[(int64_t)row * r.n_bufs + j] = first + k * parts[i].pitch[j];
            }
        }
    return true;
}

static bool lower_segments(LowerGroups *l, Part p, Group group)
{
    Arena   *a = l->c->scratch;
    int32_t  period = lower_period(l->g, p), n = p.n / period;
    Lowered *parts = ARENA_ARRAY(a, Lowered, n);
    if (n < 2)
        return false;
    for (int32_t i = 0; i < n; i++) {
        Part at = { p.at + i * period, period };
        parts[i] = lower_kernel(l->c, l->g, at, lower_name(l), group.name, lower_form(l->g, at));
    }
    Rows        rows;
    const char *why;
    if (lower_rows(a, parts, n, &rows, &why))
        group.kernel = kernel_merge_placed(l->g->arena, rows.kernel, rows.n, rows.base, rows.elems, rows.index, &why);
    if (group.kernel == NULL) {
        pass_explain(l->c, l->g, p.at[0], "launched part by part: %s", why);
        for (int32_t i = 0; i < n; i++)
            lower_one(l, (Part){ p.at + i * period, period }, group);
        return true;
    }
    group.kernel->title = group.name; /* the parts are counted in it */
    group.n_bound = rows.n_bufs;
    group.bound = ARENA_ARRAY(l->g->arena, ValueId, rows.n_bufs);
    memset(group.bound, -1, sizeof(ValueId) * (size_t)rows.n_bufs);
    group.bound_at = arena_copy(l->g->arena, rows.begin, sizeof(Place) * (size_t)rows.n_bufs);
    lower_number(l, p);
    vec_push(l->g->arena, &l->out, group);
    pass_count(l->c, "kernels", 1);
    pass_count(l->c, "segments", rows.n);
    return true;
}

bool pass_lower(PassCtx *c, Graph *g)
{
    LowerGroups l = { .c = c, .g = g };
    lower_reads(&l);
    for (int32_t i = 0; i < g->order.len;) {
        int32_t k = ir_value(g, g->order.at[i])->group, n = 0;
        while (i + n < g->order.len && ir_value(g, g->order.at[i + n])->group == k)
            n++;
        Part p = { arena_copy(c->scratch, g->order.at + i, sizeof(ValueId) * (size_t)n), n };
        i += n;
        if (k < 0)
            continue;
        Group group = g->groups.at[k];
        if (ir_has(g, p.at[0], T_LIBRARY))
            lower_call(&l, p, group);
        else if (!group.segments || !lower_segments(&l, p, group))
            lower_one(&l, p, group);
    }
    g->groups.at = l.out.at;
    g->groups.len = l.out.len;
    g->groups.cap = l.out.cap;
    return true;
}
