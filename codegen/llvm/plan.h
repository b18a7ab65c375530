/* plan.h: decisions about a kernel before code is made for it: how its points become work units, how wide vectors are,
 * where partial results lie; and what is known about each instruction. No LLVM here.
 *
 * Tested by tests/unit/test_llvm.c. */
#ifndef DETENT_PLAN_H
#define DETENT_PLAN_H

#include "ir/kernel/kernel.h"

/* MAP: no reduction; a unit is a point of the outer axes and a block of the vec axis. Of a stencil, all points along
 * one more axis. FOLD_LANES: a unit is one run of the red axis for one par point; vector lanes are accumulators of that
 * run. FOLD_COLUMNS: a unit is one run for a block of a vec par axis; vector lanes are columns, one result each. */
typedef enum PlanKind { PLAN_MAP, PLAN_FOLD_LANES, PLAN_FOLD_COLUMNS } PlanKind;

/* What generated code needs to know of a row of the segment table (a kernel without one has a single row). */
typedef enum RowField {
    ROW_UNIT0,    /* its first work unit, */
    ROW_FINISH0,  /* its first finish unit, */
    ROW_SCRATCH0, /* its first partial result, in elements of 4 bytes */
    ROW_WALK,     /* extent of the axis that vectors walk (1: none) */
    ROW_BLOCKS,   /* blocks of that axis */
    ROW_RED,      /* the flattened red extent, */
    ROW_CHUNKS,   /* its runs, */
    ROW_RUN,      /* elements of a run (the last: rest) */
    ROW_FIELDS
} RowField;
typedef int64_t PlanRow[ROW_FIELDS];

/* Bits of Facts.deps beside the axes. DEP_LATE: on something that is never computed early. */
enum { DEP_ROW = 1 << KERNEL_MAX_AXES, DEP_LATE = 2 << KERNEL_MAX_AXES };

typedef struct Facts {
    uint32_t deps;    /* axes (bits) and the segment row that the value depends on */
    bool     hoist;   /* may be computed early, once deps are known */
    bool     may_nan; /* f32 */
    double   lo, hi;  /* bounds of a number that is no NaN */
} Facts;

/* A kernel whose points read their neighbours along an axis: stencil.c. */
typedef struct StencilGuard {
    KVal  v;     /* a guard of a load or store */
    bool *value; /* [variants][parts][tile]: at each point of a tile */
    bool *along; /* [parts][tile]: as far as it depends on the axis */
} StencilGuard;
typedef struct StencilCond {
    KVal  v;     /* the same all along the axis */
    bool *value; /* [variants] */
} StencilCond;
/* Tiles from point `at` of a line on, whose guards come out alike. */
typedef struct StencilPart {
    int64_t at, tiles;
    int32_t size; /* points of each */
} StencilPart;
enum { STENCIL_PARTS = 5 };
typedef struct Stencil {
    int32_t       axis;    /* which units walk; -1: it is none */
    int32_t       tile;    /* points along it that are made together, at most; 0: no tiles */
    int32_t       n_parts; /* tiles cover all lines, which are whole, in these parts; 0: part of lines: */
    StencilPart   parts[STENCIL_PARTS];
    int32_t       period; /* of guards along the axis: where tiles may begin */
    int64_t       lo, hi; /* tiles cover [lo, hi) where the conds are those of a variant */
    int32_t       variants;
    bool          others; /* of whole lines some are of no variant */
    StencilCond  *conds;
    StencilGuard *guards;
    int32_t       n_conds, n_guards;
} Stencil;

typedef struct Plan {
    const Kernel *k;
    PlanKind      kind;
    int32_t       width;        /* lanes of a full vector; 1: scalar code */
    int32_t       vec;          /* axis that vectors walk, -1: none */
    int32_t       lanes;        /* accumulators of a run and column */
    int32_t       copies;       /* vectors in a round of the loop along the vec axis */
    int64_t       block;        /* of the vec axis, MAP and FOLD_COLUMNS */
    int64_t       columns;      /* FOLD_COLUMNS: block rounded up to whole vectors; else 1 */
    bool          fused;        /* `run` leaves nothing to `finish`: one run a point */
    bool          in_registers; /* a fold's full tile keeps its accumulators in registers; so does a stencil's line */
    int32_t       at_once;    /* accumulators that a walk over a run makes; stencils with many walk it several times */
    int64_t       tail_bits;  /* widths in which the vec axis ends, or of all rows; see emit_tail() */
    bool          short_runs; /* a run may be so short that what is left of it after whole tiles counts */
    int64_t       prefetch;   /* bytes ahead of loads that stream; 0: the machine sees to it */
    int64_t       run_align;  /* power of two that divides the start of every run */
    bool          ragged;     /* some run is no multiple of lanes, or some block is not full */
    int32_t       outer[KERNEL_MAX_AXES], n_outer; /* axes that units enumerate, last fastest */
    int32_t       red[KERNEL_MAX_AXES], n_red;     /* folds: red axes, last fastest */
    int32_t       order[KERNEL_MAX_AXES];          /* axes from the outermost loop to the innermost */
    KVal         *acc;                             /* accumulators at the top of the body */
    int32_t       n_acc, n_rows;
    PlanRow      *rows;  /* [n_rows + 1]: the last holds totals of the first three fields */
    Facts        *facts; /* [insts] */
    int32_t       body_cost;
    Stencil       stencil;
    int64_t       units, finish_units, scratch_bytes;
} Plan;

/* `k` is expanded. Everything is allocated from `a`. */
Plan plan_kernel(Arena *a, const Kernel *k, int32_t width);

/* The value of an axis's extent, an integer column or a row field when all rows agree. */
bool plan_extent(const Plan *p, int32_t axis, int64_t *extent);
bool plan_column(const Plan *p, int32_t col, int64_t *value);
bool plan_row_field(const Plan *p, RowField field, int64_t *value);

/* Is this loop written out instead of walked? */
bool plan_unrolls(const Plan *p, const KInst *loop);

/* Does this load read a large buffer from one end to the other? */
bool plan_streams(const Plan *p, const KInst *in);

/* Power of two that divides x, at most 4096 (also of 0). */
int64_t plan_align_of(int64_t x);

/* Whether it is one; then the axis leaves `outer` and `block` is set. (stencil.c) */
void   plan_stencil(Arena *a, Plan *p);
Facts *plan_facts(Arena *a, const Kernel *k);

#endif
