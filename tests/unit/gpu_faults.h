/* gpu_faults.h: a driver in front of another one that counts its calls and lets one of them fail. What gives something
 * back is still done, as a driver that reports an old error does. */
#ifndef DETENT_TESTS_GPU_FAULTS_H
#define DETENT_TESTS_GPU_FAULTS_H

#include "runtime/cuda/gpu.h"

typedef struct Faults {
    const CudaDriver *inner;
    int32_t           calls, fail_at; /* call number fail_at, from 1, fails; 0: none */
    const char       *failed;         /* the symbol of the call that did */
} Faults;
static Faults faults;

/* X(name, symbol, parameters, arguments): KEEP does nothing when it fails, GIVE does it and fails. */
/* clang-format off */
#define FAULTY_CALLS(KEEP, GIVE)                                                                                       \
    KEEP(memory_info, "cuMemGetInfo_v2", (size_t *unused, size_t *total), (unused, total))                             \
    KEEP(alloc, "cuMemAlloc_v2", (CuPtr *at, size_t bytes), (at, bytes))                                               \
    GIVE(free, "cuMemFree_v2", (CuPtr at), (at))                                                                       \
    KEEP(alloc_host, "cuMemAllocHost_v2", (void **at, size_t bytes), (at, bytes))                                      \
    GIVE(free_host, "cuMemFreeHost", (void *at), (at))                                                                 \
    KEEP(copy_to_device, "cuMemcpyHtoDAsync_v2", (CuPtr to, const void *from, size_t n, CuHandle s), (to, from, n, s)) \
    KEEP(copy_to_host, "cuMemcpyDtoHAsync_v2", (void *to, CuPtr from, size_t n, CuHandle s), (to, from, n, s))         \
    KEEP(copy_on_device, "cuMemcpyDtoDAsync_v2", (CuPtr to, CuPtr from, size_t n, CuHandle s), (to, from, n, s))       \
    KEEP(set_bytes, "cuMemsetD8Async", (CuPtr at, unsigned char v, size_t n, CuHandle s), (at, v, n, s))               \
    KEEP(stream_wait, "cuStreamSynchronize", (CuHandle s), (s))                                                        \
    KEEP(stream_wait_event, "cuStreamWaitEvent", (CuHandle s, CuHandle e, unsigned flags), (s, e, flags))              \
    KEEP(capture_begin, "cuStreamBeginCapture_v2", (CuHandle s, int mode), (s, mode))                                  \
    KEEP(graph_instantiate, "cuGraphInstantiateWithFlags", (CuHandle *x, CuHandle g, unsigned long long f), (x, g, f)) \
    KEEP(graph_launch, "cuGraphLaunch", (CuHandle x, CuHandle s), (x, s))                                              \
    KEEP(graph_nodes, "cuGraphGetNodes", (CuHandle g, CuHandle *nodes, size_t *n), (g, nodes, n))                      \
    GIVE(graph_free, "cuGraphDestroy", (CuHandle g), (g))                                                              \
    GIVE(graph_exec_free, "cuGraphExecDestroy", (CuHandle x), (x))                                                     \
    KEEP(event_new, "cuEventCreate", (CuHandle *e, unsigned flags), (e, flags))                                        \
    GIVE(event_free, "cuEventDestroy_v2", (CuHandle e), (e))                                                           \
    KEEP(event_record, "cuEventRecord", (CuHandle e, CuHandle s), (e, s))                                              \
    KEEP(event_wait, "cuEventSynchronize", (CuHandle e), (e))                                                          \
    KEEP(event_ms, "cuEventElapsedTime", (float *ms, CuHandle from, CuHandle to), (ms, from, to))                      \
    KEEP(module_load, "cuModuleLoadData", (CuHandle *m, const void *image), (m, image))                                \
    GIVE(module_free, "cuModuleUnload", (CuHandle m), (m))                                                             \
    KEEP(module_function, "cuModuleGetFunction", (CuHandle *f, CuHandle m, const char *name), (f, m, name))            \
    KEEP(launch, "cuLaunchKernel", (CuHandle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, CuHandle s, void **params, void **extra), (f, gx, gy, gz, bx, by, bz, shared, s, params, extra)) \
    KEEP(launch_host, "cuLaunchHostFunc", (CuHandle s, CuHostFn fn, void *user), (s, fn, user))
/* clang-format on */

static inline bool fault_now(const char *symbol)
{
    if (++faults.calls != faults.fail_at)
        return false;
    faults.failed = symbol;
    return true;
}

#define KEEP(name, symbol, params, args)                                                                               \
    static inline CuResult faulty_##name params                                                                        \
    {                                                                                                                  \
        return fault_now(symbol) ? CU_LAUNCH_FAILED : faults.inner->name args;                                         \
    }
#define GIVE(name, symbol, params, args)                                                                               \
    static inline CuResult faulty_##name params                                                                        \
    {                                                                                                                  \
        CuResult done = faults.inner->name args;                                                                       \
        return fault_now(symbol) ? CU_LAUNCH_FAILED : done;                                                            \
    }
FAULTY_CALLS(KEEP, GIVE)
#undef KEEP
#undef GIVE

/* A capture that failed is over, and has left no graph. */
static inline CuResult faulty_capture_end(CuHandle s, CuHandle *graph)
{
    CuResult done = faults.inner->capture_end(s, graph);
    if (!fault_now("cuStreamEndCapture"))
        return done;
    if (!done)
        (void)faults.inner->graph_free(*graph);
    *graph = NULL;
    return CU_LAUNCH_FAILED;
}

/* In front of `inner`; call number `fail_at` fails. */
static inline const CudaDriver *faulty_driver(Arena *a, const CudaDriver *inner, int32_t fail_at)
{
    CudaDriver *t = arena_copy(a, inner, sizeof *inner);
    faults = (Faults){ .inner = inner, .fail_at = fail_at };
#define SET(name, symbol, params, args) t->name = faulty_##name;
    FAULTY_CALLS(SET, SET)
#undef SET
    t->capture_end = faulty_capture_end;
    return t;
}

#endif
