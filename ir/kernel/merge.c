/* merge.c: kernel_merge_segments. Kernels that differ only in numbers become one over a table of those numbers:
 * extents, where tensors begin, constants.
 *
 * The bodies are walked side by side. Constants are not compared where they stand but where they are used, since a part
 * in which two constants happen to be alike has one instruction less (build.c merges equal ones).
 *
 * Tested by tests/unit/test_kernel_ir.c: the merged kernel gives the bits of the parts run one by one. */
#include <string.h>

#include "ir/kernel/kernel_priv.h"

/* Columns grow one at a time, so they are kept apart until the table is known. */
typedef struct Columns {
    VEC(const char *) int_names;
    VEC(int64_t *) ints;
    VEC(const char *) float_names;
    VEC(float *) floats;
} Columns;

typedef struct Merge {
    Arena         *arena;
    Kernel *const *parts;
    int32_t        n;
    const int64_t *base, *index;
    KBuilder       b;      /* makes the result */
    KVal         **map;    /* map[part][value]: the value of the result */
    int64_t       *values; /* one number over all parts */
    float         *floats;
    Columns        cols;
    const char    *why; /* the first difference */
} Merge;

static bool differ(Merge *m, int32_t part, const char *what)
{
    if (!m->why)
        m->why =
            arena_printf(m->arena, "kernels %s and %s differ in %s", m->parts[0]->name, m->parts[part]->name, what);
    return false;
}

/* ---- Columns ----------------------------------------------------------------------------------------------------- */

/* Values of one number over all parts: -1 and *c0 when they are all alike; else a column, and *c0 what is to be added
 * to it. Columns that differ by a constant are one. */
static int32_t int_column(Merge *m, const char *stem, const int64_t *values, int64_t *c0)
{
    Columns *cols = &m->cols;
    bool     constant = true;
    for (int32_t i = 1; i < m->n; i++)
        constant = constant && values[i] == values[0];
    *c0 = constant ? values[0] : 0;
    if (constant)
        return -1;
    for (int32_t col = 0; col < cols->ints.len; col++) {
        const int64_t *known = cols->ints.at[col];
        int64_t        shift = values[0] - known[0];
        bool           same = true;
        for (int32_t i = 0; i < m->n; i++)
            same = same && values[i] - known[i] == shift;
        if (same) {
            *c0 = shift;
            return col;
        }
    }
    vec_push(m->arena, &cols->int_names, arena_printf(m->arena, "%s_%d", stem, cols->ints.len));
    vec_push(m->arena, &cols->ints, arena_copy(m->arena, values, sizeof *values * (size_t)m->n));
    return cols->ints.len - 1;
}

/* An extent has no constant to add: the column must be exactly these values. */
static int32_t extent_column(Merge *m, const char *name, const int64_t *values)
{
    Columns *cols = &m->cols;
    int64_t  shift;
    int32_t  col = int_column(m, name, values, &shift);
    if (col < 0 || shift == 0)
        return col;
    vec_push(m->arena, &cols->int_names, arena_printf(m->arena, "%s_%d", name, cols->ints.len));
    vec_push(m->arena, &cols->ints, arena_copy(m->arena, values, sizeof *values * (size_t)m->n));
    return cols->ints.len - 1;
}

static int32_t float_column(Merge *m, const float *values)
{
    Columns *cols = &m->cols;
    for (int32_t col = 0; col < cols->floats.len; col++)
        if (memcmp(cols->floats.at[col], values, sizeof *values * (size_t)m->n) == 0)
            return col;
    vec_push(m->arena, &cols->float_names, arena_printf(m->arena, "f_%d", cols->floats.len));
    vec_push(m->arena, &cols->floats, arena_copy(m->arena, values, sizeof *values * (size_t)m->n));
    return cols->floats.len - 1;
}

static SegTable make_table(Merge *m)
{
    const Columns *cols = &m->cols;
    SegTable       s = { .rows = m->n,
                         .int_cols = cols->ints.len,
                         .float_cols = cols->floats.len,
                         .int_names = cols->int_names.at,
                         .float_names = cols->float_names.at,
                         .ints = ARENA_ARRAY(m->arena, int64_t, (int64_t)m->n * cols->ints.len + 1),
                         .floats = ARENA_ARRAY(m->arena, float, (int64_t)m->n * cols->floats.len + 1) };
    for (int32_t row = 0; row < m->n; row++) {
        for (int32_t col = 0; col < s.int_cols; col++)
            s.ints[row * s.int_cols + col] = cols->ints.at[col][row];
        for (int32_t col = 0; col < s.float_cols; col++)
            s.floats[row * s.float_cols + col] = cols->floats.at[col][row];
    }
    return s;
}

/* ---- Declarations ------------------------------------------------------------------------------------------------ */

static bool same_declarations(Merge *m, int32_t part)
{
    const Kernel *a = m->parts[0], *b = m->parts[part];
    if (a->seg.rows > 0 || b->seg.rows > 0)
        return differ(m, part, "segments: merged ones cannot be merged again");
    if (a->vec < 0 || a->vec != b->vec)
        return differ(m, part, "the vec axis, or have none");
    if (a->n_axes != b->n_axes || a->bufs.len != b->bufs.len || !str_eq(a->core, b->core))
        return differ(m, part, "the number of axes or buffers");
    for (int32_t i = 0; i < a->n_axes; i++) {
        if (a->axes[i].kind != b->axes[i].kind)
            return differ(m, part, "the kinds of axes");
        if (a->axes[i].kind == AXIS_SEQ && a->axes[i].extent != b->axes[i].extent)
            return differ(m, part, "the extent of a loop");
    }
    for (int32_t i = 0; i < a->bufs.len; i++)
        if (a->bufs.at[i].dtype != b->bufs.at[i].dtype || a->bufs.at[i].mode != b->bufs.at[i].mode)
            return differ(m, part, "the type or mode of a buffer");
    if (kernel_has_reduction(a) && a->lanes != b->lanes)
        return differ(m, part, "the lanes of the reduction");
    return true;
}

static void merge_axes(Merge *m)
{
    Kernel *out = m->b.k;
    for (int32_t axis = 0; axis < out->n_axes; axis++) {
        for (int32_t i = 0; i < m->n; i++)
            m->values[i] = m->parts[i]->axes[axis].extent;
        int32_t col = extent_column(m, out->axes[axis].name, m->values);
        out->axes[axis].seg_col = col;
        if (col >= 0)
            out->axes[axis].extent = 0;
    }
}

/* ---- Instructions ------------------------------------------------------------------------------------------------ */

/* Integers that differ: a column, read as an index is. It wraps to 32 bits, so a u32 may be written as an i32. */
static KVal int_constant(Merge *m, KType type)
{
    KInst in = kernel_inst(K_INDEX);
    in.type = KT_I32;
    in.addr = affine_const(0);
    in.addr.seg_col = extent_column(m, "number", m->values);
    KVal v = kb_inst(&m->b, in);
    return type == KT_I32 ? v : kb_cvt(&m->b, KT_U32, v);
}

/* Constants become a constant or a column of the table. */
static bool merge_constants(Merge *m, const KVal *used, KVal *out)
{
    const KInst *first = &m->parts[0]->insts.at[used[0]];
    bool         equal = true;
    for (int32_t i = 0; i < m->n; i++) {
        const KInst *in = &m->parts[i]->insts.at[used[i]];
        if (in->op != K_CONST || in->type != first->type)
            return differ(m, i, "what an instruction uses");
        equal = equal && in->imm.u == first->imm.u;
        m->floats[i] = in->imm.f;
        m->values[i] = in->imm.i;
        if (!equal && in->type == KT_BOOL)
            return differ(m, i, "a bool");
    }
    if (equal)
        *out = kb_inst(&m->b, *first);
    else
        *out = first->type == KT_F32 ? kb_segf(&m->b, float_column(m, m->floats)) : int_constant(m, first->type);
    return true;
}

/* `used` holds the ids of one argument in all parts: constants, or the same value. */
static bool merge_value(Merge *m, const KVal *used, KVal *out)
{
    *out = KVAL_NONE;
    if (used[0] == KVAL_NONE)
        return true;
    if (m->parts[0]->insts.at[used[0]].op == K_CONST)
        return merge_constants(m, used, out);
    *out = m->map[0][used[0]];
    for (int32_t i = 0; i < m->n; i++)
        if (m->parts[i]->insts.at[used[i]].op == K_CONST || m->map[i][used[i]] != *out)
            return differ(m, i, "what an instruction uses");
    return true;
}

static bool has_address(const KInst *in)
{
    return in->op == K_LOAD || in->op == K_STORE || in->op == K_INDEX;
}

static bool has_axes(const Affine *a)
{
    for (int32_t i = 0; i < KERNEL_MAX_AXES; i++)
        if (a->coef[i] != 0)
            return true;
    return false;
}

/* The address of instruction at[i] in each part i: a constant part that differs becomes a column. */
static void merge_address(Merge *m, const KInst *const *at, KInst *out)
{
    const Kernel *k = m->b.k;
    for (int32_t i = 0; i < m->n; i++)
        m->values[i] = at[i]->addr.c0 + (out->buf >= 0 ? m->base[(int64_t)i * k->bufs.len + out->buf]
                                         : m->index != NULL && !has_axes(&out->addr) ? m->index[i]
                                                                                     : 0);
    const char *stem = out->buf < 0 ? "index" : k->bufs.at[out->buf].name;
    out->addr.seg_col = int_column(m, stem, m->values, &out->addr.c0);
}

static bool same_form(Merge *m, const KInst *const *at)
{
    for (int32_t i = 1; i < m->n; i++) {
        const KInst *a = at[0], *b = at[i];
        if (a->op != b->op || a->type != b->type || a->buf != b->buf || a->imm.u != b->imm.u ||
            (a->dyn < 0) != (b->dyn < 0) || (a->guard < 0) != (b->guard < 0))
            return differ(m, i, "an instruction");
        if (memcmp(a->addr.coef, b->addr.coef, sizeof a->addr.coef) != 0)
            return differ(m, i, "the strides of an address");
    }
    return true;
}

/* Everything that instruction at[i] of each part i uses. */
static bool merge_uses(Merge *m, const KInst *const *at, KInst *out)
{
    KVal *used = ARENA_ARRAY(m->arena, KVal, m->n);
    for (int32_t arg = 0; arg < KERNEL_MAX_ARGS + 2; arg++) {
        for (int32_t i = 0; i < m->n; i++)
            used[i] = arg < KERNEL_MAX_ARGS ? at[i]->arg[arg] : arg == KERNEL_MAX_ARGS ? at[i]->dyn : at[i]->guard;
        KVal *to = arg < KERNEL_MAX_ARGS ? &out->arg[arg] : arg == KERNEL_MAX_ARGS ? &out->dyn : &out->guard;
        if (!merge_value(m, used, to))
            return false;
    }
    return true;
}

static bool merge_regions(Merge *m, const KRegion *const *regions);

static bool merge_loop(Merge *m, const KInst *const *at)
{
    const KRegion **inner = ARENA_ARRAY(m->arena, const KRegion *, m->n);
    for (int32_t i = 0; i < m->n; i++)
        inner[i] = &at[i]->region;
    kb_loop(&m->b, at[0]->imm.i);
    bool ok = merge_regions(m, inner);
    kb_end(&m->b);
    return ok;
}

/* ids[i]: the instruction of part i. */
static bool merge_inst(Merge *m, const KVal *ids)
{
    const KInst **at = ARENA_ARRAY(m->arena, const KInst *, m->n);
    for (int32_t i = 0; i < m->n; i++)
        at[i] = &m->parts[i]->insts.at[ids[i]];
    if (!same_form(m, at))
        return false;
    if (at[0]->op == K_LOOP)
        return merge_loop(m, at);
    KInst out = *at[0];
    if (!merge_uses(m, at, &out))
        return false;
    if (has_address(&out))
        merge_address(m, at, &out);
    KVal v = kb_inst(&m->b, out);
    for (int32_t i = 0; i < m->n; i++)
        m->map[i][ids[i]] = v;
    return true;
}

/* Moves past constants. */
static bool next_inst(const Kernel *k, const KRegion *region, int32_t *at)
{
    while (*at < region->len && k->insts.at[region->at[*at]].op == K_CONST)
        ++*at;
    return *at < region->len;
}

static bool merge_regions(Merge *m, const KRegion *const *regions)
{
    int32_t *at = ARENA_ARRAY(m->arena, int32_t, m->n);
    KVal    *ids = ARENA_ARRAY(m->arena, KVal, m->n);
    for (;;) {
        bool more = next_inst(m->parts[0], regions[0], &at[0]);
        for (int32_t i = 1; i < m->n; i++)
            if (next_inst(m->parts[i], regions[i], &at[i]) != more)
                return differ(m, i, "the number of instructions");
        if (!more)
            return true;
        for (int32_t i = 0; i < m->n; i++)
            ids[i] = regions[i]->at[at[i]++];
        if (!merge_inst(m, ids))
            return false;
    }
}

/* ---- The whole --------------------------------------------------------------------------------------------------- */

/* With segments the chunks of a row follow from its extents; the parts must have been cut so. */
static bool same_chunks(Merge *m)
{
    for (int32_t i = 0; i < m->n && kernel_has_reduction(m->b.k); i++)
        if (kernel_chunks(m->b.k, i) != m->parts[i]->chunks)
            return differ(m, i, "chunks: those of one are not what its extents say");
    return true;
}

static bool merge_bodies(Merge *m)
{
    const KRegion **body = ARENA_ARRAY(m->arena, const KRegion *, m->n);
    const KRegion **final = ARENA_ARRAY(m->arena, const KRegion *, m->n);
    m->map = ARENA_ARRAY(m->arena, KVal *, m->n);
    for (int32_t i = 0; i < m->n; i++) {
        body[i] = &m->parts[i]->body;
        final[i] = &m->parts[i]->final;
        m->map[i] = ARENA_ARRAY(m->arena, KVal, m->parts[i]->insts.len + 1);
    }
    if (!merge_regions(m, body))
        return false;
    kb_final(&m->b);
    return merge_regions(m, final);
}

Kernel *kernel_merge_placed(Arena *a, Kernel *const *parts, int32_t n, const int64_t *base, const int64_t *elems,
                            const int64_t *index, const char **why)
{
    DT_ASSERT(n > 0, "a merge of %d kernels", n);
    Merge m = { .arena = a,
                .parts = parts,
                .n = n,
                .base = base,
                .index = index,
                .values = ARENA_ARRAY(a, int64_t, n),
                .floats = ARENA_ARRAY(a, float, n) };
    bool  ok = true;
    for (int32_t i = 0; i < n && ok; i++)
        ok = same_declarations(&m, i);
    if (ok) {
        Kernel *out = kernel_copy_head(a, parts[0]);
        if (n > 1)
            out->title = arena_printf(a, "%s and %d more", parts[0]->title, n - 1);
        for (int32_t i = 0; i < out->bufs.len; i++)
            out->bufs.at[i].elems = elems[i];
        m.b = kb_new(out);
        merge_axes(&m);
        ok = merge_bodies(&m);
        out->seg = make_table(&m);
        ok = ok && same_chunks(&m);
    }
    *why = m.why;
    return ok ? m.b.k : NULL;
}

Kernel *kernel_merge_segments(Arena *a, Kernel *const *parts, int32_t n, const int64_t *base, const int64_t *elems,
                              const char **why)
{
    return kernel_merge_placed(a, parts, n, base, elems, NULL, why);
}
