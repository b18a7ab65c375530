/* kernel_generator.h: random kernels that kernel_verify() accepts and that never leave their buffers.
 *
 * A kernel is a function of its seed: shapes (maps, full and partial reductions, segment tables, with and without a vec
 * axis), odd extents, loads of all element types by all kinds of addresses (contiguous, strided, shared, padded by a
 * guard, computed), seq loops, stores, accumulators, a final body. Bits of NaN never become visible: what is bitcast is
 * no NaN. */
#ifndef DETENT_KERNEL_GENERATOR_H
#define DETENT_KERNEL_GENERATOR_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/kernel/kernel.h"

typedef struct GenRng {
    uint64_t seed, n;
} GenRng;

static inline uint32_t gen_u32(GenRng *r)
{
    return rng_u32(r->seed, 7, 0, r->n++);
}
static inline uint32_t gen_below(GenRng *r, uint32_t n)
{
    return n ? (uint32_t)((uint64_t)gen_u32(r) * n >> 32) : 0;
}
static inline bool gen_one_in(GenRng *r, uint32_t n)
{
    return gen_below(r, n) == 0;
}

enum { GEN_POOL = 96, GEN_BUFS = 24, COL_LEN = 0, COL_BASE = 1, COL_FINAL = 2, COL_ROW = 3 };

typedef struct Gen {
    GenRng   r;
    Arena   *a;
    Kernel  *k;
    KBuilder b;
    int32_t  open[KERNEL_MAX_AXES], n_open; /* axes that addresses may use, the vec axis last */
    int32_t  seq[2], n_seq;
    int64_t  most[KERNEL_MAX_AXES]; /* extents, the greatest of all rows */
    bool     in_final;
    KVal     pool[KT_BOOL + 1][GEN_POOL]; /* values in sight by type */
    int32_t  len[KT_BOOL + 1];
} Gen;

static inline void gen_push(Gen *g, KVal v)
{
    KType t = g->k->insts.at[v].type;
    if (t != KT_NONE && g->len[t] < GEN_POOL)
        g->pool[t][g->len[t]++] = v;
}

/* Recent values are likelier. */
static inline KVal gen_pick(Gen *g, KType t)
{
    int32_t n = g->len[t], from = n > 6 && !gen_one_in(&g->r, 3) ? n - 6 : 0;
    return g->pool[t][from + (int32_t)gen_below(&g->r, (uint32_t)(n - from))];
}

/* ---- Addresses -------------------------------------------------------------------------------------------------- */

/* Row-major over the axes in `axes`; *elems: past the last element. */
static inline Affine gen_dense(Gen *g, const int32_t *axes, int32_t n, int64_t *elems)
{
    Affine at = affine_const(0);
    *elems = 1;
    for (int32_t i = n - 1; i >= 0; i--) {
        at.coef[axes[i]] = *elems;
        *elems *= dt_max64(1, g->most[axes[i]]);
    }
    return at;
}

/* Moves the address by a constant and, with segments, by the row's base. */
static inline Affine gen_place(Gen *g, Affine at, int64_t *elems)
{
    int64_t shift = gen_one_in(&g->r, 3) ? gen_below(&g->r, 9) : 0;
    at.c0 += shift;
    *elems += shift + gen_below(&g->r, 3);
    if (g->k->seg.rows > 0) {
        at.seg_col = g->in_final ? COL_FINAL : COL_BASE;
        int64_t most = 0;
        for (int32_t row = 0; row < g->k->seg.rows; row++)
            most = dt_max64(most, g->k->seg.ints[row * g->k->seg.int_cols + at.seg_col]);
        *elems += most;
    }
    return at;
}

/* All open axes, for stores: every point has a place of its own. */
static inline Affine gen_own(Gen *g, int64_t *elems)
{
    int32_t axes[KERNEL_MAX_AXES];
    memcpy(axes, g->open, sizeof axes);
    if (gen_one_in(&g->r, 6) && g->n_open > 1) { /* the vec axis is not the one of stride 1 */
        int32_t t = axes[0];
        axes[0] = axes[g->n_open - 1];
        axes[g->n_open - 1] = t;
    }
    Affine at = gen_dense(g, axes, g->n_open, elems);
    return gen_place(g, at, elems);
}

/* ---- Loads ------------------------------------------------------------------------------------------------------ */

static inline int32_t gen_buf(Gen *g, DType t, int64_t elems, BufMode mode)
{
    return kernel_add_buf(g->k, arena_printf(g->a, "b%d", g->k->bufs.len), t, elems, mode);
}

static inline DType gen_dtype(Gen *g)
{
    return gen_one_in(&g->r, 2) ? DTYPE_F32 : (DType)gen_below(&g->r, DTYPE_COUNT);
}

/* One of the axes moves by -shift, guarded at both ends. */
static inline void gen_padded_load(Gen *g, DType t, Affine at, int64_t elems)
{
    int32_t axis = g->open[gen_below(&g->r, (uint32_t)g->n_open)];
    int64_t shift = gen_below(&g->r, 4);
    Affine  moved = affine_axis(axis, 1);
    moved.c0 = -shift;
    KVal index = kb_index(&g->b, moved),
         extent = kb_i32(&g->b, (int32_t)(g->most[axis] - (int64_t)gen_below(&g->r, 2)));
    KVal guard = kb_op2(&g->b, K_AND, kb_op2(&g->b, K_GE, index, kb_i32(&g->b, 0)), kb_op2(&g->b, K_LT, index, extent));
    at.c0 -= shift * at.coef[axis];
    gen_push(g, guard);
    gen_push(g, kb_load_dyn(&g->b, gen_buf(g, t, elems, BUF_IN), at, KVAL_NONE, guard));
}

static inline void gen_load(Gen *g)
{
    if (g->k->bufs.len >= GEN_BUFS)
        return;
    DType   t = gen_dtype(g);
    int64_t elems;
    int32_t n = g->n_open;
    KVal    guard = gen_one_in(&g->r, 8) ? gen_pick(g, KT_BOOL) : KVAL_NONE, dyn = KVAL_NONE;
    Affine  at = gen_dense(g, g->open, n, &elems);
    switch (gen_below(&g->r, 12)) {
    case 0: /* the fastest axis alone */
        at = gen_dense(g, g->open + (n > 0 ? n - 1 : 0), n > 0 ? 1 : 0, &elems);
        break;
    case 1: /* the others */
        at = gen_dense(g, g->open, n > 0 ? n - 1 : 0, &elems);
        break;
    case 2: /* one element */
        at = affine_const(0);
        elems = 1;
        break;
    case 3: /* every second */
        at = affine_scale(at, 2);
        elems *= 2;
        break;
    case 4: { /* backwards */
        for (int32_t i = 0; i < KERNEL_MAX_AXES; i++)
            at.coef[i] = -at.coef[i];
        at.c0 = elems - 1;
        break;
    }
    case 5: { /* computed */
        int32_t most = 1 + (int32_t)gen_below(&g->r, 20);
        dyn = kb_op2(&g->b, K_REM, gen_pick(g, KT_I32), kb_i32(&g->b, most));
        elems += most;
        break;
    }
    case 6:
        if (n > 0) {
            at = gen_place(g, at, &elems);
            gen_padded_load(g, t, at, elems);
            return;
        }
        break;
    default:
        break;
    }
    at = gen_place(g, at, &elems);
    gen_push(g, kb_load_dyn(&g->b, gen_buf(g, t, elems, BUF_IN), at, dyn, guard));
}

/* ---- Values ----------------------------------------------------------------------------------------------------- */

static inline void gen_consts(Gen *g)
{
    static const float floats[] = {
        0.0f, 1.0f, -1.0f, 0.5f, 15.0f, -8.0f, 127.0f, 1e-3f, 3e9f, -0.0f, INFINITY, 255.5f
    };
    static const int32_t ints[] = { 0, 1, -1, 3, 7, -8, 255, 1 << 20, INT32_MIN, INT32_MAX };
    for (int i = 0; i < 3; i++) {
        gen_push(g, kb_f32(&g->b, floats[gen_below(&g->r, DT_COUNT(floats))]));
        gen_push(g, kb_i32(&g->b, ints[gen_below(&g->r, DT_COUNT(ints))]));
    }
    gen_push(g, kb_u32(&g->b, gen_u32(&g->r) >> gen_below(&g->r, 32)));
    gen_push(g, kb_op2(&g->b, K_LT, gen_pick(g, KT_F32), gen_pick(g, KT_F32)));
    if (g->k->seg.rows > 0)
        gen_push(g, kb_segf(&g->b, 0));
}

/* A clip with constant limits, as quantizers have. */
static inline KVal gen_clip(Gen *g)
{
    static const float limits[][2] = { { 0, 15 },       { -8, 7 },       { 0, 255 }, { -2, 1 },
                                       { -1e9f, 1e9f }, { -3e9f, 3e9f }, { 0, 1 } };
    const float       *l = limits[gen_below(&g->r, DT_COUNT(limits))];
    KVal               x = gen_pick(g, KT_F32), lo = kb_f32(&g->b, l[0]), hi = kb_f32(&g->b, l[1]);
    bool               flip = gen_one_in(&g->r, 3);
    x = flip ? kb_op2(&g->b, K_MAX, lo, x) : kb_op2(&g->b, K_MAX, x, lo);
    x = gen_one_in(&g->r, 4) ? kb_op2(&g->b, K_MIN, hi, x) : kb_op2(&g->b, K_MIN, x, hi);
    return kb_op1(&g->b, K_RINT, x);
}

static inline KVal gen_index(Gen *g)
{
    int64_t elems;
    Affine  at = gen_dense(g, g->open, g->n_open, &elems);
    if (g->k->seg.rows > 0 && gen_one_in(&g->r, 2))
        at.seg_col = COL_ROW;
    return kb_index(&g->b, at);
}

static inline void gen_value(Gen *g)
{
    static const KOp two_f[] = { K_ADD, K_SUB, K_MUL, K_DIV, K_MIN, K_MAX, K_ADD, K_MUL };
    static const KOp one_f[] = { K_NEG, K_ABS, K_RINT, K_FLOOR, K_SQRT, K_EXP, K_LOG, K_NEG };
    static const KOp two_i[] = { K_ADD, K_SUB, K_MUL, K_DIV, K_REM, K_MIN, K_MAX, K_AND, K_OR, K_XOR, K_SHL, K_SHR };
    static const KOp cmp[] = { K_LT, K_LE, K_GT, K_GE, K_EQ, K_NE };
    static const KOp logic[] = { K_AND, K_OR, K_XOR };
    KBuilder        *b = &g->b;
    GenRng          *r = &g->r;
    KType            i = gen_one_in(r, 3) ? KT_U32 : KT_I32, any = (KType)(1 + gen_below(r, 4));
    KVal             v;
    switch (gen_below(r, 17)) {
    case 0:
    case 1:
    case 2:
        v = kb_op2(b, two_f[gen_below(r, DT_COUNT(two_f))], gen_pick(g, KT_F32), gen_pick(g, KT_F32));
        break;
    case 3:
        v = kb_op1(b, one_f[gen_below(r, DT_COUNT(one_f))], gen_pick(g, KT_F32));
        break;
    case 4:
        v = kb_op3(b, K_FMA, gen_pick(g, KT_F32), gen_pick(g, KT_F32), gen_pick(g, KT_F32));
        break;
    case 5:
    case 6:
        v = kb_op2(b, two_i[gen_below(r, DT_COUNT(two_i))], gen_pick(g, i), gen_pick(g, i));
        break;
    case 7:
        v = kb_op1(b, gen_one_in(r, 2) ? K_NOT : K_NEG, gen_pick(g, i));
        break;
    case 8:
        any = any == KT_BOOL ? KT_F32 : any;
        v = kb_op2(b, cmp[gen_below(r, DT_COUNT(cmp))], gen_pick(g, any), gen_pick(g, any));
        break;
    case 9:
        v = gen_one_in(r, 3) ? kb_op1(b, K_NOT, gen_pick(g, KT_BOOL))
                             : kb_op2(b, logic[gen_below(r, 3)], gen_pick(g, KT_BOOL), gen_pick(g, KT_BOOL));
        break;
    case 10:
        v = kb_op3(b, K_SELECT, gen_pick(g, KT_BOOL), gen_pick(g, any), gen_pick(g, any));
        break;
    case 11:
        v = kb_cvt(b, (KType)(KT_F32 + gen_below(r, 3)), gen_pick(g, any));
        break;
    case 12: {
        KVal x = gen_pick(g, KT_F32);
        x = kb_op3(b, K_SELECT, kb_op2(b, K_EQ, x, x), x, kb_f32(b, 0));
        v = kb_bitcast(b, i, x);
        break;
    }
    case 13:
        v = gen_index(g);
        break;
    case 14:
        v = gen_one_in(r, 2) ? kb_philox(b, gen_pick(g, KT_U32), gen_pick(g, KT_U32), gen_pick(g, KT_U32),
                                         gen_pick(g, KT_U32), kb_cvt(b, KT_U32, gen_index(g)))
                             : kb_op3(b, K_FMA, gen_pick(g, KT_F32), gen_pick(g, KT_F32), gen_pick(g, KT_F32));
        break;
    default:
        v = gen_one_in(r, 2) ? gen_clip(g) : kb_cvt(b, KT_I32, gen_clip(g));
    }
    gen_push(g, v);
}

static inline void gen_values(Gen *g, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (gen_one_in(&g->r, 4))
            gen_load(g);
        gen_value(g);
    }
}

/* ---- Stores, accumulators, loops -------------------------------------------------------------------------------- */

static inline void gen_store(Gen *g)
{
    DType   t = (DType)gen_below(&g->r, DTYPE_COUNT);
    KType   v = t == DTYPE_F32 ? KT_F32 : t == DTYPE_U32 ? KT_U32 : t == DTYPE_B1 ? KT_BOOL : KT_I32;
    bool    update = gen_one_in(&g->r, 4);
    int64_t elems;
    Affine  at = gen_own(g, &elems);
    if (g->k->bufs.len >= 30)
        return;
    int32_t buf = gen_buf(g, t, elems, update ? BUF_INOUT : BUF_OUT);
    g->k->bufs.at[buf].stream = gen_one_in(&g->r, 3);
    if (update) {
        gen_push(g, kb_load(&g->b, buf, at));
        gen_value(g);
    }
    KVal guard = gen_one_in(&g->r, 5) ? gen_pick(g, KT_BOOL) : KVAL_NONE;
    kb_store_dyn(&g->b, buf, at, KVAL_NONE, guard, gen_pick(g, v));
}

static inline KVal gen_acc(Gen *g)
{
    KType t = gen_one_in(&g->r, 4) ? KT_I32 : KT_F32;
    if (t == KT_F32 && gen_one_in(&g->r, 4)) {
        KVal x = gen_pick(g, KT_F32);
        return kb_dot(&g->b, x, gen_pick(g, KT_F32));
    }
    return kb_acc(&g->b, gen_one_in(&g->r, 2) ? KACC_SUM : (KAcc)gen_below(&g->r, 3), gen_pick(g, t));
}

static inline void gen_loop(Gen *g, int32_t depth)
{
    int32_t axis = g->seq[depth], len[KT_BOOL + 1];
    KVal    acc[3];
    int32_t n_acc = 1 + (int32_t)gen_below(&g->r, 2);
    memcpy(len, g->len, sizeof len);
    kb_loop(&g->b, axis);
    memmove(g->open + 1, g->open, sizeof *g->open * (size_t)g->n_open++);
    g->open[0] = axis;
    gen_load(g);
    gen_values(g, 2 + (int32_t)gen_below(&g->r, 3));
    if (depth + 1 < g->n_seq && gen_one_in(&g->r, 2))
        gen_loop(g, depth + 1);
    gen_values(g, 1);
    for (int32_t i = 0; i < n_acc; i++)
        acc[i] = gen_acc(g);
    if (gen_one_in(&g->r, 3))
        gen_store(g);
    kb_end(&g->b);
    memmove(g->open, g->open + 1, sizeof *g->open * (size_t)--g->n_open);
    memcpy(g->len, len, sizeof len);
    for (int32_t i = 0; i < n_acc; i++)
        gen_push(g, acc[i]);
}

/* ---- Kernels ---------------------------------------------------------------------------------------------------- */

/* Axes from the outermost to the innermost: p par, r red; a capital letter is the vec axis; * takes its extent from
 * the segment table. */
static const char *const gen_shapes[] = { "P",  "P",   "pP", "pP", "ppP", "pPp", "p",    "pp",   "R",   "R",   "R",
                                          "pR", "ppR", "rP", "rP", "rrP", "prP", "prrP", "pprP", "rR",  "rpP", "r",
                                          "pr", "P*",  "P*", "R*", "R*",  "pR*", "pP*",  "rP*",  "r*P", "Rp",  "pPr" };

static inline int64_t    gen_extent(Gen *g, bool large)
{
    static const int64_t round[] = { 1, 8, 16, 32, 64, 48, 24, 4, 2, 128 };
    if (large && gen_one_in(&g->r, 3))
        return 500 + gen_below(&g->r, 9000);
    return gen_one_in(&g->r, 3) ? round[gen_below(&g->r, DT_COUNT(round))] : 1 + gen_below(&g->r, 70);
}

static inline void gen_segments(Gen *g, bool large)
{
    SegTable *s = &g->k->seg;
    *s = (SegTable){ .rows = 1 + (int32_t)gen_below(&g->r, 4), .int_cols = 4, .float_cols = 1 };
    s->int_names = ARENA_ARRAY(g->a, const char *, 4);
    memcpy(s->int_names, (const char *[]){ "len", "base", "out", "row" }, sizeof(const char *) * 4);
    s->float_names = ARENA_ARRAY(g->a, const char *, 1);
    s->float_names[0] = "scale";
    s->ints = ARENA_ARRAY(g->a, int64_t, s->rows * 4);
    s->floats = ARENA_ARRAY(g->a, float, s->rows);
    for (int32_t row = 0; row < s->rows; row++) {
        s->ints[row * 4 + COL_LEN] = gen_one_in(&g->r, 8) ? 0 : gen_extent(g, large);
        s->ints[row * 4 + COL_ROW] = row;
        s->floats[row] = (float)row * 1.5f - 1.0f;
    }
}

/* Where the rows' elements begin, now that all extents are known (stores inside loops use the seq axes, too). */
static inline void gen_bases(Gen *g)
{
    SegTable *s = &g->k->seg;
    int64_t   all = 1, par = 1;
    for (int32_t i = 0; i < g->k->n_axes; i++) {
        all *= g->most[i];
        par *= g->k->axes[i].kind != AXIS_RED ? g->most[i] : 1;
    }
    int64_t gap = gen_below(&g->r, 9);
    for (int32_t row = 0; row < s->rows; row++) {
        s->ints[row * 4 + COL_BASE] = row * (all + gap);
        s->ints[row * 4 + COL_FINAL] = row * (par + gap);
    }
}

static inline void gen_axes(Gen *g, const char *shape)
{
    int64_t points = 1, extents[2 * KERNEL_MAX_AXES];
    if (strchr(shape, '*'))
        gen_segments(g, strlen(shape) == 2);                    /* the only axis */
    for (int32_t i = (int32_t)strlen(shape) - 1; i >= 0; i--) { /* inner axes take what they like first */
        extents[i] = gen_extent(g, strlen(shape) == 1 || shape[i] == 'r' || shape[i] == 'R');
        while (points * extents[i] > 10000)
            extents[i] = (extents[i] + 1) / 2;
        points *= shape[i] == '*' ? 1 : extents[i];
    }
    for (const char *s = shape; *s; s++) {
        if (*s == '*')
            continue;
        bool    red = *s == 'r' || *s == 'R', vec = *s == 'P' || *s == 'R';
        int64_t extent = extents[s - shape];
        int32_t axis =
            kernel_add_axis(g->k, arena_printf(g->a, "a%d", g->k->n_axes), extent, red ? AXIS_RED : AXIS_PAR);
        if (s[1] == '*') {
            g->k->axes[axis].seg_col = COL_LEN;
            for (int32_t row = 0; row < g->k->seg.rows; row++)
                extent = dt_max64(row ? extent : 1, g->k->seg.ints[row * 4 + COL_LEN]);
        }
        g->most[axis] = extent;
        g->k->vec = vec ? axis : g->k->vec;
    }
    for (int32_t i = 0; i < 2; i++) {
        bool    small = i > 0 || g->k->seg.rows > 0;
        int64_t extent = small                  ? 1 + gen_below(&g->r, 3)
                         : gen_one_in(&g->r, 5) ? 17 + gen_below(&g->r, 4)
                                                : 1 + gen_below(&g->r, 6);
        g->seq[i] = kernel_add_axis(g->k, i ? "s1" : "s0", extent, AXIS_SEQ);
        g->most[g->seq[i]] = extent;
    }
    g->n_seq = 2;
    if (g->k->seg.rows > 0)
        gen_bases(g);
}

/* Open axes: par and, in the body, red ones; the vec axis last. */
static inline void gen_open(Gen *g)
{
    g->n_open = 0;
    for (int32_t i = 0; i < g->k->n_axes; i++)
        if (i != g->k->vec && (g->k->axes[i].kind == AXIS_PAR || (g->k->axes[i].kind == AXIS_RED && !g->in_final)))
            g->open[g->n_open++] = i;
    if (g->k->vec >= 0 && (g->k->axes[g->k->vec].kind == AXIS_PAR || !g->in_final))
        g->open[g->n_open++] = g->k->vec;
}

static inline void gen_reduction(Gen *g)
{
    kernel_choose_reduction(g->k);
    if (gen_one_in(&g->r, 2))
        return;
    g->k->lanes = 1 << gen_below(&g->r, 8);
    g->k->chunks = g->k->seg.rows > 0 ? g->k->chunks : 1 + gen_below(&g->r, 6);
}

static inline void gen_body(Gen *g, bool reduces)
{
    KVal    acc[3];
    int32_t n_acc = reduces ? 1 + (int32_t)gen_below(&g->r, 3) : 0;
    gen_open(g);
    gen_consts(g);
    gen_load(g);
    gen_values(g, 3 + (int32_t)gen_below(&g->r, 8));
    if (gen_one_in(&g->r, 3))
        gen_loop(g, 0);
    gen_values(g, 2 + (int32_t)gen_below(&g->r, 6));
    if (!reduces || gen_one_in(&g->r, 2))
        gen_store(g);
    gen_values(g, 1 + (int32_t)gen_below(&g->r, 4));
    if (!reduces || gen_one_in(&g->r, 3))
        gen_store(g);
    for (int32_t i = 0; i < n_acc; i++)
        acc[i] = gen_acc(g);
    if (!reduces)
        return;
    kb_final(&g->b);
    g->in_final = true;
    memset(g->len, 0, sizeof g->len);
    gen_open(g);
    gen_consts(g);
    for (int32_t i = 0; i < n_acc; i++)
        gen_push(g, acc[i]);
    for (int32_t i = 0; i < n_acc; i++) {
        int64_t elems;
        Affine  at = gen_own(g, &elems);
        DType   t = g->k->insts.at[acc[i]].type == KT_F32 ? DTYPE_F32 : DTYPE_I32;
        kb_store(&g->b, gen_buf(g, t, elems, BUF_OUT), at, acc[i]);
    }
    gen_values(g, 1 + (int32_t)gen_below(&g->r, 4));
    if (gen_one_in(&g->r, 4))
        gen_loop(g, 0);
    gen_store(g);
}

static inline Kernel *gen_kernel(Arena *a, uint64_t seed)
{
    Gen         g = { .r = { seed * 977 + 13, 0 }, .a = a };
    const char *shape = gen_shapes[gen_below(&g.r, DT_COUNT(gen_shapes))];
    bool        reduces = strpbrk(shape, "rR") && !gen_one_in(&g.r, 8);
    g.k = kernel_new(a, arena_printf(a, "g%llu", (unsigned long long)seed), shape);
    g.b = kb_new(g.k);
    gen_axes(&g, shape);
    if (reduces)
        gen_reduction(&g);
    gen_body(&g, reduces);
    return g.k;
}

/* Many of them, in batches; environment variables DT_KERNELS and DT_SEED choose more, or others. */
static inline void gen_kernels(int64_t count, void (*check)(Arena *a, Kernel *const *kernels, int32_t n, uint32_t most))
{
    enum { BATCH = 40 };
    const char *told = getenv("DT_KERNELS"), *first = getenv("DT_SEED");
    uint64_t    seed = first ? strtoull(first, NULL, 10) : 1;
    for (int64_t left = told ? strtoll(told, NULL, 10) : count; left > 0; left -= BATCH, seed += BATCH) {
        Arena   a = arena_new("generated");
        Kernel *kernels[BATCH];
        int32_t n = (int32_t)dt_min64(left, BATCH);
        for (int32_t i = 0; i < n; i++)
            kernels[i] = gen_kernel(&a, seed + (uint64_t)i);
        check(&a, kernels, n, 0);
        arena_free(&a);
    }
}

#endif
