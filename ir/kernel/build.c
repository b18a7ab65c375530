/* build.c: making kernels: axes, buffers, instructions, and the numbers that follow from extents.
 *
 * A KBuilder appends to one region at a time. It merges equal pure instructions as it goes (also with those of the
 * enclosing regions, which come before and are in scope), so that rules of ops can be written without care for what
 * the op beside them has loaded or computed already.
 *
 * Tested by tests/unit/test_kernel_ir.c. */
#include <string.h>

#include "ir/kernel/kernel_priv.h"

/* ---- Addresses -------------------------------------------------------------------------------------------------- */

Affine affine_add(Affine a, Affine b)
{
    DT_ASSERT(a.seg_col < 0 || b.seg_col < 0, "segment columns %d and %d in one address", a.seg_col, b.seg_col);
    a.c0 += b.c0;
    a.seg_col = a.seg_col < 0 ? b.seg_col : a.seg_col;
    for (int i = 0; i < KERNEL_MAX_AXES; i++)
        a.coef[i] += b.coef[i];
    return a;
}

Affine affine_scale(Affine a, int64_t factor)
{
    DT_ASSERT(a.seg_col < 0, "segment column %d times %lld", a.seg_col, (long long)factor);
    a.c0 *= factor;
    for (int i = 0; i < KERNEL_MAX_AXES; i++)
        a.coef[i] *= factor;
    return a;
}

AffineRange kernel_affine_range(const Kernel *k, int32_t row, const Affine *a, int64_t *lo, int64_t *hi)
{
    int64_t low = a->c0;
    if (a->seg_col >= 0 && __builtin_add_overflow(low, k->seg.ints[row * k->seg.int_cols + a->seg_col], &low))
        return RANGE_OVERFLOW;
    int64_t high = low;
    for (int32_t i = 0; i < k->n_axes; i++) {
        if (a->coef[i] == 0)
            continue;
        int64_t extent = kernel_extent(k, i, row), reach;
        if (extent <= 0)
            return RANGE_EMPTY;
        if (__builtin_mul_overflow(a->coef[i], extent - 1, &reach))
            return RANGE_OVERFLOW;
        int64_t *end = reach < 0 ? &low : &high;
        if (__builtin_add_overflow(*end, reach, end))
            return RANGE_OVERFLOW;
    }
    *lo = low;
    *hi = high;
    return RANGE_OK;
}

/* ---- Extents and the shape of reductions ------------------------------------------------------------------------ */

int64_t kernel_extent(const Kernel *k, int32_t axis, int32_t row)
{
    const Axis *x = &k->axes[axis];
    return x->seg_col >= 0 ? k->seg.ints[row * k->seg.int_cols + x->seg_col] : x->extent;
}

bool kernel_has_reduction(const Kernel *k)
{
    for (int32_t i = 0; i < k->body.len; i++)
        if (kop_accumulates(k->insts.at[k->body.at[i]].op))
            return true;
    return false;
}

int64_t kernel_red_extent(const Kernel *k, int32_t row)
{
    int64_t r = 1;
    for (int32_t i = 0; i < k->n_axes; i++)
        if (k->axes[i].kind == AXIS_RED)
            r *= kernel_extent(k, i, row);
    return r;
}

static bool has_vec_par(const Kernel *k)
{
    return k->vec >= 0 && k->axes[k->vec].kind == AXIS_PAR;
}

/* What a run of columns leaves behind, one number for each accumulator and column, should stay small beside what it
 * reads. Many accumulators do not wait for each other: they need no lanes. */
enum { LEAST_RUN = 32, LEAST_RUN_EACH = 4, MANY_ACCUMULATORS = LEAST_RUN / LEAST_RUN_EACH };

static int32_t count_accumulators(const Kernel *k)
{
    int32_t n = 0;
    for (int32_t i = 0; i < k->body.len; i++)
        n += kop_accumulates(k->insts.at[k->body.at[i]].op);
    return n;
}

/* Neighbours along a line may share what they read, as windows do: a run is of whole lines of the innermost red axis,
 * where there are several and that makes it no more than twice as long. Whether the body reads windows must not matter:
 * what is fused with a sum would change its bits. */
static int64_t whole_lines(const Kernel *k, int32_t row, int64_t chunks)
{
    int64_t red = kernel_red_extent(k, row), line = 1;
    int32_t n = 0;
    for (int32_t i = 0; i < k->n_axes; i++)
        if (k->axes[i].kind == AXIS_RED) {
            line = kernel_extent(k, i, row);
            n++;
        }
    int64_t run = dt_ceil_div(red, dt_max64(1, chunks)), lines = dt_round_up(run, dt_max64(1, line));
    return n < 2 || lines > 2 * run ? chunks : dt_ceil_div(red, dt_max64(1, lines));
}

static int64_t chunks_by_rule(const Kernel *k, int32_t row)
{
    enum { ELEMS_OF_A_CHUNK = 4096, MOST_CHUNKS = 512 }; /* a GPU wants thousands of threads at work */
    int64_t c = has_vec_par(k) ? kernel_extent(k, k->vec, row) : 1, red = kernel_red_extent(k, row);
    int64_t chunks = dt_min64(dt_ceil_div(red * c, ELEMS_OF_A_CHUNK), MOST_CHUNKS);
    if (has_vec_par(k))
        chunks = dt_min64(chunks, dt_ceil_div(red, dt_max64(LEAST_RUN, LEAST_RUN_EACH * count_accumulators(k))));
    return dt_max64(1, has_vec_par(k) ? whole_lines(k, row, chunks) : chunks);
}

static int32_t lanes_by_rule(const Kernel *k)
{
    if (!has_vec_par(k))
        return 64;
    if (count_accumulators(k) > MANY_ACCUMULATORS)
        return 1;
    int64_t c = 0;
    for (int32_t row = 0; row < kernel_rows(k); row++)
        c = dt_max64(c, kernel_extent(k, k->vec, row));
    return c >= 64 ? 1 : c >= 32 ? 2 : c >= 16 ? 4 : 8;
}

void kernel_choose_reduction(Kernel *k)
{
    k->lanes = lanes_by_rule(k);
    k->chunks = 1;
    for (int32_t row = 0; row < kernel_rows(k); row++)
        k->chunks = dt_max64(k->chunks, chunks_by_rule(k, row));
}

int64_t kernel_chunks(const Kernel *k, int32_t row)
{
    return k->seg.rows > 0 ? chunks_by_rule(k, row) : k->chunks;
}

/* ---- Kernels ---------------------------------------------------------------------------------------------------- */

Kernel *kernel_new(Arena *a, const char *name, const char *title)
{
    Kernel *k = ARENA_NEW(a, Kernel);
    k->arena = a;
    k->name = arena_strdup(a, name);
    k->title = arena_strdup(a, title ? title : "");
    k->vec = -1;
    k->chunks = 1;
    k->lanes = 1;
    return k;
}

static const char *copy_text(Arena *a, const char *s)
{
    return s ? arena_strdup(a, s) : NULL;
}

static const char **copy_names(Arena *a, const char *const *names, int32_t n)
{
    const char **to = ARENA_ARRAY(a, const char *, n + 1);
    for (int32_t i = 0; i < n; i++)
        to[i] = arena_strdup(a, names[i]);
    return to;
}

static SegTable copy_segments(Arena *a, const SegTable *s)
{
    SegTable to = *s;
    if (s->rows == 0)
        return to;
    to.int_names = copy_names(a, s->int_names, s->int_cols);
    to.float_names = copy_names(a, s->float_names, s->float_cols);
    to.ints = arena_copy(a, s->ints, sizeof(int64_t) * (size_t)s->rows * (size_t)s->int_cols);
    to.floats = arena_copy(a, s->floats, sizeof(float) * (size_t)s->rows * (size_t)s->float_cols);
    return to;
}

Kernel *kernel_copy_head(Arena *a, const Kernel *k)
{
    Kernel *to = kernel_new(a, k->name, k->title);
    to->core = copy_text(a, k->core);
    to->loc = (Loc){ copy_text(a, k->loc.file), k->loc.line };
    to->vec = k->vec;
    to->chunks = k->chunks;
    to->lanes = k->lanes;
    to->seg = copy_segments(a, &k->seg);
    for (int32_t i = 0; i < k->n_axes; i++) {
        kernel_add_axis(to, k->axes[i].name, k->axes[i].extent, k->axes[i].kind);
        to->axes[i].seg_col = k->axes[i].seg_col;
    }
    for (int32_t i = 0; i < k->bufs.len; i++) {
        KBuf b = k->bufs.at[i];
        kernel_add_buf(to, b.name, b.dtype, b.elems, b.mode);
        to->bufs.at[i].stream = b.stream;
    }
    return to;
}

static bool axis_named(const Kernel *k, const char *name)
{
    for (int32_t i = 0; i < k->n_axes; i++)
        if (str_eq(k->axes[i].name, name))
            return true;
    return false;
}

static bool buf_named(const Kernel *k, const char *name)
{
    for (int32_t i = 0; i < k->bufs.len; i++)
        if (str_eq(k->bufs.at[i].name, name))
            return true;
    return false;
}

/* The name, or the name with the first number that makes it new. */
static const char *new_name(const Kernel *k, const char *name, bool (*taken)(const Kernel *k, const char *name))
{
    const char *fresh = arena_strdup(k->arena, name);
    for (int32_t i = 2; taken(k, fresh); i++)
        fresh = arena_printf(k->arena, "%s_%d", name, i);
    return fresh;
}

int32_t kernel_add_axis(Kernel *k, const char *name, int64_t extent, AxisKind kind)
{
    DT_ASSERT(k->n_axes < KERNEL_MAX_AXES, "kernel %s: no room for axis %s beside %d others", k->name, name, k->n_axes);
    k->axes[k->n_axes] = (Axis){ new_name(k, name, axis_named), extent, -1, kind };
    return k->n_axes++;
}

int32_t kernel_add_buf(Kernel *k, const char *name, DType dtype, int64_t elems, BufMode mode)
{
    KBuf b = { .name = new_name(k, name, buf_named), .dtype = dtype, .elems = elems, .mode = mode };
    vec_push(k->arena, &k->bufs, b);
    return k->bufs.len - 1;
}

KBuilder kb_new(Kernel *k)
{
    return (KBuilder){ .k = k, .region = &k->body };
}

void kb_final(KBuilder *b)
{
    DT_ASSERT(b->stack.len == 0, "kernel %s: final begins inside %d loops", b->k->name, b->stack.len);
    b->region = &b->k->final;
}

/* ---- Instructions ----------------------------------------------------------------------------------------------- */

/* May two equal instructions be one? Loads only from memory that the kernel never writes. */
static bool is_pure(const Kernel *k, const KInst *in)
{
    if (in->op == K_LOAD)
        return k->bufs.at[in->buf].mode == BUF_IN;
    return in->op != K_STORE && !kop_accumulates(in->op) && in->op != K_LOOP;
}

static bool same_inst(const KInst *x, const KInst *y)
{
    return x->op == y->op && x->type == y->type && memcmp(x->arg, y->arg, sizeof x->arg) == 0 && x->imm.u == y->imm.u &&
           x->buf == y->buf && x->dyn == y->dyn && x->guard == y->guard && x->addr.c0 == y->addr.c0 &&
           x->addr.seg_col == y->addr.seg_col && memcmp(x->addr.coef, y->addr.coef, sizeof x->addr.coef) == 0;
}

static KVal find_same(const Kernel *k, const KRegion *region, const KInst *in)
{
    for (int32_t i = region->len - 1; i >= 0; i--)
        if (same_inst(&k->insts.at[region->at[i]], in))
            return region->at[i];
    return KVAL_NONE;
}

/* Appends without looking for an equal one. */
static KVal append(KBuilder *b, KInst in)
{
    Kernel     *k = b->k;
    const char *why;
    in.type = kernel_infer(k, &in, &why);
    DT_ASSERT(why == NULL, "kernel %s: %s %s (arguments %d %d %d)", k->name, k_ops[in.op].text, why, in.arg[0],
              in.arg[1], in.arg[2]);
    vec_push(k->arena, &k->insts, in);
    vec_push(k->arena, b->region, k->insts.len - 1);
    return k->insts.len - 1;
}

KVal kb_inst(KBuilder *b, KInst in)
{
    if (!is_pure(b->k, &in))
        return append(b, in);
    const char *why;
    KInst       typed = in;
    typed.type = kernel_infer(b->k, &in, &why);
    KVal v = find_same(b->k, b->region, &typed);
    for (int32_t i = b->stack.len - 1; v == KVAL_NONE && i >= 0; i--)
        v = find_same(b->k, b->stack.at[i], &typed);
    return v != KVAL_NONE ? v : append(b, in);
}

static KVal emit_const(KBuilder *b, KType type, uint32_t bits)
{
    KInst in = kernel_inst(K_CONST);
    in.type = type;
    in.imm.u = bits;
    return kb_inst(b, in);
}

static KVal emit_args(KBuilder *b, KOp op, KType type, const KVal *arg, int32_t n)
{
    DT_ASSERT(k_ops[op].n_args == n, "%s takes %d arguments, not %d", k_ops[op].text, k_ops[op].n_args, n);
    KInst in = kernel_inst(op);
    in.type = type;
    memcpy(in.arg, arg, sizeof(KVal) * (size_t)n);
    return kb_inst(b, in);
}

KVal kb_f32(KBuilder *b, float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return emit_const(b, KT_F32, bits);
}

KVal kb_i32(KBuilder *b, int32_t i)
{
    return emit_const(b, KT_I32, (uint32_t)i);
}
KVal kb_u32(KBuilder *b, uint32_t u)
{
    return emit_const(b, KT_U32, u);
}

KVal kb_index(KBuilder *b, Affine a)
{
    KInst in = kernel_inst(K_INDEX);
    in.addr = a;
    return kb_inst(b, in);
}

KVal kb_segf(KBuilder *b, int32_t col)
{
    KInst in = kernel_inst(K_SEGF);
    in.imm.i = col;
    return kb_inst(b, in);
}

static KInst memory_inst(KOp op, int32_t buf, Affine addr, KVal dyn, KVal guard)
{
    KInst in = kernel_inst(op);
    DT_ASSERT(buf >= 0, "%s of buffer %d", k_ops[op].text, buf);
    in.buf = buf;
    in.addr = addr;
    in.dyn = dyn;
    in.guard = guard;
    return in;
}

KVal kb_load(KBuilder *b, int32_t buf, Affine addr)
{
    return kb_load_dyn(b, buf, addr, KVAL_NONE, KVAL_NONE);
}

KVal kb_load_dyn(KBuilder *b, int32_t buf, Affine addr, KVal dyn, KVal guard)
{
    return kb_inst(b, memory_inst(K_LOAD, buf, addr, dyn, guard));
}

void kb_store(KBuilder *b, int32_t buf, Affine addr, KVal v)
{
    kb_store_dyn(b, buf, addr, KVAL_NONE, KVAL_NONE, v);
}

void kb_store_dyn(KBuilder *b, int32_t buf, Affine addr, KVal dyn, KVal guard, KVal v)
{
    KInst in = memory_inst(K_STORE, buf, addr, dyn, guard);
    in.arg[0] = v;
    kb_inst(b, in);
}

KVal kb_op1(KBuilder *b, KOp op, KVal x)
{
    return emit_args(b, op, KT_NONE, (KVal[]){ x }, 1);
}
KVal kb_op2(KBuilder *b, KOp op, KVal x, KVal y)
{
    return emit_args(b, op, KT_NONE, (KVal[]){ x, y }, 2);
}
KVal kb_op3(KBuilder *b, KOp op, KVal x, KVal y, KVal z)
{
    return emit_args(b, op, KT_NONE, (KVal[]){ x, y, z }, 3);
}

KVal kb_cvt(KBuilder *b, KType to, KVal x)
{
    return b->k->insts.at[x].type == to ? x : emit_args(b, K_CVT, to, (KVal[]){ x }, 1);
}

KVal kb_bitcast(KBuilder *b, KType to, KVal x)
{
    return b->k->insts.at[x].type == to ? x : emit_args(b, K_BITCAST, to, (KVal[]){ x }, 1);
}

KVal kb_philox(KBuilder *b, KVal seed_lo, KVal seed_hi, KVal stream, KVal substream, KVal index)
{
    return emit_args(b, K_PHILOX, KT_NONE, (KVal[]){ seed_lo, seed_hi, stream, substream, index }, 5);
}

KVal kb_acc(KBuilder *b, KAcc how, KVal v)
{
    KInst in = kernel_inst(K_ACC);
    in.arg[0] = v;
    in.imm.i = how;
    return kb_inst(b, in);
}

KVal kb_dot(KBuilder *b, KVal x, KVal y)
{
    return kb_op2(b, K_DOT, x, y);
}

/* The region of an open loop lives apart: the instructions, which would hold it, move as they grow. */
void kb_loop(KBuilder *b, int32_t axis)
{
    DT_ASSERT(axis >= 0 && axis < b->k->n_axes && b->k->axes[axis].kind == AXIS_SEQ,
              "loop over axis %d, not a seq axis", axis);
    KInst in = kernel_inst(K_LOOP);
    in.imm.i = axis;
    append(b, in);
    vec_push(b->k->arena, &b->stack, b->region);
    b->region = ARENA_NEW(b->k->arena, KRegion);
}

void kb_end(KBuilder *b)
{
    DT_ASSERT(b->stack.len > 0, "kernel %s: end without a loop", b->k->name);
    KRegion *outer = b->stack.at[--b->stack.len];
    b->k->insts.at[outer->at[outer->len - 1]].region = *b->region;
    b->region = outer;
}
