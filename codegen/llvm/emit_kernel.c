/* emit_kernel.c: functions around the code of work units.
 *
 *   void NAME_run(self, bufs, scratch, lo, hi)      reads the buffers' addresses and calls
 *   void NAME_run.body(buf..., scratch, lo, hi)     whose parameters are noalias, so that nothing is read twice:
 *       for each row of the segment table
 *           for each unit of the row in [lo, hi)
 *               a block of points (MAP) or a run of a reduction (folds)
 *
 * and the same for NAME_finish. What differs from row to row is read from constant tables, what does not is a constant.
 *
 * Tested by tests/unit/test_llvm.c. */
#include <string.h>

#include "codegen/llvm/emit.h"

enum { MOST_PIECES = 4 };

/* Makes the code of one unit; `number` counts within the row. */
typedef void (*UnitFn)(Emit *e, Point *p, LLVMValueRef number);

/* ---- Tables ----------------------------------------------------------------------------------------------------- */

static LLVMValueRef add_table(Emit *e, const char *name, LLVMTypeRef elem, LLVMValueRef *cells, int32_t n)
{
    LLVMValueRef table = LLVMAddGlobal(e->mod, LLVMArrayType2(elem, (uint64_t)n), name);
    LLVMSetInitializer(table, LLVMConstArray2(elem, cells, (uint64_t)n));
    LLVMSetGlobalConstant(table, true);
    LLVMSetLinkage(table, LLVMPrivateLinkage);
    return table;
}

static LLVMValueRef add_int_table(Emit *e, const char *name, const int64_t *x, int32_t n)
{
    LLVMValueRef *cells = ARENA_ARRAY(e->arena, LLVMValueRef, n + 1);
    for (int32_t i = 0; i < n; i++)
        cells[i] = e_int(e, x[i]);
    return add_table(e, name, e->i64, cells, n);
}

static LLVMValueRef add_float_table(Emit *e, const char *name, const float *x, int32_t n)
{
    LLVMValueRef *cells = ARENA_ARRAY(e->arena, LLVMValueRef, n + 1);
    for (int32_t i = 0; i < n; i++)
        cells[i] = e_f32(e, x[i]);
    return add_table(e, name, e->f32, cells, n);
}

/* Bytes of 0 for guarded loads: as long as the vec axis, where that is not too long. */
static int64_t zero_bytes(Emit *e)
{
    enum { VECTOR = 64, LONGEST_ROW = 1 << 14 };
    int64_t walk;
    bool    guards = false;
    for (int32_t i = 0; i < e->k->insts.len; i++)
        guards = guards || (e->k->insts.at[i].op == K_LOAD && e->k->insts.at[i].guard >= 0);
    e->zeros_row = guards && e->plan->vec >= 0 && plan_extent(e->plan, e->plan->vec, &walk) && walk <= LONGEST_ROW;
    return e->zeros_row ? dt_round_up(4 * walk, VECTOR) + VECTOR : VECTOR;
}

static void add_tables(Emit *e)
{
    const SegTable *s = &e->k->seg;
    LLVMTypeRef     zeros = LLVMArrayType2(e->i8, (uint64_t)zero_bytes(e));
    e->zeros = LLVMAddGlobal(e->mod, zeros, "zeros");
    LLVMSetInitializer(e->zeros, LLVMConstNull(zeros));
    LLVMSetGlobalConstant(e->zeros, true);
    LLVMSetLinkage(e->zeros, LLVMPrivateLinkage);
    LLVMSetAlignment(e->zeros, 64);
    if (s->rows == 0)
        return;
    e->row_table = add_int_table(e, "rows", e->plan->rows[0], (e->plan->n_rows + 1) * ROW_FIELDS);
    e->int_table = add_int_table(e, "ints", s->ints, s->rows * s->int_cols);
    e->float_table = add_float_table(e, "floats", s->floats, s->rows * s->float_cols);
}

LLVMValueRef emit_row(Emit *e, RowField field)
{
    int64_t value;
    return plan_row_field(e->plan, field, &value) ? e_int(e, value) : e->row_field[field];
}

/* Reads what differs from row to row. */
static void enter_row(Emit *e, LLVMValueRef row)
{
    const SegTable *s = &e->k->seg;
    LLVMValueRef    fields = e_mul(e, row, ROW_FIELDS), ints = e_mul(e, row, s->int_cols);
    LLVMValueRef    floats = e_mul(e, row, s->float_cols);
    int64_t         value;
    for (int32_t i = 0; i < ROW_FIELDS; i++)
        e->row_field[i] = e_load(e, e->i64, e_at(e, e->i64, e->row_table, fields, i), 8);
    for (int32_t i = 0; i < s->int_cols; i++)
        e->seg_int[i] = plan_column(e->plan, i, &value) ? e_int(e, value)
                                                        : e_load(e, e->i64, e_at(e, e->i64, e->int_table, ints, i), 8);
    for (int32_t i = 0; i < s->float_cols; i++)
        e->seg_float[i] = e_load(e, e->f32, e_at(e, e->f32, e->float_table, floats, i), 4);
}

/* ---- Units of a kernel without reduction ------------------------------------------------------------------------ */

static void body_piece(Emit *e, Point *p, LLVMValueRef offset, void *user)
{
    (void)offset, (void)user;
    emit_region(e, p, &e->k->body);
}

static void emit_map_unit(Emit *e, Point *p, LLVMValueRef number)
{
    LLVMValueRef blocks = emit_row(e, ROW_BLOCKS), start = e_int(e, 0), left = emit_row(e, ROW_WALK);
    int64_t      n, walk;
    if (!e_is_const(blocks, &n) || n != 1) {
        LLVMValueRef block = LLVMBuildURem(e->b, number, blocks, "");
        number = LLVMBuildUDiv(e->b, number, blocks, "");
        start = LLVMBuildMul(e->b, block, e_int(e, e->plan->block), "");
        left = LLVMBuildSub(e->b, left, start, "");
        if (plan_row_field(e->plan, ROW_WALK, &walk) && walk % e->plan->block == 0)
            left = e_int(e, e->plan->block);
    }
    emit_outer(e, p, number);
    point_hoist(e, p, &e->k->body);
    LLVMValueRef count = e_min_int(e, left, e_int(e, e->plan->block));
    if (e->plan->stencil.axis >= 0)
        emit_stencil_unit(e, p, start, count);
    else
        emit_walk(e, p, start, count, body_piece, NULL);
}

/* A short vec axis below long outer ones (channels below pixels) is written out, and what it alone needs (scales and
 * shifts by channel) is computed before the loop over units. */
typedef struct ShortWalk {
    int32_t n, widths[MOST_PIECES];
    int64_t offsets[MOST_PIECES];
    Point   piece[MOST_PIECES];
} ShortWalk;

static void prepare_short_walk(Emit *e, const Point *row, ShortWalk *w)
{
    const Plan *plan = e->plan;
    int64_t     walk;
    w->n = 0;
    if (plan->kind != PLAN_MAP || plan->stencil.axis >= 0 || plan->vec < 0 || plan->n_outer == 0 ||
        !plan_row_field(plan, ROW_WALK, &walk))
        return;
    w->n = (int32_t)dt_max64(0, walk_pieces(plan, walk, MOST_PIECES, w->widths, w->offsets));
    for (int32_t i = 0; i < w->n; i++) {
        w->piece[i] = point_copy(e, row);
        w->piece[i].width = w->widths[i];
        point_set(&w->piece[i], plan->vec, NULL, w->offsets[i], 1);
        point_hoist(e, &w->piece[i], &e->k->body);
    }
}

static void emit_short_unit(Emit *e, Point *p, LLVMValueRef number, const ShortWalk *w)
{
    emit_outer(e, p, number);
    point_hoist(e, p, &e->k->body);
    for (int32_t i = 0; i < w->n; i++) {
        Point q = point_copy(e, p);
        q.width = w->widths[i];
        point_set(&q, e->plan->vec, NULL, w->offsets[i], 1);
        point_inherit(e, &q, &w->piece[i]);
        emit_region(e, &q, &e->k->body);
    }
}

/* ---- Functions -------------------------------------------------------------------------------------------------- */

static LLVMValueRef max_int(Emit *e, LLVMValueRef x, LLVMValueRef y)
{
    return LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntSGT, x, y, ""), x, y, "");
}

static void emit_units(Emit *e, Point *p, LLVMValueRef lo, LLVMValueRef hi, UnitFn fn, const KRegion *region)
{
    If        f;
    Loop      l;
    ShortWalk walk;
    if_begin(e, &f, LLVMBuildICmp(e->b, LLVMIntSLT, lo, hi, ""));
    point_hoist(e, p, region);
    prepare_short_walk(e, p, &walk);
    loop_begin(e, &l, lo, hi, 1, NULL, 0);
    Point unit = point_copy(e, p);
    if (walk.n > 0)
        emit_short_unit(e, &unit, l.i, &walk);
    else
        fn(e, &unit, l.i);
    loop_end(e, &l, NULL);
    if_end(e, &f);
}

/* first: the field that numbers the units. */
static void emit_rows(Emit *e, LLVMValueRef lo, LLVMValueRef hi, RowField first, UnitFn fn, const KRegion *region)
{
    Point p = point_new(e);
    if (e->k->seg.rows == 0) {
        emit_units(e, &p, lo, hi, fn, region);
        return;
    }
    Loop l;
    loop_begin(e, &l, e_int(e, 0), e_int(e, e->plan->n_rows), 1, NULL, 0);
    enter_row(e, l.i);
    p.known |= DEP_ROW;
    LLVMValueRef at = e_at(e, e->i64, e->row_table, e_mul(e, l.i, ROW_FIELDS), first), begin = e_load(e, e->i64, at, 8);
    LLVMValueRef end = e_load(e, e->i64, e_at(e, e->i64, at, NULL, ROW_FIELDS), 8);
    LLVMValueRef from = max_int(e, lo, begin), to = e_min_int(e, hi, end);
    emit_units(e, &p, LLVMBuildSub(e->b, from, begin, ""), LLVMBuildSub(e->b, to, begin, ""), fn, region);
    loop_end(e, &l, NULL);
}

static bool streams(const Kernel *k)
{
    for (int32_t i = 0; i < k->bufs.len; i++)
        if (k->bufs.at[i].stream)
            return true;
    return false;
}

static void set_attribute(Emit *e, LLVMValueRef fn, const char *key, const char *value)
{
    LLVMAttributeRef at = LLVMCreateStringAttribute(e->ctx, key, (unsigned)strlen(key), value, (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, at);
}

static void set_flag(Emit *e, LLVMValueRef fn, int32_t index, const char *name)
{
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)index, LLVMCreateEnumAttribute(e->ctx, kind, 0));
}

static LLVMValueRef add_function(Emit *e, const char *name, LLVMTypeRef type, const char *cpu, const char *features)
{
    LLVMValueRef fn = LLVMAddFunction(e->mod, name, type);
    const char  *bits = e->plan->width == 16 ? "512" : "256";
    set_attribute(e, fn, "target-cpu", cpu);
    set_attribute(e, fn, "target-features", features);
    set_attribute(e, fn, "prefer-vector-width", bits);
    set_attribute(e, fn, "min-legal-vector-width", bits);
    set_flag(e, fn, LLVMAttributeFunctionIndex, "nounwind");
    return fn;
}

/* NAME.body with parameters buf..., scratch, lo, hi; the builder stands in its entry block. */
static LLVMTypeRef begin_body(Emit *e, const char *name, const char *cpu, const char *features)
{
    int32_t      n = e->k->bufs.len;
    LLVMTypeRef *params = ARENA_ARRAY(e->arena, LLVMTypeRef, n + 3);
    for (int32_t i = 0; i <= n; i++)
        params[i] = e->ptr;
    params[n + 1] = params[n + 2] = e->i64;
    LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(e->ctx), params, (unsigned)n + 3, false);
    e->fn = add_function(e, arena_printf(e->arena, "%s.body", name), type, cpu, features);
    LLVMSetLinkage(e->fn, LLVMInternalLinkage);
    for (int32_t i = 0; i <= n; i++) {
        set_flag(e, e->fn, i + 1, "noalias");
        if (i < n && e->k->bufs.at[i].mode == BUF_IN)
            set_flag(e, e->fn, i + 1, "readonly");
    }
    for (int32_t i = 0; i < n; i++)
        e->bufs[i] = LLVMGetParam(e->fn, (unsigned)i);
    e->scratch = LLVMGetParam(e->fn, (unsigned)n);
    LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->ctx, e->fn, ""));
    return type;
}

/* NAME(self, bufs, scratch, lo, hi): a KernelEntry. */
static void emit_entry(Emit *e, const char *name, LLVMTypeRef body_type, const char *cpu, const char *features)
{
    LLVMTypeRef  params[5] = { e->ptr, e->ptr, e->ptr, e->i64, e->i64 };
    LLVMTypeRef  type = LLVMFunctionType(LLVMVoidTypeInContext(e->ctx), params, 5, false);
    LLVMValueRef body = e->fn, *args = ARENA_ARRAY(e->arena, LLVMValueRef, e->k->bufs.len + 3);
    int32_t      n = e->k->bufs.len;
    LLVMValueRef entry = add_function(e, name, type, cpu, features);
    LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->ctx, entry, ""));
    for (int32_t i = 0; i < n; i++)
        args[i] = e_load(e, e->ptr, e_at(e, e->ptr, LLVMGetParam(entry, 1), NULL, i), 8);
    for (int32_t i = 0; i < 3; i++)
        args[n + i] = LLVMGetParam(entry, (unsigned)i + 2);
    LLVMBuildCall2(e->b, body_type, body, args, (unsigned)n + 3, "");
    LLVMBuildRetVoid(e->b);
}

static void emit_function(Emit *e, const char *name, bool finish, const char *cpu, const char *features)
{
    const Kernel *k = e->k;
    LLVMTypeRef   type = begin_body(e, name, cpu, features);
    LLVMValueRef  lo = LLVMGetParam(e->fn, (unsigned)k->bufs.len + 1),
                 hi = LLVMGetParam(e->fn, (unsigned)k->bufs.len + 2);
    if (finish) {
        emit_rows(e, lo, hi, ROW_FINISH0, emit_finish_unit, &k->final);
    } else if (e->plan->kind == PLAN_MAP) {
        emit_rows(e, lo, hi, ROW_UNIT0, emit_map_unit, &k->body);
    } else {
        emit_fold_prologue(e);
        emit_rows(e, lo, hi, ROW_UNIT0, emit_fold_unit, &k->body);
    }
    if (streams(k)) /* stores past the caches are ordered by a fence alone */
        LLVMBuildFence(e->b, LLVMAtomicOrderingSequentiallyConsistent, false, "");
    LLVMBuildRetVoid(e->b);
    emit_entry(e, name, type, cpu, features);
}

void emit_kernel(Arena *a, LLVMModuleRef mod, const Plan *plan, const char *name, const char *cpu, const char *features)
{
    LLVMContextRef ctx = LLVMGetModuleContext(mod);
    Emit e = { .arena = a, .k = plan->k, .plan = plan, .ctx = ctx, .mod = mod, .b = LLVMCreateBuilderInContext(ctx) };
    e.i1 = LLVMInt1TypeInContext(ctx);
    e.i8 = LLVMInt8TypeInContext(ctx);
    e.i16 = LLVMInt16TypeInContext(ctx);
    e.i32 = LLVMInt32TypeInContext(ctx);
    e.i64 = LLVMInt64TypeInContext(ctx);
    e.f32 = LLVMFloatTypeInContext(ctx);
    e.f64 = LLVMDoubleTypeInContext(ctx);
    e.ptr = LLVMPointerTypeInContext(ctx, 0);
    e.md_invariant = LLVMGetMDKindIDInContext(ctx, "invariant.load", 14);
    e.md_nontemporal = LLVMGetMDKindIDInContext(ctx, "nontemporal", 11);
    LLVMMetadataRef one = LLVMValueAsMetadata(e_i32(&e, 1));
    e.md_empty = LLVMMetadataAsValue(ctx, LLVMMDNodeInContext2(ctx, NULL, 0));
    e.md_one = LLVMMetadataAsValue(ctx, LLVMMDNodeInContext2(ctx, &one, 1));
    e.bufs = ARENA_ARRAY(a, LLVMValueRef, plan->k->bufs.len + 1);
    e.seg_int = ARENA_ARRAY(a, LLVMValueRef, plan->k->seg.int_cols + 1);
    e.seg_float = ARENA_ARRAY(a, LLVMValueRef, plan->k->seg.float_cols + 1);
    e.packs = strstr(features, "+avx512f") == NULL;
    add_tables(&e);
    emit_function(&e, arena_printf(a, "%s_run", name), false, cpu, features);
    if (!plan->fused)
        emit_function(&e, arena_printf(a, "%s_finish", name), true, cpu, features);
    LLVMDisposeBuilder(e.b);
}
