/* schedule.h: how a kernel is spread over blocks and threads of a GPU. A pure function of the kernel: not of the GPU,
 * not of the run.
 *
 * MAP, for kernels without a reduction: a thread makes `width` neighbours along the vec axis.
 *
 * FOLD, for reductions. A *tile* is one par point, or `columns` neighbours of the vec axis when that is a par axis. A
 * chunk (one run of the red index, see Kernel.lanes) of a tile is the work of lanes x columns threads: a *slot*. A
 * block holds `slots` of them. How chunks come together is FoldEnd.
 *
 * Tested by tests/unit/test_cuda.c. */
#ifndef DETENT_CUDA_SCHEDULE_H
#define DETENT_CUDA_SCHEDULE_H

#include "ir/kernel/kernel.h"

typedef enum ScheduleKind { SCHEDULE_MAP, SCHEDULE_FOLD } ScheduleKind;

typedef enum FoldEnd {
    END_SLOT,  /* one chunk: its slot has the total */
    END_BLOCK, /* the slots of a block are all chunks of a tile */
    END_GRID   /* chunks of many blocks: partial results in scratch memory; the last block to arrive adds them up */
} FoldEnd;

/* Numbers of a row of the segment table (a kernel without one has a single row). */
typedef enum ScheduleField {
    FIELD_BLOCK,   /* first block */
    FIELD_WORK,    /* MAP: threads with something to do; FOLD: tiles */
    FIELD_RED,     /* the flattened red extent, */
    FIELD_CHUNKS,  /* its runs, */
    FIELD_RUN,     /* elements of a run (the last: rest) */
    FIELD_GROUPS,  /* END_GRID: blocks that share a tile */
    FIELD_TICKET,  /* first ticket, */
    FIELD_SCRATCH, /* first partial result, in floats */
    FIELD_COUNT
} ScheduleField;
typedef int64_t ScheduleRow[FIELD_COUNT];

/* How an instruction reaches memory. */
typedef enum Access {
    ACCESS_ELEMENT, /* one element at a time */
    ACCESS_VECTOR,  /* `width` neighbours at once */
    ACCESS_ATOMIC   /* one element of less than a byte, whose byte other threads write, too */
} Access;

typedef struct BufFacts {
    bool body_loads, body_stores, final_loads, final_stores;
    bool mixed;  /* what is stored is loaded again: everything in the order of the text */
    bool atomic; /* elements of less than a byte, stored so that threads share bytes */
} BufFacts;

typedef struct InstFacts {
    uint32_t deps;    /* axes (bits) that the value depends on; DEP_LATE */
    bool     varying; /* MAP: along the vec axis */
    Access   access;  /* LOAD, STORE */
} InstFacts;

enum { DEP_LATE = 1 << KERNEL_MAX_AXES }; /* not to be computed ahead: total of a loop, load of what is stored */

typedef struct Schedule {
    const Kernel *k; /* expanded */
    ScheduleKind  kind;
    int32_t       vec;                             /* axis of neighbouring threads, -1: none */
    int32_t       outer[KERNEL_MAX_AXES], n_outer; /* the other axes that threads are spread over, last fastest */
    int32_t       red[KERNEL_MAX_AXES], n_red;     /* FOLD */
    int32_t       width;                           /* MAP */
    bool          ragged;                          /* MAP: the last group of a row has less than `width` */
    FoldEnd       end;
    int32_t       columns, lanes, slots, unroll;
    bool          even;             /* FOLD: each thread makes the same number of elements, `rounds`, in each chunk */
    bool          loads_first;      /* FOLD: `unroll` elements are loaded before any of them is stored */
    int64_t       rounds;           /* the greatest number of them */
    int32_t       slab, slab_loads; /* END_GRID: chunks that are added up at a time; what a thread loads of them */
    bool          slab_even;        /* all slabs are full, and all their loads */
    bool          one_slab;         /* there is never more than one */
    KVal         *acc;              /* accumulators at the top of the body */
    int32_t       n_acc;
    BufFacts     *bufs;
    InstFacts    *insts;
    int32_t       n_rows;
    ScheduleRow  *rows;  /* [n_rows + 1]: the last holds totals of BLOCK, TICKET, SCRATCH */
    int32_t       block; /* threads */
    int64_t       grid, scratch_bytes;
    int32_t       tickets, shared_floats, shared_bytes;
} Schedule;

/* `k` is expanded. */
Schedule schedule_kernel(Arena *a, const Kernel *k);
/* The schedule in words, for people. */
void schedule_describe(Str *out, const Schedule *s);

/* Is the number the same in all rows? */
bool schedule_field(const Schedule *s, ScheduleField f, int64_t *value);
bool schedule_extent(const Schedule *s, int32_t axis, int64_t *extent);
bool schedule_column(const Schedule *s, int32_t col, int64_t *value);
bool schedule_is_one(const Schedule *s, int32_t axis); /* extent 1 everywhere: stands still at 0 */
/* Instructions of a region, those of loops as often as they run when `unrolled`. */
int64_t schedule_cost(const Schedule *s, const KRegion *region, bool unrolled);
/* Is this loop written out by the compiler? */
bool schedule_unrolls(const Schedule *s, const KInst *loop);
/* END_GRID: numbers that are loaded at once, 4 or 1. */
int32_t schedule_quad(const Schedule *s);
/* FOLD: may this instruction at the top of the body be computed once for all red points? */
bool schedule_hoists(const Schedule *s, KVal v);

/* facts.c */
void schedule_facts(Arena *a, Schedule *s);                               /* deps, what is stored */
void schedule_accesses(Schedule *s);                                      /* for the width chosen */
bool schedule_aligned(const Schedule *s, const KInst *in, int32_t width); /* neighbours that begin at a multiple */

#endif
