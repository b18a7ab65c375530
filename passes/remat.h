/* remat.h: what the files of the pass rematerialize share. Time is the number of the launch in the order that schedule
 * fixed. */
#ifndef DETENT_PASSES_REMAT_H
#define DETENT_PASSES_REMAT_H

#include "passes/passes.h"

/* A value that a launch makes and others read. */
typedef struct RematItem {
    ValueId v;
    int32_t first;              /* the launch that makes it */
    int64_t bytes;              /* in the plan; 0: it lies elsewhere: over a param, or with the outputs */
    int32_t first_use, n_use;   /* RematModel.use: launches that read it, rising */
    int32_t first_from, n_from; /* RematModel.from: items that it is made from */
    bool    fixed;              /* it cannot be made again */
    int32_t until;              /* ... but in front of this launch: from there on a param that it reads is another */
    int32_t cut;                /* its readers up to this launch come before the longest time in which nobody does */
    int64_t moved, flops;       /* what it costs to make it again: bytes and operations */
    double  ns;
} RematItem;

typedef struct RematModel {
    Arena     *a;
    Graph     *g;
    int64_t    align;
    RematItem *item;
    int32_t    n, n_launches;
    int32_t   *item_of; /* by value; -1 */
    int32_t   *use, *from;
    int32_t   *first_read, *read; /* by launch: the items that it reads */
    int32_t   *first_made, *made; /* ... and those that it makes */
    double     step_ns;
} RematModel;

/* Everything the plan needs to know of the scheduled graph. (remat_model.c) */
RematModel remat_model(PassCtx *c, Graph *g);
/* Values of the launch that its result v is computed from, v last: what a second launch that makes v alone holds. */
typedef struct RematCone {
    VEC(ValueId) at;
} RematCone;
void remat_cone(Arena *a, const Graph *g, ValueId v, RematCone *out);

/* One launch of the new order: that of a number, or one that makes an item a second time. */
typedef struct RematStep {
    int32_t launch; /* in front of which it comes, or which it is */
    int32_t item;   /* -1: the launch itself */
    int32_t
        first_from; /* of RematWalk.from: for each item that it is made from the step that makes it, -1: the first */
} RematStep;

/* What becomes of a value between its last reader of forward and its first of backward: it is kept; it is made again
 * once and lives until its last reader; it is made again for each launch that reads it. */
enum { KEPT, ONCE, EACH_TIME };

/* The order of launches for a set of values that are not kept, and what is alive when. (remat_walk.c) */
typedef struct RematWalk {
    RematModel *m;
    uint8_t    *how;             /* by item: KEPT, ONCE, EACH_TIME */
    int32_t    *born, *last;     /* by item: steps; last -1: nobody needs it */
    int32_t    *copy, *copy_for; /* by item: the step that made its newest copy, -1; and for which launch that was */
    int32_t    *source;          /* by item, for the launch that is looked at: where it comes from */
    VEC(RematStep) steps;
    VEC(int32_t) copy_last; /* by step; -1: it is no copy, or nobody needs it */
    VEC(int32_t) from;
    VEC(int64_t) alive; /* by step */
    int32_t n_again;
    double  ns;  /* of all launches that are made again */
    bool    bad; /* it cannot be done */
} RematWalk;
RematWalk remat_walk_new(RematModel *m);
void      remat_walk(RematWalk *w);
/* After a walk: sum over all launches of the bytes that are alive beyond `most`; the most that are alive; what the plan
 * of these launches takes. */
double  remat_excess(const RematWalk *w, int64_t most);
int64_t remat_peak(const RematWalk *w);
int64_t remat_packed(const RematWalk *w);

/* Rewrites the graph to the order of the walk. (remat_write.c) */
void remat_write(PassCtx *c, const RematWalk *w);

#endif
