/* load.c: the CUDA driver's library, found and taken apart into the table of driver.h.
 *
 * Tested by tests/unit/test_gpu_faults.c (missing, without a function, damaged) and on a machine with a GPU. */
#include "runtime/cuda/driver.h"

static const char *const driver_names[] = { "libcuda.so.1", NULL };

static const DynFunc     driver_funcs[] = {
#define X(name, symbol, params) { symbol, offsetof(CudaDriver, name), false },
    CUDA_DRIVER(X)
#undef X
};

static const DynLib driver_lib = { .what = "CUDA driver",
                                   .names = driver_names,
                                   .dirs = dynlib_gpu_dirs,
                                   .env = "DETENT_CUDA_DRIVER",
                                   .install = "install the NVIDIA driver, version 525 or later (on Debian and Ubuntu: "
                                              "apt-get install nvidia-driver), or train with --backend cpu",
                                   .funcs = driver_funcs,
                                   .n_funcs = DT_COUNT(driver_funcs) };

const CudaDriver   *cuda_driver_load(Arena *a, Diag *d)
{
    CudaDriver *t = ARENA_NEW(a, CudaDriver);
    t->path = dynlib_open(a, d, &driver_lib, t);
    return t->path ? t : NULL;
}
