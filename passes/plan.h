/* plan.h: lifetimes and offsets, shared by plan_memory.c, plan_print.c and rematerialize.c. Time is the number of the
 * group. */
#ifndef DETENT_PASSES_PLAN_H
#define DETENT_PASSES_PLAN_H

#include "passes/passes.h"

/* A value that has memory of its own. */
typedef struct Stored {
    ValueId v;
    int32_t first,
        last; /* groups; the one that makes it, the last that reads it (its number of groups: the host does) */
    int64_t bytes;
    ValueId leaf; /* stored over this param or state; VALUE_NONE */
    bool    output;
    int64_t offset; /* from plan_offsets() */
} Stored;

typedef struct StoredList {
    VEC(Stored) at;
} StoredList;

/* Every value that is made by a group and read outside it, in order of their making. */
StoredList plan_stored(Arena *a, const Graph *g);
/* Finds an offset for each, largest value first (at[] is sorted so), at the lowest gap that is free during its life.
 * Bytes that all of them take. */
int64_t plan_offsets(Arena *a, Stored **at, int32_t n, int64_t align);
#endif
