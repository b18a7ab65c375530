/* gpu.c: opens a GPU: is the driver new enough, is there such a device, can it run what we compile; then a context and
 * two streams. Whatever fails is reported, and what was opened before it is closed.
 *
 * Tested by tests/unit/test_gpu_driver.c and, with a failure at each call, test_gpu_faults.c. */
#include "runtime/cuda/gpu.h"

enum {
    OLDEST_DRIVER = 12000, /* CUDA 12.0 */
    OLDEST_SM = 70,        /* shuffles with masks and independent threads */
    NAME_BYTES = 256,
    STREAM_NON_BLOCKING = 1
};
enum { ATTRIBUTE_PROCESSORS = 16, ATTRIBUTE_MAJOR = 75, ATTRIBUTE_MINOR = 76 };

static bool driver_ready(Gpu *g)
{
    if (!gpu_ok(g, "cuInit", g->t->init(0)) ||
        !gpu_ok(g, "cuDriverGetVersion", g->t->driver_version(&g->driver_version)))
        return false;
    if (g->driver_version >= OLDEST_DRIVER)
        return true;
    diag_error(g->d, LOC_NONE, "the NVIDIA driver supports CUDA %d.%d; CUDA 12.0 is needed", g->driver_version / 1000,
               g->driver_version % 1000 / 10);
    diag_note(g->d, LOC_NONE, "the driver is %s", g->t->path);
    diag_help(g->d, "install the NVIDIA driver 525.60 or later (nvidia-smi shows which one runs)");
    return false;
}

static bool device_find(Gpu *g, int32_t ordinal)
{
    int count = 0;
    if (!gpu_ok(g, "cuDeviceGetCount", g->t->device_count(&count)))
        return false;
    if (count == 0) {
        cuda_report(g->d, g->t, "cuDeviceGetCount", CU_NO_DEVICE);
        return false;
    }
    if (ordinal < 0 || ordinal >= count) {
        diag_error(g->d, LOC_NONE, "there is no GPU %d: the driver shows %d, numbered from 0", ordinal, count);
        diag_help(g->d, "detent doctor lists them; CUDA_VISIBLE_DEVICES chooses which ones a program sees");
        return false;
    }
    return gpu_ok(g, "cuDeviceGet", g->t->device_get(&g->device, ordinal));
}

static bool attribute(Gpu *g, int which, int *value)
{
    return gpu_ok(g, "cuDeviceGetAttribute", g->t->device_attribute(value, which, g->device));
}

static bool device_ask(Gpu *g)
{
    char   name[NAME_BYTES] = "";
    int    major = 0, minor = 0;
    size_t bytes = 0;
    if (!gpu_ok(g, "cuDeviceGetName", g->t->device_name(name, NAME_BYTES - 1, g->device)) ||
        !attribute(g, ATTRIBUTE_MAJOR, &major) || !attribute(g, ATTRIBUTE_MINOR, &minor) ||
        !attribute(g, ATTRIBUTE_PROCESSORS, &g->processors) ||
        !gpu_ok(g, "cuDeviceTotalMem_v2", g->t->device_memory(&bytes, g->device)))
        return false;
    g->name = arena_strdup(g->arena, name);
    g->sm = 10 * major + minor;
    g->memory_bytes = (int64_t)bytes;
    if (g->sm >= OLDEST_SM)
        return true;
    diag_error(g->d, LOC_NONE, "%s has compute capability %d.%d; 7.0 is needed", name, major, minor);
    diag_help(g->d, "GPUs from Volta (2017) on can be used; or train with --backend cpu");
    return false;
}

static bool context_open(Gpu *g)
{
    return gpu_ok(g, "cuDevicePrimaryCtxRetain", g->t->context_retain(&g->context, g->device)) &&
           gpu_ok(g, "cuCtxSetCurrent", g->t->context_set(g->context)) &&
           gpu_ok(g, "cuStreamCreate", g->t->stream_new(&g->stream, STREAM_NON_BLOCKING)) &&
           gpu_ok(g, "cuStreamCreate", g->t->stream_new(&g->copy_stream, STREAM_NON_BLOCKING));
}

Gpu *gpu_open(Arena *a, Diag *d, const CudaDriver *t, int32_t ordinal)
{
    Gpu *g = ARENA_NEW(a, Gpu);
    *g = (Gpu){ .arena = a, .d = d, .t = t, .name = "" };
    if (driver_ready(g) && device_find(g, ordinal) && device_ask(g) && context_open(g))
        return g;
    gpu_close(g);
    return NULL;
}

/* After an error of a kernel every call fails; there is nothing to add to what was said then. */
void gpu_close(Gpu *g)
{
    if (!g)
        return;
    if (g->copy_stream)
        (void)g->t->stream_free(g->copy_stream);
    if (g->stream)
        (void)g->t->stream_free(g->stream);
    if (g->context) {
        (void)g->t->context_set(NULL);
        (void)g->t->context_release(g->device);
    }
    g->context = g->stream = g->copy_stream = NULL;
}

int64_t gpu_free_bytes(Gpu *g)
{
    size_t available = 0, total = 0;
    if (!gpu_ok(g, "cuMemGetInfo_v2", g->t->memory_info(&available, &total)))
        return 0;
    return (int64_t)available;
}
