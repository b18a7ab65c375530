/* gpu_net.h: two small programs for a GPU, written by hand, that share a param, and what they compute in plain C.
 *
 *   train   a = x lr + w      kernel     y = a v^T     library call
 *           m = m / 2 + a, w = w - m / 8 kernel        loss = sum of y, block by block, the last one adds up   kernel
 *   look    z[i] = x[i % 64] w[i % 64], by way of a large work arena; too large an output for a ring */
#ifndef DETENT_TESTS_GPU_NET_H
#define DETENT_TESTS_GPU_NET_H

#include "tests/unit/gpu_fixture.h"

enum { ROWS = 8, COLS = 8, ELEMS = ROWS * COLS, OUT = 4, YS = ROWS * OUT, LARGE = 20000 };

static const char net_source[] =
    "extern \"C\" __global__ void __launch_bounds__(32) affine(const float *x, const float *lr, const float *w,\n"
    "                                                        float *a)\n"
    "{\n"
    "    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);\n"
    "    if (i < 64)\n"
    "        a[i] = __fadd_rn(__fmul_rn(x[i], lr[0]), w[i]);\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__(32) update(const float *a, float *m, float *w)\n"
    "{\n"
    "    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);\n"
    "    float next = __fadd_rn(__fmul_rn(m[i], 0.5f), a[i]);\n"
    "    m[i] = next;\n"
    "    w[i] = __fsub_rn(w[i], __fmul_rn(next, 0.125f));\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__(32) total(const float *y, float *loss, float *scratch,\n"
    "                                                       unsigned int *tickets)\n"
    "{\n"
    "    if (threadIdx.x == 0u) {\n"
    "        float sum = 0.0f;\n"
    "        for (int i = 0; i < 8; i++)\n"
    "            sum = __fadd_rn(sum, y[(int)blockIdx.x * 8 + i]);\n"
    "        scratch[blockIdx.x] = sum;\n"
    "        __threadfence();\n"
    "        if (atomicAdd(tickets, 1u) == gridDim.x - 1u) {\n"
    "            __threadfence();\n"
    "            float all = 0.0f;\n"
    "            for (unsigned int b = 0u; b < gridDim.x; b++)\n"
    "                all = __fadd_rn(all, __ldcg(scratch + b));\n"
    "            loss[0] = all;\n"
    "            tickets[0] = 0u;\n"
    "        }\n"
    "    }\n"
    "}\n";

static const char look_source[] =
    "extern \"C\" __global__ void __launch_bounds__(256) spread(const float *x, const float *w, float *z)\n"
    "{\n"
    "    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);\n"
    "    if (i < 20000)\n"
    "        z[i] = __fmul_rn(x[i % 64], w[i % 64]);\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__(256) copy(const float *z, float *out)\n"
    "{\n"
    "    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);\n"
    "    if (i < 20000)\n"
    "        out[i] = z[i];\n"
    "}\n";

/* ---- The programs ---------------------------------------------------------------------------------------------- */

typedef struct GpuNet {
    GpuModule   modules[2];
    GpuKernel   kernels[5];
    KernelImage images[5];
    MemRef      bufs[6][4];
    BufUse      uses[6][4];
    Launch      launches[6];
    ProgTensor  train_tensors[7], look_tensors[4];
    Program     train, look;
} GpuNet;

UNUSED static ProgTensor net_tensor(TensorKind kind, const char *name, ArenaKind arena, int64_t offset, int64_t rows,
                                    int64_t cols)
{
    return (ProgTensor){ .kind = kind,
                         .name = name,
                         .dtype = DTYPE_F32,
                         .rank = 2,
                         .dim = { rows, cols, 1, 1 },
                         .elems = rows * cols,
                         .bytes = 4 * rows * cols,
                         .at = { arena, offset },
                         .init = "zeros" };
}

typedef struct NetBuf {
    ArenaKind arena;
    int64_t   offset, elems;
    int32_t   value;
    uint8_t   access;
} NetBuf;

UNUSED static void net_launch(GpuNet *n, int32_t i, const char *name, int32_t image, const NetBuf *bufs, int32_t n_bufs)
{
    for (int32_t k = 0; k < n_bufs; k++) {
        n->bufs[i][k] = (MemRef){ bufs[k].arena, bufs[k].offset };
        n->uses[i][k] = (BufUse){ .bytes = 4 * bufs[k].elems, .value = bufs[k].value, .access = bufs[k].access };
    }
    n->launches[i] = (Launch){
        .kind = LAUNCH_KERNEL, .name = name, .image = image, .bufs = n->bufs[i], .uses = n->uses[i], .n_bufs = n_bufs
    };
}

UNUSED static void net_kernels(GpuNet *n)
{
    static const struct {
        const char *entry;
        int32_t     module, grid, block, n_bufs;
    } table[5] = {
        { "affine", 0, 2, 32, 4 },   { "update", 0, 2, 32, 3 }, { "total", 0, 4, 32, 2 },
        { "spread", 1, 79, 256, 3 }, { "copy", 1, 79, 256, 2 },
    };
    n->modules[0] = (GpuModule){ .arch = "sim", .source = net_source };
    n->modules[1] = (GpuModule){ .arch = "sim", .source = look_source };
    for (int32_t i = 0; i < 5; i++) {
        n->kernels[i] = (GpuKernel){ .module = &n->modules[table[i].module],
                                     .entry = table[i].entry,
                                     .grid = table[i].grid,
                                     .block = table[i].block };
        n->images[i] = (KernelImage){ .name = table[i].entry, .n_bufs = table[i].n_bufs, .gpu = &n->kernels[i] };
    }
    n->images[2].scratch_bytes = 16;
    n->kernels[2].tickets = 1;
}

/* clang-format off */
UNUSED static void net_launches(GpuNet *n)
{
    const uint8_t R = ACCESS_READ, W = ACCESS_WRITE;
    const NetBuf affine[] = { { ARENA_IO, 0, ELEMS, 1, R }, { ARENA_IO, 256, 1, 2, R }, { ARENA_PARAM, 0, ELEMS, 3, R },
                              { ARENA_WORK, 0, ELEMS, 4, W } };
    const NetBuf linear[] = { { ARENA_WORK, 0, ELEMS, 4, R }, { ARENA_PARAM, 256, OUT * COLS, 5, R },
                              { ARENA_IO, 576, YS, 6, W } };
    const NetBuf update[] = { { ARENA_WORK, 0, ELEMS, 4, R }, { ARENA_STATE, 0, ELEMS, 7, R | W },
                              { ARENA_PARAM, 0, ELEMS, 3, R | W } };
    const NetBuf total[] = { { ARENA_IO, 576, YS, 6, R }, { ARENA_IO, 512, 1, 8, W } };
    const NetBuf spread[] = { { ARENA_IO, 0, ELEMS, 1, R }, { ARENA_PARAM, 0, ELEMS, 3, R },
                              { ARENA_WORK, 64, LARGE, 4, W } };
    const NetBuf copy[] = { { ARENA_WORK, 64, LARGE, 4, R }, { ARENA_IO, 256, LARGE, 8, W } };
    net_launch(n, 0, "s0 affine", 0, affine, 4);
    net_launch(n, 1, "s0 linear", 0, linear, 3);
    net_launch(n, 2, "s0 update", 1, update, 3);
    net_launch(n, 3, "s0 total", 2, total, 2);
    net_launch(n, 4, "s0 spread", 0, spread, 3);
    net_launch(n, 5, "s0 copy", 1, copy, 2);
    n->launches[1].kind = LAUNCH_CALL;
    n->launches[1].call = (CallDesc){ .kind = CALL_LINEAR_FWD, .n = ROWS, .c = COLS, .k = OUT, .h = 1, .w = 1 };
    n->launches[3].scratch_bytes = 16;
}
/* clang-format on */

UNUSED static void net_init(GpuNet *n)
{
    memset(n, 0, sizeof *n);
    net_kernels(n);
    net_launches(n);
    ProgTensor w = net_tensor(TENSOR_PARAM, "w", ARENA_PARAM, 0, ROWS, COLS),
               v = net_tensor(TENSOR_PARAM, "v", ARENA_PARAM, 256, OUT, COLS);
    n->train_tensors[0] = net_tensor(TENSOR_INPUT, "x", ARENA_IO, 0, ROWS, COLS);
    n->train_tensors[1] = net_tensor(TENSOR_INPUT, "lr", ARENA_IO, 256, 1, 1);
    n->train_tensors[2] = w, n->train_tensors[3] = v;
    n->train_tensors[4] = net_tensor(TENSOR_STATE, "m", ARENA_STATE, 0, ROWS, COLS);
    n->train_tensors[5] = net_tensor(TENSOR_OUTPUT, "loss", ARENA_IO, 512, 1, 1);
    n->train_tensors[6] = net_tensor(TENSOR_OUTPUT, "y", ARENA_IO, 576, ROWS, OUT);
    n->look_tensors[0] = n->train_tensors[0], n->look_tensors[1] = w, n->look_tensors[2] = v;
    n->look_tensors[3] = net_tensor(TENSOR_OUTPUT, "z", ARENA_IO, 256, 1, LARGE);
    n->train = (Program){ .name = "train",
                          .bytes = { 704, 384, 256, 256, 64 },
                          .tensors = n->train_tensors,
                          .n_tensors = 7,
                          .images = n->images,
                          .n_images = 3,
                          .launches = n->launches,
                          .n_launches = 4,
                          .peak = { { "a", 256 }, { "b", 128 } } };
    n->look = (Program){ .name = "look",
                         .bytes = { 256 + 4 * LARGE, 384, 0, 64 + 4 * LARGE, 0 },
                         .tensors = n->look_tensors,
                         .n_tensors = 4,
                         .images = n->images + 3,
                         .n_images = 2,
                         .launches = n->launches + 4,
                         .n_launches = 2 };
}

/* ---- What they compute ----------------------------------------------------------------------------------------- */

typedef struct NetModel {
    float w[ELEMS], v[OUT * COLS], m[ELEMS], y[YS], loss;
} NetModel;

UNUSED static void model_init(NetModel *s)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < ELEMS; i++)
        s->w[i] = rng_uniform(3, 1, 0, (uint64_t)i) - 0.5f;
    for (int i = 0; i < OUT * COLS; i++)
        s->v[i] = rng_uniform(3, 2, 0, (uint64_t)i) - 0.5f;
}

/* The inputs of step k. */
UNUSED static void model_inputs(int64_t k, float *x, float *lr)
{
    for (int i = 0; i < ELEMS; i++)
        x[i] = rng_uniform(4, (uint32_t)k, 0, (uint64_t)i) - 0.5f;
    *lr = 0.25f + (float)k;
}

UNUSED static void model_step(NetModel *s, int64_t k)
{
    float x[ELEMS], lr, a[ELEMS];
    model_inputs(k, x, &lr);
    for (int i = 0; i < ELEMS; i++) {
        float scaled = x[i] * lr;
        a[i] = scaled + s->w[i];
    }
    CallDesc    linear = { .kind = CALL_LINEAR_FWD, .n = ROWS, .c = COLS, .k = OUT, .h = 1, .w = 1 };
    void *const bufs[] = { a, s->v, s->y };
    reference_call(&linear, bufs, NULL);
    for (int i = 0; i < ELEMS; i++) {
        float half = s->m[i] * 0.5f;
        s->m[i] = half + a[i];
        float part = s->m[i] * 0.125f;
        s->w[i] = s->w[i] - part;
    }
    s->loss = 0;
    for (int b = 0; b < 4; b++) {
        float sum = 0;
        for (int i = 0; i < 8; i++)
            sum += s->y[8 * b + i];
        s->loss += sum;
    }
}

#endif
