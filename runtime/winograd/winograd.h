/* winograd.h: gradients of 3 x 3 convolutions with stride 1 in f32 by Winograd's algorithm, on the CPU.
 *
 *   dx   F(2 x 2, 3 x 3): 4 x 4 pixels of dy and the turned window give 2 x 2 pixels of dx      CALL_CONV_BWD_X
 *   dw   F(3 x 3, 2 x 2): 4 x 4 pixels of x and 2 x 2 pixels of dy give a part of the window    CALL_CONV_BWD_W
 *
 * (A. Lavin, S. Gray: Fast Algorithms for Convolutional Neural Networks, 2015.) Both take 16 products where the sum of
 * products takes 36; the points are 0, 1, -1 and infinity, so what is around the products are sums, and halves, which
 * are exact. Every sum has one order, decided by the shape alone: the bits are the same on every instruction set and
 * under every number of threads. Errors of rounding: docs/decisions.md.
 *
 * Tested by tests/unit/test_winograd.c: each instruction set against plain loops and against the others. */
#ifndef DETENT_RUNTIME_WINOGRAD_WINOGRAD_H
#define DETENT_RUNTIME_WINOGRAD_WINOGRAD_H

#include "runtime/integer/integer.h"

/* A library that makes these gradients itself where that is faster, and leaves all other calls to `others`, which it
 * releases with itself. Which ones these are depends on others->vector_bits and the shape, not on `isa`, and so do the
 * bits. threads 0: what OpenMP says. */
CallLib *calllib_winograd(Arena *a, CallLib *others, int threads, Isa isa);

#endif
