/* test_gpu_faults.c: what goes wrong with a GPU, as a user meets it: libraries that are missing, old or damaged,
 * devices that cannot be used, memory that does not suffice, and each call of a whole life - opening, a program, steps,
 * results, closing - made to fail. Every time: one message that names the call, its status and what to do; no wrong
 * result; nothing left behind. */
#include "tests/unit/gpu_fixture.h"

#include "tests/unit/gpu_faults.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- A driver that fails ----------------------------------------------------------------------------------------- */

typedef struct Fault {
    const char *symbol; /* NULL: any call */
    int32_t     nth;    /* of these, from 1; 0: none fails */
    CuResult    status;
    bool        lasts; /* as after an error of a kernel: all later work fails as well */
} Fault;

static struct {
    const CudaDriver *inner;
    Fault             fault;
    int32_t           seen;   /* calls that the fault is about */
    const char       *failed; /* the call that did first; NULL: none yet */
} injected;

/* clang-format off */
#define OPENING_CALLS(KEEP, GIVE)                                                                                      \
    KEEP(init, "cuInit", (unsigned flags), (flags))                                                                    \
    KEEP(driver_version, "cuDriverGetVersion", (int *version), (version))                                              \
    KEEP(device_count, "cuDeviceGetCount", (int *count), (count))                                                      \
    KEEP(device_get, "cuDeviceGet", (CuDevice *device, int ordinal), (device, ordinal))                                \
    KEEP(device_name, "cuDeviceGetName", (char *name, int len, CuDevice device), (name, len, device))                  \
    KEEP(device_attribute, "cuDeviceGetAttribute", (int *value, int which, CuDevice device), (value, which, device))   \
    KEEP(device_memory, "cuDeviceTotalMem_v2", (size_t *bytes, CuDevice device), (bytes, device))                      \
    KEEP(context_retain, "cuDevicePrimaryCtxRetain", (CuHandle *context, CuDevice device), (context, device))          \
    GIVE(context_release, "cuDevicePrimaryCtxRelease_v2", (CuDevice device), (device))                                 \
    GIVE(context_set, "cuCtxSetCurrent", (CuHandle context), (context))                                                \
    KEEP(stream_new, "cuStreamCreate", (CuHandle *stream, unsigned flags), (stream, flags))                            \
    GIVE(stream_free, "cuStreamDestroy_v2", (CuHandle stream), (stream))
/* clang-format on */

static bool fails_now(const char *symbol)
{
    const Fault *f = &injected.fault;
    if (injected.failed)
        return f->lasts;
    if ((f->symbol && !str_eq(f->symbol, symbol)) || ++injected.seen != f->nth)
        return false;
    injected.failed = symbol;
    return true;
}

#define KEEP(name, symbol, params, args)                                                                               \
    static CuResult injected_##name params                                                                             \
    {                                                                                                                  \
        return fails_now(symbol) ? injected.fault.status : injected.inner->name args;                                  \
    }
#define GIVE(name, symbol, params, args)                                                                               \
    static CuResult injected_##name params                                                                             \
    {                                                                                                                  \
        CuResult done = injected.inner->name args;                                                                     \
        return fails_now(symbol) ? injected.fault.status : done;                                                       \
    }
OPENING_CALLS(KEEP, GIVE)
FAULTY_CALLS(KEEP, GIVE)
#undef KEEP
#undef GIVE

/* A capture that failed is over, and has left no graph. */
static CuResult injected_capture_end(CuHandle stream, CuHandle *graph)
{
    CuResult done = injected.inner->capture_end(stream, graph);
    if (!fails_now("cuStreamEndCapture"))
        return done;
    if (!done)
        (void)injected.inner->graph_free(*graph);
    *graph = NULL;
    return injected.fault.status;
}

static CudaDriver *inject(Arena *a, const CudaDriver *inner, Fault fault)
{
    CudaDriver *t = arena_copy(a, inner, sizeof *inner);
    injected.inner = inner;
    injected.fault = fault;
    injected.seen = 0;
    injected.failed = NULL;
#define SET(name, symbol, params, args) t->name = injected_##name;
    OPENING_CALLS(SET, SET)
    FAULTY_CALLS(SET, SET)
#undef SET
    t->capture_end = injected_capture_end;
    return t;
}

/* ---- A small program --------------------------------------------------------------------------------------------- */

enum { N = 64, N_BYTES = 4 * N, SIDE = 32 };

/* x, 2 x32 -> twice -> times w -> sum of the halves by the block that comes last -> s; twice -> out */
static const char source[] =
    "extern \"C\" __global__ void __launch_bounds__(32) twice(const float *x, float *y)\n"
    "{\n"
    "    int i = (int)(blockIdx.x * 32u + threadIdx.x);\n"
    "    y[i] = 2.0f * x[i];\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__(32) halves(const float *x, float *y, float *scratch,\n"
    "                                                          unsigned *tickets)\n"
    "{\n"
    "    __shared__ unsigned order;\n"
    "    scratch[blockIdx.x * 32u + threadIdx.x] = x[blockIdx.x * 32u + threadIdx.x];\n"
    "    __threadfence();\n"
    "    __syncthreads();\n"
    "    if (threadIdx.x == 0u)\n"
    "        order = atomicAdd(&tickets[0], 1u);\n"
    "    __syncthreads();\n"
    "    if (order == 1u) {\n"
    "        y[threadIdx.x] = scratch[threadIdx.x] + scratch[32u + threadIdx.x];\n"
    "        if (threadIdx.x == 0u)\n"
    "            tickets[0] = 0u;\n"
    "    }\n"
    "}\n";

typedef struct Small {
    Program     p;
    ProgTensor  tensors[4]; /* x, out, w, s */
    KernelImage images[2];
    GpuKernel   kernels[2];
    GpuModule   module;
    Launch      launches[4];
    MemRef      refs[9];
    BufUse      uses[9];
} Small;

static ProgTensor tensor(TensorKind kind, const char *name, int64_t elems, ArenaKind arena, int64_t offset)
{
    return (ProgTensor){ .kind = kind,
                         .name = name,
                         .dtype = DTYPE_F32,
                         .rank = 1,
                         .dim = { elems },
                         .elems = elems,
                         .bytes = 4 * elems,
                         .at = { arena, offset },
                         .init = "zeros" };
}

static Program *small_program(Arena *a)
{
    Small *s = ARENA_NEW(a, Small);
    s->module = (GpuModule){ .arch = "sim", .source = source };
    for (int i = 0; i < 2; i++) {
        s->kernels[i] = (GpuKernel){ &s->module, i ? "halves" : "twice", .grid = 2, .block = 32, .tickets = i };
        s->images[i] = (KernelImage){
            .name = s->kernels[i].entry, .scratch_bytes = i ? N_BYTES : 0, .n_bufs = 2, .gpu = &s->kernels[i]
        };
    }
    const MemRef x = { ARENA_IO, 0 }, out = { ARENA_IO, 256 }, w = { ARENA_PARAM, 0 }, sum = { ARENA_STATE, 0 };
    const MemRef t = { ARENA_WORK, 0 }, u = { ARENA_WORK, 256 };
    const MemRef refs[] = { x, t, t, w, u, u, sum, u, out };
    for (int i = 0; i < 9; i++) {
        bool written = i == 1 || i == 4 || i == 6 || i == 8;
        s->refs[i] = refs[i];
        s->uses[i] = (BufUse){ .bytes = i == 3   ? 4 * SIDE * SIDE
                                        : i == 6 ? N_BYTES / 2
                                                 : N_BYTES,
                               .value = i,
                               .access = written ? ACCESS_WRITE : ACCESS_READ };
    }
    s->launches[0] = (Launch){ .name = "first", .n_bufs = 2, .bufs = s->refs, .uses = s->uses };
    s->launches[1] = (Launch){ .kind = LAUNCH_CALL,
                               .name = "fc",
                               .call = { .kind = CALL_LINEAR_FWD, .n = 2, .c = SIDE, .h = 1, .w = 1, .k = SIDE },
                               .n_bufs = 3,
                               .bufs = s->refs + 2,
                               .uses = s->uses + 2 };
    s->launches[2] = (Launch){
        .name = "fold", .image = 1, .n_bufs = 2, .bufs = s->refs + 5, .uses = s->uses + 5, .scratch_bytes = N_BYTES
    };
    s->launches[3] = (Launch){ .name = "last", .n_bufs = 2, .bufs = s->refs + 7, .uses = s->uses + 7 };
    s->tensors[0] = tensor(TENSOR_INPUT, "x", N, ARENA_IO, 0);
    s->tensors[1] = tensor(TENSOR_OUTPUT, "out", N, ARENA_IO, 256);
    s->tensors[2] = tensor(TENSOR_PARAM, "w", SIDE * SIDE, ARENA_PARAM, 0);
    s->tensors[3] = tensor(TENSOR_STATE, "s", N / 2, ARENA_STATE, 0);
    s->p = (Program){ .arena = a,
                      .name = "small",
                      .bytes = { 512, 4 * SIDE * SIDE, N_BYTES / 2, 512, N_BYTES },
                      .tensors = s->tensors,
                      .n_tensors = 4,
                      .images = s->images,
                      .n_images = 2,
                      .launches = s->launches,
                      .n_launches = 4 };
    return &s->p;
}

/* w is 3 on its diagonal: out = 12 x, s = 6 (x's halves added). */
static void assert_out(const float *out, const float *x)
{
    for (int i = 0; i < N; i++)
        if (out[i] != 12 * x[i])
            fail_msg("out[%d] is %g, not %g", i, (double)out[i], (double)(12 * x[i]));
}

/* ---- A whole life ------------------------------------------------------------------------------------------------ */

typedef struct Life {
    Program    *p; /* NULL: the small one */
    ExecOptions opt;
    int32_t     ordinal;
    bool        opened, added;
    int32_t     steps; /* done right */
} Life;

enum { RUNS = 3, SUBMITS = 3 };

static void life_run(Life *l, Exec *e, int32_t index)
{
    const ProgTensor *x = program_tensor(l->p, "x"), *out = program_tensor(l->p, "out"), *w = program_tensor(l->p, "w");
    float             matrix[SIDE * SIDE] = { 0 }, sum[N / 2], *to;
    for (int i = 0; i < SIDE; i++)
        matrix[i * SIDE + i] = 3;
    tensor_write(e, index, w, matrix);
    for (int32_t step = 0; step < RUNS + SUBMITS; step++) {
        to = step < RUNS ? exec_ptr(e, index, x) : exec_input(e, index, x);
        for (int i = 0; i < N; i++)
            to[i] = (float)(step * N + i);
        float given[N];
        memcpy(given, to, sizeof given);
        const float *got = NULL;
        if (step < RUNS) {
            got = exec_run(e, index) ? exec_ptr(e, index, out) : NULL;
        } else {
            int64_t number = exec_submit(e, index);
            got = number >= 0 ? exec_output(e, index, out, number) : NULL;
        }
        if (!got)
            return;
        assert_out(got, given);
        l->steps++;
    }
    tensor_read(e, index, program_tensor(l->p, "s"), sum);
}

static void life_begin_and_end(GpuFixture *f, const CudaDriver *t, Life *l)
{
    Gpu *g = gpu_open(&f->a, &f->d, t, l->ordinal);
    l->p = l->p ? l->p : small_program(&f->a);
    l->opened = g != NULL;
    if (!g)
        return;
    CallLib *lib = calllib_gpu_reference(&f->a, g);
    Exec    *e = exec_new_gpu(&f->a, &f->d, g, lib, l->opt);
    int32_t  index = exec_add(e, l->p);
    l->added = index >= 0;
    if (l->added)
        life_run(l, e, index);
    exec_free(e);
    lib->release(lib->self);
    gpu_close(g);
}

static void test_whole(void **state)
{
    static const ExecOptions options[] = { { .threads = 0 }, { .no_graph = true }, { .profile = true } };
    GpuFixture              *f = *state;
    for (int32_t i = 0; i < DT_COUNT(options); i++)
        for (uint32_t lazy = 0; lazy < 4; lazy++) {
            Life l = { .opt = options[i] };
            f->t = cuda_driver_sim(&f->a, &f->d, 1 << 20);
            cuda_sim_lazy(lazy);
            cuda_sim_seed(i + 1);
            life_begin_and_end(f, inject(&f->a, f->t, (Fault){ 0 }), &l);
            assert_silent(f);
            assert_int_equal(l.steps, RUNS + SUBMITS);
            assert_nothing_live();
        }
}

/* ---- Each call fails --------------------------------------------------------------------------------------------- */

/* What gpu_close() gives back is given back without a word: a failure there is an old one. */
static bool is_closing(const char *symbol)
{
    return str_eq(symbol, "cuStreamDestroy_v2") || str_eq(symbol, "cuDevicePrimaryCtxRelease_v2") ||
           str_eq(symbol, "cuCtxSetCurrent");
}

/* False: the life has fewer such calls. */
static bool fail_once(GpuFixture *f, Fault fault, ExecOptions opt)
{
    Life l = { .opt = opt };
    f->t = cuda_driver_sim(&f->a, &f->d, 1 << 20);
    life_begin_and_end(f, inject(&f->a, f->t, fault), &l);
    assert_nothing_live();
    if (!injected.failed) {
        assert_silent(f);
        return false;
    }
    if (is_closing(injected.failed) && l.opened) {
        assert_silent(f);
    } else {
        assert_said(f, injected.failed);
        assert_true(l.steps <= RUNS + SUBMITS);
    }
    return true;
}

static void fail_each(GpuFixture *f, const char *symbol, CuResult status, ExecOptions opt, int32_t least)
{
    int32_t n = 0;
    for (int lasts = 0; lasts < 2; lasts++)
        for (n = 1; fail_once(f, (Fault){ symbol, n, status, lasts }, opt); n++)
            assert_true(n < 10000);
    if (n <= least)
        fail_msg("%s was called %d times, not %d", symbol ? symbol : "the driver", n - 1, least);
}

static void test_each_call(void **state)
{
    fail_each(*state, NULL, CU_ILLEGAL_ADDRESS, (ExecOptions){ 0 }, 100);
}

static void test_each_call_profile(void **state)
{
    fail_each(*state, NULL, CU_LAUNCH_FAILED, (ExecOptions){ .profile = true }, 100);
}

static void test_each_allocation(void **state)
{
    fail_each(*state, "cuMemAlloc_v2", CU_OUT_OF_MEMORY, (ExecOptions){ 0 }, 5);
    fail_each(*state, "cuMemAllocHost_v2", CU_OUT_OF_MEMORY, (ExecOptions){ 0 }, 2);
}

/* ---- Failures as a user meets them ------------------------------------------------------------------------------- */

/* What a driver answers, rather than that it fails. */
static CuResult count_none(int *count)
{
    *count = 0;
    return CU_SUCCESS;
}
static CuResult version_old(int *version)
{
    *version = 11080;
    return CU_SUCCESS;
}
static CuResult attribute_old(int *value, int attribute, CuDevice device)
{
    *value = attribute == 75 ? 6 : 1;
    return device == 0 ? CU_SUCCESS : CU_INVALID_DEVICE;
}
static CuResult memory_little(size_t *available, size_t *total)
{
    *available = 1000;
    *total = 1 << 30;
    return CU_SUCCESS;
}
static void no_gpu(CudaDriver *t)
{
    t->device_count = count_none;
}
static void old_driver(CudaDriver *t)
{
    t->driver_version = version_old;
}
static void old_gpu(CudaDriver *t)
{
    t->device_attribute = attribute_old;
}
static void little_memory(CudaDriver *t)
{
    t->memory_info = memory_little;
}

typedef enum Reached { AT_OPEN, AT_ADD, AT_STEP } Reached; /* where it ends */

typedef struct FaultCase {
    const char *symbol;
    int32_t     nth;
    CuResult    status;
    Reached     reached;
    const char *says[3];
    void (*change)(CudaDriver *t);
    int32_t ordinal;
} FaultCase;

// clang-format off
static const FaultCase cases[] = {
    /* no GPU that can be used */
    { "cuInit", 1, CU_NO_DEVICE, AT_OPEN, { "cuInit: CUDA_ERROR_NO_DEVICE (100): ", "CUDA_VISIBLE_DEVICES", "--backend cpu" }, NULL, 0 },
    { "cuInit", 1, CU_SYSTEM_DRIVER_MISMATCH, AT_OPEN, { "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "reboot" }, NULL, 0 },
    { "cuInit", 1, 34, AT_OPEN, { "CUDA_ERROR_STUB_LIBRARY (34)", "LD_LIBRARY_PATH" }, NULL, 0 },
    { "cuInit", 1, 804, AT_OPEN, { "(804)", "cuda-compat" }, NULL, 0 },
    { "cuInit", 1, 999, AT_OPEN, { "CUDA_ERROR_UNKNOWN (999)", "nvidia_uvm" }, NULL, 0 },
    { "cuInit", 1, 304, AT_OPEN, { "CUDA_ERROR_OPERATING_SYSTEM (304)", "/dev/nvidia" }, NULL, 0 },
    { "cuInit", 1, 54321, AT_OPEN, { "cuInit: unknown status (54321): the driver does not say what it means", "no known remedy" }, NULL, 0 },
    { "cuDriverGetVersion", 1, CU_INVALID_VALUE, AT_OPEN, { "cuDriverGetVersion: CUDA_ERROR_INVALID_VALUE (1)" }, NULL, 0 },
    { "cuDeviceGetCount", 1, CU_NOT_INITIALIZED, AT_OPEN, { "cuDeviceGetCount: CUDA_ERROR_NOT_INITIALIZED (3)" }, NULL, 0 },
    { NULL, 0, 0, AT_OPEN, { "cuDeviceGetCount: CUDA_ERROR_NO_DEVICE (100)", "nvidia-smi" }, no_gpu, 0 },
    { NULL, 0, 0, AT_OPEN, { "there is no GPU 3: the driver shows 1, numbered from 0", "detent doctor" }, NULL, 3 },
    { NULL, 0, 0, AT_OPEN, { "the NVIDIA driver supports CUDA 11.8; CUDA 12.0 is needed", "the driver is simulated GPU", "525.60 or later" }, old_driver, 0 },
    { NULL, 0, 0, AT_OPEN, { "simulated GPU has compute capability 6.1; 7.0 is needed", "Volta" }, old_gpu, 0 },
    { "cuDeviceGet", 1, CU_INVALID_DEVICE, AT_OPEN, { "cuDeviceGet: CUDA_ERROR_INVALID_DEVICE (101)", "detent doctor lists" }, NULL, 0 },
    { "cuDeviceGetName", 1, CU_INVALID_DEVICE, AT_OPEN, { "cuDeviceGetName: " }, NULL, 0 },
    { "cuDeviceGetAttribute", 2, CU_INVALID_DEVICE, AT_OPEN, { "cuDeviceGetAttribute: " }, NULL, 0 },
    { "cuDeviceTotalMem_v2", 1, CU_INVALID_DEVICE, AT_OPEN, { "cuDeviceTotalMem_v2: " }, NULL, 0 },
    { "cuDevicePrimaryCtxRetain", 1, CU_OUT_OF_MEMORY, AT_OPEN, { "cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY (2)", "another program holds memory" }, NULL, 0 },
    { "cuDevicePrimaryCtxRetain", 1, 46, AT_OPEN, { "CUDA_ERROR_DEVICE_UNAVAILABLE (46)", "another process holds this GPU" }, NULL, 0 },
    { "cuDevicePrimaryCtxRetain", 1, 802, AT_OPEN, { "CUDA_ERROR_SYSTEM_NOT_READY (802)", "fabricmanager" }, NULL, 0 },
    { "cuCtxSetCurrent", 1, CU_INVALID_CONTEXT, AT_OPEN, { "cuCtxSetCurrent: CUDA_ERROR_INVALID_CONTEXT (201)" }, NULL, 0 },
    { "cuStreamCreate", 1, CU_OUT_OF_MEMORY, AT_OPEN, { "cuStreamCreate: CUDA_ERROR_OUT_OF_MEMORY (2)" }, NULL, 0 },
    { "cuStreamCreate", 2, CU_OUT_OF_MEMORY, AT_OPEN, { "cuStreamCreate: CUDA_ERROR_OUT_OF_MEMORY (2)" }, NULL, 0 },
    /* a program that cannot be added */
    { "cuMemGetInfo_v2", 1, CU_NOT_INITIALIZED, AT_ADD, { "cuMemGetInfo_v2: " }, NULL, 0 },
    { NULL, 0, 0, AT_ADD, { "memory: program small needs ", "found 1000", "a smaller batch" }, little_memory, 0 },
    { "cuMemAlloc_v2", 1, CU_OUT_OF_MEMORY, AT_ADD, { "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory", "smaller --batch", "nvidia-smi" }, NULL, 0 },
    { "cuMemAllocHost_v2", 1, CU_OUT_OF_MEMORY, AT_ADD, { "cuMemAllocHost_v2: CUDA_ERROR_OUT_OF_MEMORY (2)" }, NULL, 0 },
    { "cuMemsetD8Async", 1, CU_INVALID_VALUE, AT_ADD, { "cuMemsetD8Async: " }, NULL, 0 },
    { "cuModuleLoadData", 1, CU_INVALID_IMAGE, AT_ADD, { "CUDA_ERROR_INVALID_IMAGE (200)", "--cache" }, NULL, 0 },
    { "cuModuleLoadData", 1, CU_NO_BINARY_FOR_GPU, AT_ADD, { "CUDA_ERROR_NO_BINARY_FOR_GPU (209)", "--cache", "the GPU is simulated GPU (sm_90)" }, NULL, 0 },
    { "cuModuleLoadData", 1, CU_UNSUPPORTED_PTX_VERSION, AT_ADD, { "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)", "NVRTC is newer than the driver", "DETENT_NVRTC" }, NULL, 0 },
    { "cuModuleLoadData", 1, CU_INVALID_PTX, AT_ADD, { "CUDA_ERROR_INVALID_PTX (218)" }, NULL, 0 },
    { "cuModuleLoadData", 1, 221, AT_ADD, { "CUDA_ERROR_JIT_COMPILER_NOT_FOUND (221)", "libnvidia-ptxjitcompiler" }, NULL, 0 },
    { "cuModuleGetFunction", 1, CU_NOT_FOUND, AT_ADD, { "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500)", "kernel twice of program small" }, NULL, 0 },
    { "cuModuleGetFunction", 2, CU_NOT_FOUND, AT_ADD, { "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500)", "kernel halves" }, NULL, 0 },
    { "cuEventCreate", 3, CU_OUT_OF_MEMORY, AT_ADD, { "cuEventCreate: CUDA_ERROR_OUT_OF_MEMORY (2)" }, NULL, 0 },
    /* a step that goes wrong */
    { "cuMemcpyHtoDAsync_v2", 2, CU_INVALID_VALUE, AT_STEP, { "cuMemcpyHtoDAsync_v2: " }, NULL, 0 },
    { "cuMemcpyDtoDAsync_v2", 1, CU_INVALID_VALUE, AT_STEP, { "cuMemcpyDtoDAsync_v2: " }, NULL, 0 },
    { "cuMemcpyDtoHAsync_v2", 1, CU_INVALID_VALUE, AT_STEP, { "cuMemcpyDtoHAsync_v2: " }, NULL, 0 },
    { "cuLaunchKernel", 1, 701, AT_STEP, { "cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)", "--backend sim", "launch 1 of 4, first, of program small" }, NULL, 0 },
    { "cuLaunchKernel", 2, CU_LAUNCH_FAILED, AT_STEP, { "cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED (719)", "launch 3 of 4, fold, of program small" }, NULL, 0 },
    { "cuLaunchHostFunc", 1, CU_NOT_SUPPORTED, AT_STEP, { "cuLaunchHostFunc: CUDA_ERROR_NOT_SUPPORTED (801)", "launch 2 of 4, fc, of program small" }, NULL, 0 },
    { "cuStreamBeginCapture_v2", 1, CU_NOT_SUPPORTED, AT_STEP, { "cuStreamBeginCapture_v2: ", "captured as a graph" }, NULL, 0 },
    { "cuStreamEndCapture", 1, CU_CAPTURE_INVALIDATED, AT_STEP, { "cuStreamEndCapture: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED (901)", "--no-graph" }, NULL, 0 },
    { "cuGraphGetNodes", 1, CU_INVALID_VALUE, AT_STEP, { "cuGraphGetNodes: " }, NULL, 0 },
    { "cuGraphInstantiateWithFlags", 1, CU_OUT_OF_MEMORY, AT_STEP, { "cuGraphInstantiateWithFlags: CUDA_ERROR_OUT_OF_MEMORY (2)" }, NULL, 0 },
    { "cuGraphDestroy", 1, CU_INVALID_VALUE, AT_STEP, { "cuGraphDestroy: " }, NULL, 0 },
    { "cuGraphLaunch", 1, CU_LAUNCH_FAILED, AT_STEP, { "cuGraphLaunch: CUDA_ERROR_LAUNCH_FAILED (719)" }, NULL, 0 },
    { "cuEventRecord", 1, CU_INVALID_HANDLE, AT_STEP, { "cuEventRecord: " }, NULL, 0 },
    { "cuStreamWaitEvent", 1, CU_INVALID_HANDLE, AT_STEP, { "cuStreamWaitEvent: " }, NULL, 0 },
    { "cuStreamSynchronize", 6, CU_ILLEGAL_ADDRESS, AT_STEP, { "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700)", "--backend sim", "launch 1 of 4, first" }, NULL, 0 },
    { "cuStreamSynchronize", 10, 214, AT_STEP, { "CUDA_ERROR_ECC_UNCORRECTABLE (214)", "dmesg", "in a step of program small" }, NULL, 0 },
    { "cuEventSynchronize", 2, 702, AT_STEP, { "cuEventSynchronize: CUDA_ERROR_LAUNCH_TIMEOUT (702)", "drives a screen", "in step 1 of program small" }, NULL, 0 },
};
// clang-format on

static void assert_in(const char *part, const char *text, int32_t row)
{
    if (!strstr(text, part))
        fail_msg("row %d: expected '%s' in:\n%s", row, part, text);
}

static void test_table(void **state)
{
    GpuFixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        const FaultCase *c = &cases[i];
        Life             l = { .ordinal = c->ordinal };
        f->t = cuda_driver_sim(&f->a, &f->d, 1 << 20);
        CudaDriver *t = inject(&f->a, f->t, (Fault){ c->symbol, c->nth, c->status, true });
        if (c->change)
            c->change(t);
        life_begin_and_end(f, t, &l);
        const char *said = f->d.text.s ? f->d.text.s : "";
        if (c->nth && !injected.failed)
            fail_msg("row %d: %s was not called %d times", i, c->symbol, c->nth);
        for (int j = 0; j < 3 && c->says[j]; j++)
            assert_in(c->says[j], said, i);
        assert_in("\n  help: ", said, i);
        if (l.opened != (c->reached > AT_OPEN) || l.added != (c->reached > AT_ADD))
            fail_msg("row %d: opened %d, added %d", i, l.opened, l.added);
        assert_true(l.steps < RUNS + SUBMITS);
        assert_said(f, "error: ");
        assert_nothing_live();
    }
}

/* ---- Programs that are wrong ------------------------------------------------------------------------------------- */

/* The simulator's own finding stands above the driver's, with the launch. */
static void test_kernel_fault(void **state)
{
    GpuFixture *f = *state;
    Life        l = { .p = small_program(&f->a) };
    ((BufUse *)l.p->launches[2].uses)[1].bytes = N_BYTES / 2 - 4;
    f->t = cuda_driver_sim(&f->a, &f->d, 1 << 20);
    life_begin_and_end(f, f->t, &l);
    assert_in("halves", f->d.text.s, 0);
    assert_in("in launch fold", f->d.text.s, 0);
    assert_in("error: cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED (719)", f->d.text.s, 0);
    assert_in("in launch 3 of 4, fold, of program small", f->d.text.s, 0);
    assert_int_equal(f->d.errors, 2);
    assert_int_equal(l.steps, 0);
    assert_nothing_live();
}

static void test_wrong_text(void **state)
{
    static const struct {
        const char *source, *says;
    } wrong[] = {
        { "extern \"C\" __global__ void twice(const float *x, float *y)\n{\n    y[0] = x[0]\n}\n",
          "CUDA_ERROR_INVALID_IMAGE (200)" },
        { "extern \"C\" __global__ void other(const float *x, float *y)\n{\n    y[0] = x[0];\n}\n",
          "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500)" },
        { "\177ELF", "CUDA_ERROR_NO_BINARY_FOR_GPU (209)" },
    };
    GpuFixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(wrong); i++) {
        Life l = { .p = small_program(&f->a) };
        ((GpuModule *)l.p->images[0].gpu->module)->source = wrong[i].source;
        f->t = cuda_driver_sim(&f->a, &f->d, 1 << 20);
        life_begin_and_end(f, f->t, &l);
        assert_in(wrong[i].says, f->d.text.s, i);
        assert_false(l.added);
        f->d.text = (Str){ 0 };
        assert_nothing_live();
    }
}

/* ---- The library ------------------------------------------------------------------------------------------------- */

typedef struct Libraries {
    GpuFixture *f;
    char        dir[64];
} Libraries;

static const char *in(Libraries *l, const char *name)
{
    return arena_printf(&l->f->a, "%s/%s", l->dir, name);
}

/* A driver without symbol number `without` (-1: whole), each function of which says that there is no device. */
static void build_driver(Libraries *l, const char *name, int32_t without)
{
    static const char *const symbols[] = {
#define X(name, symbol, params) symbol,
        CUDA_DRIVER(X)
#undef X
    };
    const char *text = in(l, "driver.c");
    FILE       *out = fopen(text, "w");
    assert_non_null(out);
    for (int32_t i = 0; i < DT_COUNT(symbols); i++)
        if (i != without)
            fprintf(out, "int %s(void) { return 100; }\n", symbols[i]);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(system(arena_printf(&l->f->a, "cc -shared -fPIC -o '%s' '%s'", in(l, name), text)), 0);
}

static void try_library(Libraries *l, const char *value, const char *says, const char *says_too)
{
    setenv("DETENT_CUDA_DRIVER", value, 1);
    assert_null(cuda_driver_load(&l->f->a, &l->f->d));
    assert_in("error: CUDA driver: no library that can be used\n", l->f->d.text.s, 0);
    assert_in(says_too, l->f->d.text.s, 0);
    assert_in("help: install the NVIDIA driver", l->f->d.text.s, 0);
    assert_said(l->f, says);
}

static void test_library(void **state)
{
    Libraries l = { .f = *state };
    strcpy(l.dir, "/tmp/detent-driver-XXXXXX");
    assert_non_null(mkdtemp(l.dir));
    int32_t n = 0;
#define X(name, symbol, params) n++;
    CUDA_DRIVER(X)
#undef X
    build_driver(&l, "whole.so", -1);
    build_driver(&l, "old.so", n - 1);
    build_driver(&l, "older.so", 0);
    FILE *out = fopen(in(&l, "damaged.so"), "w");
    assert_non_null(out);
    fputs("\177ELF and then nothing that makes sense, for the length of a header at least: 64 bytes", out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(mkdir(in(&l, "empty"), 0777), 0);
    try_library(&l, "/nowhere/libcuda.so.1", "/nowhere/libcuda.so.1: No such file or directory", "DETENT_CUDA_DRIVER");
    try_library(&l, in(&l, "empty"), "none of these names is in this directory", "looked for libcuda.so.1");
    try_library(&l, in(&l, "damaged.so"), "/damaged.so: ", "looked for");
    try_library(&l, in(&l, "old.so"), "/old.so: too old: it has no cuGetErrorString", "525");
    try_library(&l, in(&l, "older.so"), "/older.so: too old: it has no cuInit", "525");
    try_library(&l, "libm.so.6", "libm.so.6: No such file or directory", "unset DETENT_CUDA_DRIVER");
    setenv("DETENT_CUDA_DRIVER", in(&l, "whole.so"), 1);
    const CudaDriver *t = cuda_driver_load(&l.f->a, &l.f->d);
    assert_non_null(t);
    assert_string_equal(t->path, in(&l, "whole.so"));
    assert_null(t->watch);
    assert_false(t->runs_source);
    assert_null(gpu_open(&l.f->a, &l.f->d, t, 0));
    assert_said(l.f, "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n  help: ");
    unsetenv("DETENT_CUDA_DRIVER");
    assert_int_equal(system(arena_printf(&l.f->a, "rm -rf '%s'", l.dir)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_NEW(test_whole),           TEST_NEW(test_each_call), TEST_NEW(test_each_call_profile),
        TEST_NEW(test_each_allocation), TEST_NEW(test_table),     TEST_NEW(test_kernel_fault),
        TEST_NEW(test_wrong_text),      TEST_NEW(test_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
