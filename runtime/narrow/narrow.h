/* narrow.h: gradients of convolutions whose operands are rounded to bf16, and of weights in f32, on the CPU.
 *
 *   dx = sum over k, r, s of bf16(dy) bf16(w)          CALL_CONV_BWD_X with CallDesc.bf16
 *   dw = sum over pixels   of bf16(dy) bf16(x)         CALL_CONV_BWD_W with CallDesc.bf16
 *
 * A float is rounded to the nearest bf16, half to even, what is below the normal range to 0. An integer code of 8 bits
 * is one of its numbers: where w or x are codes, the gradient that comes in is the only thing that is rounded. Products
 * of two bf16 are exact in f32; they are added in f32, each result in an order that the shape alone decides. So the
 * bits are those of the processor's instruction for it (AVX512-BF16, two products a lane) on every instruction set and
 * under every number of threads; without that instruction the same sums are made by FMA, no faster than in f32.
 *
 * Tested by tests/unit/test_narrow.c: each instruction set against plain loops and against the others. */
#ifndef DETENT_RUNTIME_NARROW_NARROW_H
#define DETENT_RUNTIME_NARROW_NARROW_H

#include <string.h>

#include "runtime/integer/integer.h"

/* The nearest bf16, as its bits; a NaN stays one. */
static inline uint16_t bf16_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    if ((u & 0x7f800000) == 0)
        return (uint16_t)(u >> 16 & 0x8000);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float bf16_value(uint16_t bits)
{
    uint32_t u = (uint32_t)bits << 16;
    float    x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* What the kernels are made of under --isa `isa` on this machine: "AVX512-BF16". */
const char *narrow_doc(Isa isa);

/* A library that makes these gradients itself and leaves all other calls to `others`, which it releases with itself. Of
 * weights' gradients in f32 it takes those that it makes faster than `others`: which ones these are depends on
 * others->vector_bits and the shape, not on `isa`, and so do the bits. threads 0: what OpenMP says. */
CallLib *calllib_narrow(Arena *a, CallLib *others, int threads, Isa isa);

#endif
