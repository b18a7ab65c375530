/* lower.h: what lower.c (groups) and lower_kernel.c (one kernel) share. */
#ifndef DETENT_PASSES_LOWER_H
#define DETENT_PASSES_LOWER_H

#include "passes/passes.h"

/* A run of values of one group, to become one kernel. */
typedef struct Part {
    const ValueId *at;
    int32_t        n;
} Part;

/* How the points of a kernel are numbered. FLAT and ROW are for parts that are merged: they have one axis. */
typedef enum LowerForm {
    LOWER_AXES, /* an axis for each dimension */
    LOWER_FLAT, /* elements as they lie in memory; a vector along dimension 0 is found by dividing */
    LOWER_ROW,  /* the same for one index of dimension 0: outputs of a weight lie one behind the other */
} LowerForm;

/* What a part needs: rows where results are kept for each output; a reduction to one number must be walked as a whole.
 */
LowerForm lower_form(const Graph *g, Part part);
/* Rows of a segment table that the part takes. */
int64_t lower_rows_of(const Graph *g, Part part);

/* A kernel and where each of its buffers lies. */
typedef struct Lowered {
    Kernel  *kernel;
    ValueId *bound; /* by buffer: the value that was bound to it first */
    Place   *bound_at;
    int32_t  rows;  /* ROW: how many such kernels make the part; else 1 */
    int64_t *pitch; /* by buffer: elements from one of them to the next */
    int64_t  index; /* the same of logical indices */
} Lowered;

Lowered lower_kernel(PassCtx *c, const Graph *g, Part part, const char *name, const char *title, LowerForm form);

#endif
