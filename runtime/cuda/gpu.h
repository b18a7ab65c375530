/* gpu.h: an open GPU: context, streams, memory. What runs on it is exec_gpu.c (Exec of program.h) and cuDNN.
 *
 * Tested by tests/unit/test_gpu_exec.c, on the simulated and the null GPU, and with failures at every call by
 * test_gpu_faults.c. */
#ifndef DETENT_CUDA_GPU_H
#define DETENT_CUDA_GPU_H

#include "runtime/cuda/driver.h"

struct Gpu {
    Arena            *arena;
    Diag             *d;
    const CudaDriver *t;
    const char       *name;           /* "NVIDIA H100 80GB HBM3" */
    int32_t           sm;             /* 90: compute capability 9.0 */
    int32_t           driver_version; /* 13000 */
    int32_t           processors;     /* streaming multiprocessors */
    int64_t           memory_bytes;
    CuDevice          device;
    CuHandle          context, stream, copy_stream;
};

/* Device `ordinal` of the driver. NULL: reported (no device, driver too old); nothing is left open. */
Gpu    *gpu_open(Arena *a, Diag *d, const CudaDriver *t, int32_t ordinal);
void    gpu_close(Gpu *g); /* NULL is fine */
int64_t gpu_free_bytes(Gpu *g);
/* status == 0; else reports the call by its name in the driver, with what to do. */
#define gpu_ok(g, call, status) gpu_check_((g), (call), (status))
bool gpu_check_(Gpu *g, const char *call, CuResult status);

/* Of an Exec on a GPU: what the graph of a step holds, kernels and calls together; 0: no graph was captured (yet). */
int64_t exec_gpu_graph_nodes(const Exec *e, int32_t program);

/* Plain loops (reference_call) as work in the GPU's stream: the library calls of a simulated GPU; on a null one they
 * are checked and not run. */
CallLib *calllib_gpu_reference(Arena *a, Gpu *g);

#endif
