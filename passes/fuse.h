/* fuse.h: what fuse.c (who is stored) and fuse_group.c (who shares a kernel) share. */
#ifndef DETENT_PASSES_FUSE_H
#define DETENT_PASSES_FUSE_H

#include "passes/passes.h"

/* A set of values, as bits. */
typedef uint64_t  *ValueSet;
static inline bool set_has(ValueSet s, ValueId v)
{
    return (s[v >> 6] >> (v & 63) & 1) != 0;
}
static inline void set_put(ValueSet s, ValueId v)
{
    s[v >> 6] |= (uint64_t)1 << (v & 63);
}

/* The index space of a kernel: a physical shape. Two values of one space are computed by one loop nest. */
typedef struct Space {
    Shape  shape;
    Layout layout;
} Space;

typedef struct FuseCtx {
    PassCtx  *c;
    Graph    *g;
    Uses      uses;
    int32_t   n, words; /* values when the pass began; words of a set */
    bool     *stored;   /* by value: has memory of its own */
    ValueSet *leaves;   /* by value: stored full-size values read to compute it in place; NULL: it never is */
} FuseCtx;

/* The space in which a value's body runs: its own for ELTWISE and NEST, its largest input's for REDUCE, its first
 * input's for FOLD. */
Space fuse_space(const Graph *g, ValueId v);
bool  space_eq(Space a, Space b);
/* The dimensions that a reduction keeps, as its attribute says: "", "c", "o", "nc", "n". */
const char *fuse_keep(const Graph *g, ValueId v);
/* Which dimension of a larger operand a rank-1 operand of v runs along. */
int32_t fuse_vector_dim(const Graph *g, ValueId v);
/* Computed where it is used: element-wise, not stored. */
bool fuse_virtual(const FuseCtx *f, ValueId v);
/* The input is read at every point of the space, not broadcast. */
bool fuse_full_size(const FuseCtx *f, ValueId input, Space s);

/* Appends the views of a value that has just been written, and theirs, to the order. */
void fuse_write_views(Graph *g, const Uses *u, ValueId of);
/* Puts stored values and reductions into groups and copies into each what it computes in place. */
void fuse_make_groups(FuseCtx *f);

/* The order and its groups as they were, to see whether a pass changed them. */
typedef struct GroupedOrder {
    const ValueId *order;
    const int32_t *group;
    int32_t        n;
} GroupedOrder;
GroupedOrder grouped_order(Arena *a, const Graph *g);
bool         grouped_order_same(const GroupedOrder *old, const Graph *g);

#endif
