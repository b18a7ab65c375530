/* cuda.h: from kernels to CUDA C that a person would be glad to read. One text a program; NVRTC compiles it, the
 * simulator (runtime/sim/sim.h, which states the language) runs it, tests compare both with the interpreter.
 *
 * The text depends on the kernels alone: not on the GPU, not on the run. Buffers begin at multiples of 16 bytes. Those
 * of elements of less than a byte are read and written up to a whole word of 4 bytes.
 *
 * Tested by tests/unit/test_cuda.c: every kernel of the networks and methods, hand-written and generated ones, in the
 * simulator against the interpreter, bit for bit; a hash of every network's text. */
#ifndef DETENT_CODEGEN_CUDA_H
#define DETENT_CODEGEN_CUDA_H

#include "ir/kernel/kernel.h"
#include "runtime/program.h"

typedef struct CudaText {
    const char *source;
    int32_t     n, distinct;   /* kernels; functions in the text: equal kernels share one */
    GpuKernel  *kernels;       /* [n]; module NULL, registers -1: to be filled in */
    int64_t    *scratch_bytes; /* [n]: partial results of one launch */
} CudaText;

/* `title`: "resnet20.train", for the text's first line. Kernels are verified ones, as lowering makes them. */
CudaText cuda_print(Arena *a, const char *title, Kernel *const *kernels, int32_t n);

#endif
