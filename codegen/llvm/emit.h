/* emit.h: what the files that make LLVM IR for one kernel share.
 *
 *   emit_build.c   types, constants, vectors of mixed shape, loops
 *   emit_value.c   arithmetic: one instruction of the kernel IR -> LLVM values
 *   emit_memory.c  addresses, loads, stores
 *   emit_region.c  regions at a point, hoisting, seq loops, walks along the vec axis
 *   emit_fold.c    reductions
 *   emit_stencil.c points that read their neighbours
 *   emit_kernel.c  functions, work units, rows of the segment table
 *
 * A value that is the same in all lanes is kept as a scalar and widened where it meets a vector. */
#ifndef DETENT_EMIT_H
#define DETENT_EMIT_H

#include <llvm-c/Core.h>

#include "codegen/llvm/plan.h"

/* Where an axis stands: v + off (v NULL: off alone), at lane 0 of the vec axis; `align` is a power of two that divides
 * v. */
typedef struct AxisAt {
    LLVMValueRef v;
    int64_t      off, align;
} AxisAt;

/* Axes that are enumerated together, by one flat number. */
typedef enum AxisGroup { GROUP_OUTER, GROUP_RED, GROUP_COUNT } AxisGroup;

/* A place in the iteration space, `width` points wide along the vec axis, and what has been computed for it. */
typedef struct Point {
    int32_t       width;
    uint32_t      known; /* axes (bits) that have a position, DEP_ROW */
    AxisAt        axis[KERNEL_MAX_AXES];
    AxisAt        flat[GROUP_COUNT]; /* set together with the group's axes */
    LLVMValueRef *val;               /* [insts]; NULL: not yet */
    LLVMValueRef *acc;               /* [insts]: running values of accumulators */
    LLVMValueRef *row;               /* [insts]: of guarded loads, where the row along the vec axis is; NULL: not yet */
} Point;

typedef struct Emit {
    Arena         *arena;
    const Kernel  *k;
    const Plan    *plan;
    LLVMContextRef ctx;
    LLVMModuleRef  mod;
    LLVMBuilderRef b;
    LLVMTypeRef    i1, i8, i16, i32, i64, f32, f64, ptr;
    unsigned       md_invariant, md_nontemporal;
    LLVMValueRef   md_empty, md_one;
    bool           packs;     /* vectors of i32 become bytes by packs, not by AVX-512's truncations */
    LLVMValueRef   zeros;     /* 0 bytes: what a false guard reads; a vector's worth, */
    bool           zeros_row; /* or a row along the vec axis */
    LLVMValueRef   row_table, int_table, float_table;
    /* Of the function being made: */
    LLVMValueRef  fn, *bufs, scratch;
    LLVMValueRef  row_field[ROW_FIELDS], *seg_int, *seg_float; /* of the current row */
    LLVMValueRef *acc_mem;                                     /* folds: [n_acc] accumulators in memory */
} Emit;

/* ---- emit_build.c ---- */

LLVMValueRef e_int(const Emit *e, int64_t x); /* i64 */
LLVMValueRef e_i32(const Emit *e, int64_t x);
LLVMValueRef e_f32(const Emit *e, float x);
LLVMTypeRef  e_type(const Emit *e, KType t, int32_t width);
LLVMTypeRef  e_like(LLVMTypeRef elem, LLVMValueRef shape); /* elem, or a vector of as many as shape has */
bool         e_is_vector(LLVMValueRef v);
bool         e_is_const(LLVMValueRef v, int64_t *x);          /* an integer constant */
LLVMValueRef e_splat(Emit *e, LLVMValueRef v, int32_t width); /* unchanged when it is a vector, or width is 1 */
LLVMValueRef e_lane(Emit *e, LLVMValueRef v, int32_t lane);   /* of a scalar: itself */
LLVMValueRef e_ints(Emit *e, LLVMTypeRef elem, const int64_t *x, int32_t n);   /* constant vector */
LLVMValueRef e_ramp(Emit *e, LLVMTypeRef elem, int64_t step, int32_t n);       /* 0, step, 2 step, ... */
LLVMValueRef e_same(Emit *e, LLVMTypeRef elem, int64_t x, LLVMValueRef shape); /* x in the shape's form */
LLVMValueRef e_op(Emit *e, LLVMOpcode op, LLVMValueRef x, LLVMValueRef y);     /* widens the scalar one */
LLVMValueRef e_icmp(Emit *e, LLVMIntPredicate how, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef e_fcmp(Emit *e, LLVMRealPredicate how, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef e_select(Emit *e, LLVMValueRef c, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef e_min_int(Emit *e, LLVMValueRef x, LLVMValueRef y); /* i64, signed */
LLVMValueRef e_add(Emit *e, LLVMValueRef x, LLVMValueRef y);     /* i64 that do not overflow; NULL is 0 */
LLVMValueRef e_mul(Emit *e, LLVMValueRef x, int64_t factor);
/* llvm.NAME for the types given */
LLVMValueRef e_intrinsic(Emit *e, const char *name, const LLVMTypeRef *types, size_t n_types, LLVMValueRef *args,
                         unsigned n_args);
/* base + index + constant, in elements; index may be NULL */
LLVMValueRef e_at(Emit *e, LLVMTypeRef elem, LLVMValueRef base, LLVMValueRef index, int64_t constant);
LLVMValueRef e_load(Emit *e, LLVMTypeRef t, LLVMValueRef at, int64_t align);
LLVMValueRef e_store(Emit *e, LLVMValueRef v, LLVMValueRef at, int64_t align);

/* for (i = from; i < to; i += step), carrying n values. loop_begin replaces what `carried` holds by the values at the
 * start of a round, loop_end (given those at its end) by the values after the loop. */
typedef struct Loop {
    LLVMBasicBlockRef before, head, exit;
    LLVMValueRef      i, to, *init, *phi;
    int64_t           step;
    int32_t           n;
    bool              guarded; /* there may be no round */
} Loop;
void loop_begin(Emit *e, Loop *l, LLVMValueRef from, LLVMValueRef to, int64_t step, LLVMValueRef *carried, int32_t n);
void loop_end(Emit *e, Loop *l, LLVMValueRef *carried);

typedef struct If {
    LLVMBasicBlockRef exit;
} If;
void if_begin(Emit *e, If *f, LLVMValueRef cond);
void if_end(Emit *e, If *f);

/* ---- emit_value.c ---- */

LLVMValueRef emit_value(Emit *e, const Point *p, KVal id); /* a pure instruction or a load */
/* f32 -> i32 as cvt, then clamped to [least, most], which holds 0: both at once, the clamp before the conversion. */
LLVMValueRef emit_cvt_within(Emit *e, LLVMValueRef x, const Facts *f, int32_t least, int32_t most);
LLVMValueRef emit_combine(Emit *e, const KInst *acc, LLVMValueRef total, LLVMValueRef x);
LLVMValueRef emit_dot(Emit *e, LLVMValueRef x, LLVMValueRef y, LLVMValueRef total); /* fma(x, y, total) */
LLVMValueRef emit_identity(Emit *e, const KInst *acc, int32_t width);

/* ---- emit_memory.c ---- */

LLVMValueRef emit_index(Emit *e, const Point *p, const KInst *in);
LLVMValueRef emit_load(Emit *e, const Point *p, KVal id);
void         emit_store(Emit *e, const Point *p, KVal id);
/* For guarded loads at a place of all axes but vec: which row they read, before the loop along it. */
void emit_rows_ahead(Emit *e, Point *p, const KRegion *region);

/* ---- emit_region.c ---- */

Point point_new(Emit *e);
Point point_copy(Emit *e, const Point *p);
void  point_set(Point *p, int32_t axis, LLVMValueRef v, int64_t off, int64_t align);
void  point_inherit(const Emit *e, Point *p, const Point *from); /* values that p lacks */
bool  inst_varies(const Emit *e, KVal id);                       /* along the vec axis */
/* Computes early what depends on known axes alone. */
void         point_hoist(Emit *e, Point *p, const KRegion *region);
void         emit_region(Emit *e, Point *p, const KRegion *region);
LLVMValueRef emit_extent(Emit *e, int32_t axis);

/* Points along the vec axis from `start` (a multiple of 64) on, `count` of them, by vectors as wide as they fit; a plan
 * without vec axis: one point. `fn` emits code for one such point. The offset is given from `start` on. */
typedef void (*WalkFn)(Emit *e, Point *p, LLVMValueRef offset, void *user);
void emit_walk(Emit *e, const Point *base, LLVMValueRef start, LLVMValueRef count, WalkFn fn, void *user);
/* The same for a constant count, written out: widths[] and offsets[] of at most `most` pieces; -1: more. */
int32_t walk_pieces(const Plan *p, int64_t count, int32_t most, int32_t *widths, int64_t *offsets);

/* ---- emit_fold.c ---- */

void emit_fold_prologue(Emit *e);
void emit_fold_unit(Emit *e, Point *p, LLVMValueRef unit); /* unit: number within the row */
void emit_finish_unit(Emit *e, Point *p, LLVMValueRef unit);
/* Accumulators that lie in memory, to the point and back; index: of its first lane in each. */
void emit_acc_read(Emit *e, Point *p, LLVMValueRef index);
void emit_acc_write(Emit *e, const Point *p, LLVMValueRef index);

/* ---- emit_stencil.c ---- */

/* A unit without a reduction: points along the stencil's axis, `count` from `start` on of the vec axis. */
void emit_stencil_unit(Emit *e, Point *p, LLVMValueRef start, LLVMValueRef count);
/* A run of a fold with one lane: red points start .. start + count, the first at the places at[] of the red axes. For
 * each piece of the columns acc[piece][n_acc] is replaced; NULL there: not made now. */
void emit_stencil_run(Emit *e, const Point *base, const Point *piece, int32_t n_pieces, LLVMValueRef start,
                      LLVMValueRef count, const LLVMValueRef *at, LLVMValueRef *acc);
/* The same with accumulators in memory, for `columns` columns from `column` on. */
void emit_stencil_columns(Emit *e, const Point *base, LLVMValueRef column, LLVMValueRef columns, LLVMValueRef start,
                          LLVMValueRef count, const LLVMValueRef *at);

/* ---- emit_kernel.c ---- */

/* The value of a row field, as a constant where all rows agree. */
LLVMValueRef emit_row(Emit *e, RowField field);
/* Takes the positions of the outer axes off a flat number. */
void emit_outer(Emit *e, Point *p, LLVMValueRef flat);

/* Adds NAME_run and, unless the plan is fused, NAME_finish to the module. */
void emit_kernel(Arena *a, LLVMModuleRef mod, const Plan *plan, const char *name, const char *cpu,
                 const char *features);

#endif
