/* gpu_backend.h: the GPU that a test program is for. DETENT_BACKEND names it: cuda (the default), a real one, or sim,
 * the simulated one, on which the same program does less. Without a GPU main() says why and returns SKIPPED: ctest
 * counts that as skipped. */
#ifndef DETENT_TESTS_GPU_BACKEND_H
#define DETENT_TESTS_GPU_BACKEND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/check.h"
#include "runtime/cudnn/cudnn.h"

enum { SKIPPED = 77 };

typedef struct GpuTest {
    Arena             a;
    Diag              d; /* prints */
    const CudaDriver *driver;
    Gpu              *gpu;
    KernelJit        *jit;
    CallLib          *lib;
} GpuTest;

static inline bool gpu_is_real(void)
{
    const char *backend = getenv("DETENT_BACKEND");
    return backend == NULL || backend[0] == 0 || strcmp(backend, "cuda") == 0;
}

/* DT_KERNELS and DT_SEED choose more, or others. */
static inline int64_t gpu_env(const char *name, int64_t real, int64_t simulated)
{
    const char *text = getenv(name);
    return text != NULL ? strtoll(text, NULL, 10) : gpu_is_real() ? real : simulated;
}

static inline const CudaDriver *gpu_driver(Arena *a, Diag *d)
{
    return gpu_is_real() ? cuda_driver_load(a, d) : cuda_driver_sim(a, d, 0);
}

/* False: there is no GPU, and stderr says why. What is there must work: that is what the tests are for. */
static inline bool gpu_there(void)
{
    Arena             a = arena_new("gpu");
    Diag              d = diag_new(NULL);
    const CudaDriver *driver = gpu_driver(&a, &d);
    int               count = 0;
    bool              there =
        driver != NULL && driver->init(0) == CU_SUCCESS && driver->device_count(&count) == CU_SUCCESS && count > 0;
    if (!there)
        fprintf(stderr, "skipped: %s\n", driver == NULL ? d.text.s : "the NVIDIA driver finds no GPU");
    diag_free(&d);
    arena_free(&a);
    return there;
}

static inline int gpu_close_all(void **state)
{
    GpuTest *t = *state;
    if (t->lib != NULL)
        t->lib->release(t->lib->self);
    if (t->jit != NULL)
        jit_free(t->jit);
    gpu_close(t->gpu);
    diag_free(&t->d);
    arena_free(&t->a);
    free(t);
    return 0;
}

/* One GPU for all tests of a program. */
static inline int gpu_open_all(void **state)
{
    GpuTest *t = calloc(1, sizeof *t);
    *state = t;
    t->a = arena_new("gpu");
    t->d = diag_new(stderr);
    t->driver = gpu_driver(&t->a, &t->d);
    t->gpu = t->driver != NULL ? gpu_open(&t->a, &t->d, t->driver, 0) : NULL;
    if (t->gpu == NULL)
        return -1;
    t->jit = jit_cuda_new(&t->a, &t->d, (CudaJitOptions){ .sm = gpu_is_real() ? t->gpu->sm : 0 });
    t->lib =
        gpu_is_real() ? calllib_cudnn(&t->a, &t->d, t->gpu, (CudnnOptions){ 0 }) : calllib_gpu_reference(&t->a, t->gpu);
    return t->jit != NULL && t->lib != NULL ? 0 : -1;
}

#endif
