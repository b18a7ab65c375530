/* plan.h: lifetimes, shared by plan_memory.c and plan_print.c. Time is the number of the group. */
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
} Stored;

typedef struct StoredList {
    VEC(Stored) at;
} StoredList;

/* Every value that is made by a group and read outside it, in order of their making. */
StoredList plan_stored(Arena *a, const Graph *g);
#endif
