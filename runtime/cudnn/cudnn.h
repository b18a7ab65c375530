/* cudnn.h: convolutions and matrix products by cuDNN's graph interface, loaded at run time.
 *
 * Tensors lie as program.h says with krsc set: activations NHWC, weights KRSC. Engines are chosen among those that are
 * deterministic, fit the workspace limit and compute as `math` says; the first by the library's own ranking or, on
 * request, the fastest by measurement. The choice is kept on disk by (device, versions, shape).
 *
 * scratch_bytes() of a call that no engine takes is -1, so that a compiler can ask without anything being reported:
 * integer calls have engines where there is a driver (they are compiled at run time), and only of s8 by s8.
 *
 * Facts: the graph API's support surface, see docs/decisions.md. Tested by tests/unit/test_cudnn.c (every plan of the
 * networks, made without a device) and test_cudnn_run.c (runs; on a GPU against plain loops). */
#ifndef DETENT_CUDNN_H
#define DETENT_CUDNN_H

#include "runtime/cuda/gpu.h"

/* f32: true single precision, no tensor cores. tf32: f32 memory, products of 10-bit mantissas on tensor cores. fp16,
 * bf16: operands are converted on the way in; sums are f32, memory stays f32; as tf32 where there are no such engines.
 */
typedef enum CudnnMath { CUDNN_MATH_F32, CUDNN_MATH_TF32, CUDNN_MATH_FP16, CUDNN_MATH_BF16 } CudnnMath;

typedef struct CudnnOptions {
    CudnnMath   math;
    int64_t     workspace_cap; /* bytes; 0: 64 MiB */
    bool        autotune;      /* time all engines that remain, once */
    const char *cache_dir;     /* NULL: nothing is kept */
    int32_t     sm;            /* without a GPU: architecture to plan for, 80, 86 or 90 */
} CudnnOptions;

/* gpu NULL: plans are only built, for opt.sm, from stored device properties; nothing can be run. NULL: reported (cuDNN
 * missing, too old). */
CallLib *calllib_cudnn(Arena *a, Diag *d, Gpu *gpu, CudnnOptions opt);

#endif
