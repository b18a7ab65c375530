/* algebra.h: identities that keep every bit, shared by canonicalize and simplify (algebra.c). */
#ifndef DETENT_PASSES_ALGEBRA_H
#define DETENT_PASSES_ALGEBRA_H

#include "ir/ir.h"

/* The input that v equals bit for bit whatever its inputs hold; VALUE_NONE: none is known. */
ValueId algebra_same(const Graph *g, const Value *v);
/* Is (x a) b = x (a b) for every float x? *out = a b. */
bool algebra_fold_scale(float a, float b, float *out);

#endif
