/* lower.h: what lower.c (groups) and lower_kernel.c (one kernel) share. */
#ifndef DETENT_PASSES_LOWER_H
#define DETENT_PASSES_LOWER_H

#include "passes/passes.h"

/* A run of values of one group, to become one kernel. */
typedef struct Part {
    const ValueId *at;
    int32_t        n;
} Part;

/* A kernel and where each of its buffers lies. */
typedef struct Lowered {
    Kernel  *kernel;
    ValueId *bound; /* by buffer: the value that was bound to it first */
    Place   *bound_at;
} Lowered;

/* flat: one axis over all elements (every operand has the space's shape or is a scalar), so that parts can be merged.
 */
Lowered lower_kernel(PassCtx *c, const Graph *g, Part part, const char *name, const char *title, bool flat);

#endif
