/* driver.h: the CUDA driver as a table of functions. It is filled from libcuda.so.1 at run time (load.c), by the
 * simulator (sim_driver.c: kernels run as text on the CPU) or by nothing at all (null_driver.c: launches are checked,
 * not computed); tests put failures in front of any of them. The engine (gpu.h, exec_gpu.c) knows the table alone.
 *
 * Types and numbers are those of the driver's interface, version 12 and later, written anew: no CUDA header is needed.
 *
 * Tested by tests/unit/test_gpu_driver.c and test_gpu_faults.c. */
#ifndef DETENT_CUDA_DRIVER_H
#define DETENT_CUDA_DRIVER_H

#include "runtime/program.h"

typedef int      CuResult; /* 0: success */
typedef uint64_t CuPtr;    /* an address of the device */
typedef int      CuDevice;
typedef void    *CuHandle; /* context, stream, event, module, function, graph: whatever the driver made */
typedef void (*CuHostFn)(void *user);

enum {
    CU_SUCCESS = 0,
    CU_INVALID_VALUE = 1,
    CU_OUT_OF_MEMORY = 2,
    CU_NO_DEVICE = 100,
    CU_INVALID_IMAGE = 200,
    CU_NO_BINARY_FOR_GPU = 209,
    CU_UNSUPPORTED_PTX_VERSION = 222,
    CU_NOT_FOUND = 500,
    CU_ILLEGAL_ADDRESS = 700,
    CU_LAUNCH_FAILED = 719,
    CU_SYSTEM_DRIVER_MISMATCH = 803
};

/* X(name, symbol in the library, parameters): all return CuResult. */
/* clang-format off */
#define CUDA_DRIVER(X)                                                                                                 \
    X(init,                "cuInit",                       (unsigned flags))                                           \
    X(driver_version,      "cuDriverGetVersion",           (int *version))                                             \
    X(device_count,        "cuDeviceGetCount",             (int *count))                                               \
    X(device_get,          "cuDeviceGet",                  (CuDevice *device, int ordinal))                            \
    X(device_name,         "cuDeviceGetName",              (char *name, int len, CuDevice device))                     \
    X(device_attribute,    "cuDeviceGetAttribute",         (int *value, int attribute, CuDevice device))               \
    X(device_memory,       "cuDeviceTotalMem_v2",          (size_t *bytes, CuDevice device))                           \
    X(context_retain,      "cuDevicePrimaryCtxRetain",     (CuHandle *context, CuDevice device))                       \
    X(context_release,     "cuDevicePrimaryCtxRelease_v2", (CuDevice device))                                          \
    X(context_set,         "cuCtxSetCurrent",              (CuHandle context))                                         \
    X(memory_info,         "cuMemGetInfo_v2",              (size_t *free, size_t *total))                              \
    X(alloc,               "cuMemAlloc_v2",                (CuPtr *at, size_t bytes))                                  \
    X(free,                "cuMemFree_v2",                 (CuPtr at))                                                 \
    X(alloc_host,          "cuMemAllocHost_v2",            (void **at, size_t bytes))                                  \
    X(free_host,           "cuMemFreeHost",                (void *at))                                                 \
    X(copy_to_device,      "cuMemcpyHtoDAsync_v2",         (CuPtr to, const void *from, size_t bytes, CuHandle stream)) \
    X(copy_to_host,        "cuMemcpyDtoHAsync_v2",         (void *to, CuPtr from, size_t bytes, CuHandle stream))      \
    X(copy_on_device,      "cuMemcpyDtoDAsync_v2",         (CuPtr to, CuPtr from, size_t bytes, CuHandle stream))      \
    X(set_bytes,           "cuMemsetD8Async",              (CuPtr at, unsigned char value, size_t n, CuHandle stream)) \
    X(stream_new,          "cuStreamCreate",               (CuHandle *stream, unsigned flags))                         \
    X(stream_free,         "cuStreamDestroy_v2",           (CuHandle stream))                                          \
    X(stream_wait,         "cuStreamSynchronize",          (CuHandle stream))                                          \
    X(stream_wait_event,   "cuStreamWaitEvent",            (CuHandle stream, CuHandle event, unsigned flags))          \
    X(capture_begin,       "cuStreamBeginCapture_v2",      (CuHandle stream, int mode))                                \
    X(capture_end,         "cuStreamEndCapture",           (CuHandle stream, CuHandle *graph))                         \
    X(graph_instantiate,   "cuGraphInstantiateWithFlags",  (CuHandle *exec, CuHandle graph, unsigned long long flags)) \
    X(graph_launch,        "cuGraphLaunch",                (CuHandle exec, CuHandle stream))                           \
    X(graph_nodes,         "cuGraphGetNodes",              (CuHandle graph, CuHandle *nodes, size_t *count))           \
    X(graph_free,          "cuGraphDestroy",               (CuHandle graph))                                           \
    X(graph_exec_free,     "cuGraphExecDestroy",           (CuHandle exec))                                            \
    X(event_new,           "cuEventCreate",                (CuHandle *event, unsigned flags))                          \
    X(event_free,          "cuEventDestroy_v2",            (CuHandle event))                                           \
    X(event_record,        "cuEventRecord",                (CuHandle event, CuHandle stream))                          \
    X(event_wait,          "cuEventSynchronize",           (CuHandle event))                                           \
    X(event_ms,            "cuEventElapsedTime",           (float *ms, CuHandle from, CuHandle to))                    \
    X(module_load,         "cuModuleLoadData",             (CuHandle *module, const void *image))                      \
    X(module_free,         "cuModuleUnload",               (CuHandle module))                                          \
    X(module_function,     "cuModuleGetFunction",          (CuHandle *function, CuHandle module, const char *name))    \
    X(function_attribute,  "cuFuncGetAttribute",           (int *value, int attribute, CuHandle function))             \
    X(launch,              "cuLaunchKernel",               (CuHandle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, CuHandle stream, void **params, void **extra)) \
    X(launch_host,         "cuLaunchHostFunc",             (CuHandle stream, CuHostFn fn, void *user))                 \
    X(error_name,          "cuGetErrorName",               (CuResult error, const char **text))                        \
    X(error_text,          "cuGetErrorString",             (CuResult error, const char **text))
/* clang-format on */

typedef struct CudaDriver {
#define X(name, symbol, params) CuResult(*name) params;
    CUDA_DRIVER(X)
#undef X
    const char *path; /* of the library; "simulated GPU", "null GPU" */
    /* NULL, or told of each launch just before it: what its buffers are (l->uses), where they lie. Simulated and null
     * GPUs know no bounds else. Kernels and library calls both. */
    void (*watch)(const Launch *l, const CuPtr *at);
    bool runs_source; /* module_load takes CUDA text */
} CudaDriver;

/* From libcuda.so.1, or the file or directory in DETENT_CUDA_DRIVER. NULL: reported. */
const CudaDriver *cuda_driver_load(Arena *a, Diag *d);

/* The driver's functions have no pointer for a user's state, so a simulated or null GPU is one of a process: opening it
 * again begins anew. memory: bytes it claims to have, 0: 1 TiB. */
const CudaDriver *cuda_driver_sim(Arena *a, Diag *d, int64_t memory);
const CudaDriver *cuda_driver_null(Arena *a, Diag *d, int64_t memory);

/* "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory", and a help line with what to do about this status. */
void cuda_report(Diag *d, const CudaDriver *t, const char *call, CuResult status);

#endif
