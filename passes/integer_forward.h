/* integer_forward.h: what the two files of the pass integer-forward share: integer_choose.c, which products become ones
 * of codes; integer_forward.c, how they are rewritten. */
#ifndef DETENT_PASSES_INTEGER_FORWARD_H
#define DETENT_PASSES_INTEGER_FORWARD_H

#include "passes/pass_impl.h"

/* The two sides of a product, as operands of conv2d, linear and conv_transpose2d. */
enum { SIDE_X, SIDE_W, SIDE_COUNT };

/* How an operand is made of codes: step code + offset.
 *
 *   qdq x, step                code
 *   qdq x, step, zero          code less the zero point where that is a byte, and the real 0 has code 0: `centred`;
 *                              else the code, and the offset is -zero step
 *   add (qdq ...), scalar      the same, and the scalar is the offset */
typedef struct Coded {
    ValueId qdq;    /* VALUE_NONE: none of these */
    ValueId scalar; /* VALUE_NONE: nothing is added */
    bool    centred, by_zero;
    int64_t lo, hi; /* of the codes */
} Coded;
Coded              coded_operand(const Graph *g, ValueId id);
static inline bool coded_has_offset(const Coded *c)
{
    return c->scalar != VALUE_NONE || c->by_zero;
}

bool integer_is_product(const Graph *g, ValueId id);
/* By value: a product that becomes one of integers. Each product is counted and explained. */
bool *integer_choose(PassCtx *c, const Graph *g);

#endif
