/* lower_kernel.c: one fused group becomes one kernel.
 *
 * Axes are the dimensions of the group's space in memory order, the contiguous one last and walked by vectors. Values
 * of the space's shape are computed in the body; sums run over the dimensions that the reductions do not keep; values
 * of the kept shape are computed at the end. Scalar rules come from the op table (ir/body.c); this file only says where
 * operands lie: a broadcast operand simply does not move along some axes.
 *
 * Tested by tests/unit/test_lower.c (each kernel against the ops one by one) and the op matrix. */
#include "passes/fuse.h"
#include "passes/lower.h"

#include <string.h>

enum { LOWER_EXACT = 1 << 22 }; /* elements whose output is found in single precision, see lower_output() */

typedef struct LowerBuf {
    Place   place;
    ValueId v;
} LowerBuf;

typedef struct LowerCtx {
    PassCtx     *c;
    const Graph *g;
    Part         part;
    Kernel      *k;
    KBuilder     b;
    Space        space;
    LowerForm    form;
    int32_t      kept_dim;          /* of the space: the one that rank-1 results run along */
    int32_t      axis[DT_MAX_RANK]; /* of a logical dimension of the space */
    bool         in_final;
    KVal        *body_val, *final_val; /* by value; KVAL_NONE: not there */
    KVal (*sums)[2];                   /* by value: a reduction's sums */
    KVal *fold;                        /* a fold's sums, by tap */
    VEC(LowerBuf) bufs;
    BodyCtx body;
    bool    loop_axis_used[KERNEL_MAX_AXES];
} LowerCtx;

/* ---- Axes -------------------------------------------------------------------------------------------------------- */

static bool part_has(const LowerCtx *l, ValueId v)
{
    for (int32_t i = 0; i < l->part.n; i++)
        if (l->part.at[i] == v)
            return true;
    return false;
}

/* Which logical dimensions of the space the reductions keep; all, when there are none. */
static void lower_kept_dims(const LowerCtx *l, bool kept[DT_MAX_RANK])
{
    for (int32_t d = 0; d < DT_MAX_RANK; d++)
        kept[d] = true;
    for (int32_t i = 0; i < l->part.n; i++) {
        ValueId v = l->part.at[i];
        for (int32_t d = 0; d < DT_MAX_RANK && ir_has(l->g, v, T_FOLD); d++)
            kept[d] = d == 1;
        if (!ir_has(l->g, v, T_REDUCE))
            continue;
        Shape s = ir_value(l->g, v)->type.shape;
        for (int32_t d = 0; d < l->space.shape.rank; d++)
            kept[d] = s.rank == 1 ? d == l->kept_dim : d < s.rank && s.dim[d] == l->space.shape.dim[d] && s.dim[d] > 1;
        return;
    }
}

/* Rank-1 results of the group: one number for each output of a weight, or for each channel. */
static int32_t lower_kept_dim(const Graph *g, Part part)
{
    for (int32_t i = 0; i < part.n; i++)
        if (ir_has(g, part.at[i], T_REDUCE) && ir_value(g, part.at[i])->type.shape.rank == 1)
            return str_eq(fuse_keep(g, part.at[i]), "o") ? 0 : 1;
    return 1;
}

static bool lower_reduces(const LowerCtx *l)
{
    for (int32_t i = 0; i < l->part.n; i++)
        if (ir_has(l->g, l->part.at[i], T_REDUCE | T_FOLD))
            return true;
    return false;
}

static bool lower_has_red_axis(const Kernel *k)
{
    for (int32_t i = 0; i < k->n_axes; i++)
        if (k->axes[i].kind == AXIS_RED)
            return true;
    return false;
}

static void lower_axes(LowerCtx *l)
{
    static const char *const names[4] = { "n", "c", "h", "w" };
    static const int32_t     nhwc[4] = { 0, 2, 3, 1 };
    bool                     kept[DT_MAX_RANK];
    Shape                    s = l->space.shape;
    lower_kept_dims(l, kept);
    if (l->form != LOWER_AXES || s.rank == 0) {
        int64_t n = l->form == LOWER_ROW ? shape_elems(s) / s.dim[0] : shape_elems(s);
        l->k->vec = kernel_add_axis(l->k, "i", n, lower_reduces(l) ? AXIS_RED : AXIS_PAR);
        return;
    }
    for (int32_t i = 0; i < s.rank; i++) {
        int32_t d = l->space.layout == LAYOUT_NHWC ? nhwc[i] : i;
        l->axis[d] = kernel_add_axis(l->k, names[d], s.dim[d], kept[d] ? AXIS_PAR : AXIS_RED);
        l->k->vec = l->axis[d]; /* the last one is contiguous */
    }
    if (lower_reduces(l) && !lower_has_red_axis(l->k))
        kernel_add_axis(l->k, "one", 1, AXIS_RED); /* every dimension is kept: sums of one */
}

/* ---- Operands
 * -------------------------------------------------------------------------------------------------------- */

static int32_t lower_buf(LowerCtx *l, ValueId v, BufMode mode)
{
    const Value *val = ir_value(l->g, v);
    for (int32_t i = 0; i < l->bufs.len; i++) {
        Place p = l->bufs.at[i].place;
        if (p.kind == val->place.kind && p.offset == val->place.offset) {
            if (l->k->bufs.at[i].mode != mode)
                l->k->bufs.at[i].mode = BUF_INOUT; /* updated in place */
            return i;
        }
    }
    DT_ASSERT(val->place.kind != MEM_NONE, "value %%%d (%s) has no place", v, ir_ops[val->op].text);
    vec_push(l->c->scratch, &l->bufs, (LowerBuf){ val->place, v });
    const char *name = arena_printf(l->k->arena, "%s%d", mode == BUF_IN ? "x" : "y", l->bufs.len - 1);
    return kernel_add_buf(l->k, name, val->type.dtype, shape_elems(val->type.shape), mode);
}

/* A number for each output or channel of a larger space. */
static bool lower_is_vector(const LowerCtx *l, Type t)
{
    return t.shape.rank == 1 && l->space.shape.rank > 1;
}

/* Address of operand x of an op whose own shape is `shape`, at the current point. */
static Affine lower_address(const LowerCtx *l, ValueId user, ValueId x, Shape shape)
{
    Type   t = ir_value(l->g, x)->type;
    Affine at = affine_const(0);
    if (t.shape.rank == 0 || (l->form == LOWER_ROW && lower_is_vector(l, t)))
        return at;
    if (l->form != LOWER_AXES)
        return affine_axis(0, 1);
    if (lower_is_vector(l, t)) {
        int32_t d = shape.rank > 1 ? fuse_vector_dim(l->g, user) : l->kept_dim;
        return affine_axis(l->axis[d], 1);
    }
    for (int32_t d = 0; d < t.shape.rank; d++)
        if (t.shape.dim[d] > 1)
            at = affine_add(at, affine_axis(l->axis[d], type_stride(t, d)));
    return at;
}

static KVal lower_value(LowerCtx *l, ValueId v);

static bool lower_is_kept_value(const LowerCtx *l, ValueId v)
{
    if (ir_has(l->g, v, T_REDUCE | T_FOLD))
        return true;
    return !shape_eq(ir_value(l->g, v)->type.shape, l->space.shape);
}

/* FLAT: which output of the weight the current element belongs to, i / each: as floor((i + 1/2) (1 / each)) where that
 * is exact, since no machine divides vectors of integers. Both roundings together are off by less than a part 2^-23,
 * and (i + 1/2) / each is no nearer to a whole number than 1 / (2 each). */
static KVal lower_output(const LowerCtx *l, KBuilder *b)
{
    Shape   s = l->space.shape;
    int64_t each = shape_elems(s) / dt_max64(1, s.dim[0]);
    KVal    i = kb_index(b, affine_axis(0, 1));
    if (shape_elems(s) > LOWER_EXACT)
        return kb_op2(b, K_DIV, i, kb_i32(b, (int32_t)each));
    KVal middle = kb_op2(b, K_ADD, kb_cvt(b, KT_F32, i), kb_f32(b, 0.5f));
    KVal quotient = kb_op2(b, K_MUL, middle, kb_f32(b, (float)(1 / (double)each)));
    return kb_cvt(b, KT_I32, kb_op1(b, K_FLOOR, quotient));
}

static KVal lower_operand(LowerCtx *l, ValueId user, ValueId x, Shape shape)
{
    if (part_has(l, x))
        return lower_value(l, x);
    if (l->form == LOWER_FLAT && lower_is_vector(l, ir_value(l->g, x)->type)) {
        KVal output = lower_output(l, &l->b);
        return kb_load_dyn(&l->b, lower_buf(l, x, BUF_IN), affine_const(0), output, KVAL_NONE);
    }
    return kb_load(&l->b, lower_buf(l, x, BUF_IN), lower_address(l, user, x, shape));
}

/* ---- Windows: BodyCtx callbacks
 * -------------------------------------------------------------------------------------- */

static KVal lower_load_at(BodyCtx *bc, int32_t i, const Coord *at, KVal guard)
{
    LowerCtx *l = bc->user;
    ValueId   x = ir_value(l->g, bc->v)->in[i];
    Type      t = ir_value(l->g, x)->type;
    Affine    addr = affine_const(0);
    KVal      dyn = KVAL_NONE;
    for (int32_t d = 0; d < t.shape.rank; d++) {
        int64_t stride = type_stride(t, d);
        addr = affine_add(addr, affine_scale(at[d].at, stride));
        if (at[d].dyn == KVAL_NONE)
            continue;
        KVal term = stride == 1 ? at[d].dyn : kb_op2(&l->b, K_MUL, at[d].dyn, kb_i32(&l->b, (int32_t)stride));
        dyn = dyn == KVAL_NONE ? term : kb_op2(&l->b, K_ADD, dyn, term);
    }
    return kb_load_dyn(&l->b, lower_buf(l, x, BUF_IN), addr, dyn, guard);
}

/* A seq axis of this extent that no loop of the current op uses yet. */
static int32_t lower_loop_axis(BodyCtx *bc, const char *name, int64_t extent)
{
    LowerCtx *l = bc->user;
    for (int32_t i = 0; i < l->k->n_axes; i++) {
        Axis *a = &l->k->axes[i];
        if (a->kind == AXIS_SEQ && a->extent == extent && str_eq(a->name, name) && !l->loop_axis_used[i]) {
            l->loop_axis_used[i] = true;
            return i;
        }
    }
    int32_t i = kernel_add_axis(l->k, name, extent, AXIS_SEQ);
    l->loop_axis_used[i] = true;
    return i;
}

/* ---- Values
 * ---------------------------------------------------------------------------------------------------------- */

/* FLAT and ROW: the logical index of a weight's element, whatever its layout. The index without axes is where a row
 * begins: merging puts it there. On a target that turns weights around the form is the same for those that it leaves as
 * they are, so that all can be merged. */
static KVal lower_logical_index(BodyCtx *bc)
{
    const LowerCtx *l = bc->user;
    KBuilder       *b = bc->b;
    Shape           s = l->space.shape;
    bool            turned = l->space.layout == LAYOUT_NHWC;
    int64_t         each = shape_elems(s) / dt_max64(1, s.dim[0]), window = turned ? s.dim[2] * s.dim[3] : 1;
    bool            row = l->form == LOWER_ROW;
    KVal            first = KVAL_NONE, at = kb_index(b, affine_axis(0, 1));
    if (row)
        first = kb_index(b, affine_const(0));
    if (l->c->target->weight_layout == LAYOUT_NHWC) { /* [R, S, C] of an output to [C, R, S] */
        if (!row) {
            KVal output = lower_output(l, b);
            first = kb_op2(b, K_MUL, output, kb_i32(b, (int32_t)each));
            at = kb_op2(b, K_SUB, at, first);
        }
        KVal channels = kb_i32(b, (int32_t)(each / dt_max64(1, window)));
        KVal channel = kb_op2(b, K_REM, at, channels), tap = kb_op2(b, K_DIV, at, channels);
        KVal before = kb_op2(b, K_MUL, channel, kb_i32(b, (int32_t)window));
        at = kb_op2(b, K_ADD, before, tap);
    }
    return first == KVAL_NONE ? at : kb_op2(b, K_ADD, first, at);
}

/* One axis: its number is the flat index, and the coordinate where there is but one. */
static void lower_flat_coords(const LowerCtx *l, Coord out[DT_MAX_RANK])
{
    for (int32_t d = 0; d < l->space.shape.rank; d++)
        out[d] = (Coord){ affine_const(0), KVAL_NONE };
    if (l->space.shape.rank == 1)
        out[0].at = affine_axis(0, 1);
}

static BodyCtx lower_body_ctx(LowerCtx *l, ValueId v, Coord out[DT_MAX_RANK])
{
    Shape   s = l->space.shape;
    BodyCtx bc = { .b = &l->b,
                   .g = l->g,
                   .v = v,
                   .out = out,
                   .flat = affine_axis(0, 1),
                   .user = l,
                   .load = lower_load_at,
                   .axis = lower_loop_axis };
    memset(l->loop_axis_used, 0, sizeof(l->loop_axis_used));
    if (l->form != LOWER_AXES) {
        lower_flat_coords(l, out);
        bc.index = lower_logical_index;
        return bc;
    }
    Type rows = { .dtype = DTYPE_F32, .shape = s, .layout = LAYOUT_ROWS };
    bc.flat = affine_const(0);
    for (int32_t d = 0; d < s.rank; d++) {
        out[d] = (Coord){ affine_axis(l->axis[d], 1), KVAL_NONE };
        bc.flat = affine_add(bc.flat, affine_scale(out[d].at, type_stride(rows, d)));
    }
    return bc;
}

/* Inputs of v's body at this point. A reduction's body runs over the space, whatever its result. */
static void lower_inputs(LowerCtx *l, ValueId v, KVal *in)
{
    const Value *val = ir_value(l->g, v);
    Shape        shape = ir_has(l->g, v, T_REDUCE) ? l->space.shape : val->type.shape;
    for (int32_t i = 0; i < val->n_in; i++)
        in[i] = lower_operand(l, v, val->in[i], shape);
}

static KVal lower_final_of(LowerCtx *l, ValueId v)
{
    const Value *val = ir_value(l->g, v);
    Coord        out[DT_MAX_RANK];
    BodyCtx      bc = lower_body_ctx(l, v, out);
    KVal         in[8];
    for (int32_t i = 0; i < val->n_in; i++) {
        bool kept = shape_eq(ir_value(l->g, val->in[i])->type.shape, val->type.shape) && !part_has(l, val->in[i]);
        in[i] = kept ? lower_operand(l, v, val->in[i], val->type.shape) : KVAL_NONE;
    }
    return ir_ops[val->op].final(&bc, in, l->sums[v]);
}

/* The value's register in the region that is being written; made when it is first asked for. */
static KVal lower_value(LowerCtx *l, ValueId v)
{
    const OpInfo *op = &ir_ops[ir_value(l->g, v)->op];
    KVal         *slot = l->in_final ? &l->final_val[v] : &l->body_val[v];
    if (*slot != KVAL_NONE)
        return *slot;
    Coord   out[DT_MAX_RANK];
    KVal    in[8], result[2];
    BodyCtx bc;
    if (l->in_final && ir_has(l->g, v, T_REDUCE))
        return *slot = lower_final_of(l, v);
    if (l->in_final && ir_has(l->g, v, T_FOLD))
        return *slot = l->fold[0];
    if ((op->traits & (T_NEST | T_FOLD)) == 0)
        lower_inputs(l, v, in);
    bc = lower_body_ctx(l, v, out);
    if (op->traits & T_FOLD) {
        Shape w = ir_value(l->g, v)->type.shape;
        l->fold = bc.sums = ARENA_ARRAY(l->c->scratch, KVal, w.dim[2] * w.dim[3]);
        op->body(&bc, NULL, result);
        return *slot = l->fold[0];
    }
    int32_t n = op->body(&bc, (op->traits & T_NEST) ? NULL : in, result);
    for (int32_t i = 0; i < n && ir_has(l->g, v, T_REDUCE); i++)
        l->sums[v][i] = kb_acc(&l->b, op->acc, result[i]);
    return *slot = result[0];
}

/* The sums of each channel are its taps. */
static void lower_store_fold(LowerCtx *l, ValueId v)
{
    Type    t = ir_value(l->g, v)->type;
    int32_t buf = lower_buf(l, v, BUF_OUT);
    Affine  channel = affine_axis(l->axis[1], type_stride(t, 0));
    for (int64_t i = 0; i < t.shape.dim[2] * t.shape.dim[3]; i++) {
        int64_t tap = i / t.shape.dim[3] * type_stride(t, 2) + i % t.shape.dim[3] * type_stride(t, 3);
        kb_store(&l->b, buf, affine_add(channel, affine_const(tap)), l->fold[i]);
    }
}

static void lower_store(LowerCtx *l, ValueId v)
{
    const Value *val = ir_value(l->g, v);
    if (val->place.kind == MEM_NONE)
        return;
    if (ir_has(l->g, v, T_FOLD)) {
        lower_store_fold(l, v);
        return;
    }
    int32_t buf = lower_buf(l, v, BUF_OUT);
    KVal    x = l->in_final ? l->final_val[v] : l->body_val[v];
    kb_store(&l->b, buf, lower_address(l, v, v, val->type.shape), x);
}

/* Is v computed in the region that is being written? */
static bool lower_in_region(const LowerCtx *l, ValueId v)
{
    if (ir_is(l->g, v, OP_CONST) && ir_value(l->g, v)->place.kind == MEM_NONE)
        return false; /* made where it is used */
    bool kept = lower_is_kept_value(l, v);
    return l->in_final ? kept : !kept || ir_has(l->g, v, T_REDUCE | T_FOLD);
}

/* All values, then all stores: an update in place must not be seen by a value that reads the old one. */
static void lower_region(LowerCtx *l, bool final)
{
    l->in_final = final;
    for (int32_t i = 0; i < l->part.n; i++)
        if (lower_in_region(l, l->part.at[i]))
            lower_value(l, l->part.at[i]);
    for (int32_t i = 0; i < l->part.n; i++)
        if (lower_in_region(l, l->part.at[i]) && (final || !ir_has(l->g, l->part.at[i], T_REDUCE | T_FOLD)))
            lower_store(l, l->part.at[i]);
}

/* The group's space: that of its largest body. */
static Space lower_space(const Graph *g, Part part)
{
    Space s = fuse_space(g, part.at[part.n - 1]);
    for (int32_t i = 0; i < part.n; i++) {
        Space t = fuse_space(g, part.at[i]);
        if (shape_elems(t.shape) > shape_elems(s.shape) || ir_has(g, part.at[i], T_REDUCE))
            s = shape_elems(t.shape) >= shape_elems(s.shape) ? t : s;
    }
    return s;
}

LowerForm lower_form(const Graph *g, Part part)
{
    bool reduces = false, vectors = false;
    for (int32_t i = 0; i < part.n; i++) {
        const Value *v = ir_value(g, part.at[i]);
        Space        s = fuse_space(g, part.at[i]);
        if (ir_has(g, part.at[i], T_REDUCE) && v->type.shape.rank == 1 && s.shape.rank > 1)
            return LOWER_ROW;
        reduces |= ir_has(g, part.at[i], T_REDUCE);
        for (int32_t j = 0; j < v->n_in; j++)
            vectors |= s.shape.rank > 1 && ir_value(g, v->in[j])->type.shape.rank == 1;
    }
    return vectors && !reduces ? LOWER_ROW : LOWER_FLAT;
}

int64_t lower_rows_of(const Graph *g, Part part)
{
    return lower_form(g, part) == LOWER_ROW ? lower_space(g, part).shape.dim[0] : 1;
}

/* Elements of a buffer from one output of the weight to the next. */
static int64_t lower_pitch(const LowerCtx *l, ValueId v)
{
    Type t = ir_value(l->g, v)->type;
    return t.shape.rank == 0 ? 0 : lower_is_vector(l, t) ? 1 : shape_elems(t.shape) / l->space.shape.dim[0];
}

static Lowered lower_result(const LowerCtx *l)
{
    Arena  *a = l->g->arena;
    Lowered out = { .kernel = l->k,
                    .bound = ARENA_ARRAY(a, ValueId, l->bufs.len),
                    .bound_at = ARENA_ARRAY(a, Place, l->bufs.len),
                    .rows = l->form == LOWER_ROW ? (int32_t)l->space.shape.dim[0] : 1,
                    .pitch = ARENA_ARRAY(a, int64_t, l->bufs.len),
                    .index = shape_elems(l->space.shape) / dt_max64(1, l->space.shape.dim[0]) };
    for (int32_t i = 0; i < l->bufs.len; i++) {
        out.bound[i] = l->bufs.at[i].v;
        out.bound_at[i] = l->bufs.at[i].place;
        out.pitch[i] = l->form == LOWER_ROW ? lower_pitch(l, l->bufs.at[i].v) : 0;
    }
    return out;
}

Lowered lower_kernel(PassCtx *c, const Graph *g, Part part, const char *name, const char *title, LowerForm form)
{
    LowerCtx l = {
        .c = c, .g = g, .part = part, .space = lower_space(g, part), .form = form, .kept_dim = lower_kept_dim(g, part)
    };
    l.k = kernel_new(g->arena, name, title);
    l.k->loc = ir_value(g, part.at[part.n - 1])->origins[0].dsl;
    l.b = kb_new(l.k);
    size_t n = (size_t)g->values.len;
    l.body_val = ARENA_ARRAY(c->scratch, KVal, n);
    l.final_val = ARENA_ARRAY(c->scratch, KVal, n);
    l.sums = arena_alloc(c->scratch, sizeof(KVal[2]) * n);
    memset(l.body_val, -1, sizeof(KVal) * n);
    memset(l.final_val, -1, sizeof(KVal) * n);
    lower_axes(&l);
    lower_region(&l, false);
    if (kernel_has_reduction(l.k)) {
        kb_final(&l.b);
        lower_region(&l, true);
    }
    if (kernel_has_reduction(l.k))
        kernel_choose_reduction(l.k);
    if (form == LOWER_AXES)
        kernel_collapse(l.k);
    return lower_result(&l);
}
