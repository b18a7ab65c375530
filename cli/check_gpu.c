/* check_gpu.c: one kernel or one library call alone on a GPU - a real one or the simulated one - against the
 * interpreter and plain loops. Each becomes a program of one launch whose buffers are inputs and outputs, so what is
 * tested is the whole way: text, compiler, module, copies, launch.
 *
 * Tested by tests/unit/test_check.c on the simulated GPU. */
#include "cli/check.h"

#include <string.h>

/* ---- Programs of one launch -------------------------------------------------------------------------------------- */

static const ProgTensor *gpu_tensor(const Program *p, TensorKind kind, const char *name)
{
    for (int32_t i = 0; i < p->n_tensors; i++)
        if (p->tensors[i].kind == kind && str_eq(p->tensors[i].name, name))
            return &p->tensors[i];
    return NULL;
}

/* Runs the program on memory of its own: inputs from bufs[i] named names[i], results back into them. */
static bool gpu_run(Arena *a, Diag *d, Gpu *gpu, CallLib *lib, Program *p, const char *const *names, void *const *bufs,
                    int32_t n)
{
    Exec   *e = exec_new_gpu(a, d, gpu, lib, (ExecOptions){ .threads = 1 });
    int32_t index = e != NULL ? exec_add(e, p) : -1;
    bool    ok = index >= 0;
    for (int32_t i = 0; ok && i < n; i++) {
        const ProgTensor *in = gpu_tensor(p, TENSOR_INPUT, names[i]);
        if (in != NULL)
            memcpy(exec_ptr(e, index, in), bufs[i], (size_t)in->bytes);
    }
    ok = ok && exec_run(e, index);
    for (int32_t i = 0; ok && i < n; i++) {
        const ProgTensor *out = gpu_tensor(p, TENSOR_OUTPUT, names[i]);
        if (out != NULL)
            memcpy(bufs[i], exec_ptr(e, index, out), (size_t)out->bytes);
    }
    if (e != NULL)
        exec_free(e);
    return ok;
}

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */

bool check_kernel_gpu(Arena *a, Diag *d, const KernelCase *c, KernelJit *jit, Gpu *gpu, CallLib *lib, KernelResult *out)
{
    Arena        scratch = arena_new("kernel check");
    int32_t      n = c->kernel->bufs.len;
    const char **names = ARENA_ARRAY(&scratch, const char *, n + 1);
    void       **expected = check_kernel_fill(&scratch, c), **found = check_kernel_fill(&scratch, c);
    Kernel      *k = kernel_expand(&scratch, c->kernel);
    Program     *p = codegen_kernel_program(&scratch, d, k, jit);
    for (int32_t i = 0; i < n; i++)
        names[i] = c->kernel->bufs.at[i].name;
    *out = (KernelResult){ .ok = true, .runs = 1, .parts = 1 };
    bool ran = p != NULL && gpu_run(&scratch, d, gpu, lib, p, names, found, n);
    if (ran) {
        kernel_interp(k, expected);
        out->where = check_kernel_difference(a, c->kernel, expected, found);
        out->ok = out->where == NULL;
    }
    arena_free(&scratch);
    return ran;
}

/* ---- Library calls ----------------------------------------------------------------------------------------------- */

/* The call as a program: flat inputs, one output. */
static Program *gpu_call_program(Arena *a, const CallDesc *call, CallLib *lib, const char *const *names,
                                 const int64_t *bytes, int32_t n)
{
    Program *p = ARENA_NEW(a, Program);
    MemRef  *at = ARENA_ARRAY(a, MemRef, n);
    BufUse  *uses = ARENA_ARRAY(a, BufUse, n);
    *p = (Program){ .arena = a, .name = "call", .n_tensors = n, .n_launches = 1 };
    p->tensors = ARENA_ARRAY(a, ProgTensor, n);
    p->launches = ARENA_NEW(a, Launch);
    for (int32_t i = 0; i < n; i++) {
        bool result = i + 1 == n;
        at[i] = (MemRef){ ARENA_IO, p->bytes[ARENA_IO] };
        uses[i] = (BufUse){ .bytes = bytes[i], .value = i, .access = result ? ACCESS_WRITE : ACCESS_READ };
        p->tensors[i] = (ProgTensor){ .kind = result ? TENSOR_OUTPUT : TENSOR_INPUT,
                                      .name = names[i],
                                      .dtype = DTYPE_U8,
                                      .rank = 1,
                                      .dim = { bytes[i], 1, 1, 1 },
                                      .elems = bytes[i],
                                      .bytes = bytes[i],
                                      .at = at[i] };
        p->bytes[ARENA_IO] += dt_round_up(bytes[i], 256);
    }
    p->launches[0] = (Launch){ .kind = LAUNCH_CALL,
                               .name = "call",
                               .call = *call,
                               .bufs = at,
                               .uses = uses,
                               .n_bufs = n,
                               .scratch_bytes = lib->scratch_bytes(lib->self, call) };
    p->bytes[ARENA_SCRATCH] = p->launches[0].scratch_bytes;
    return p;
}

bool check_call_run_gpu(Diag *d, Gpu *gpu, CallLib *lib, const CallDesc *call, void *const *bufs, const int64_t *bytes,
                        int32_t n)
{
    static const char *const names[CALL_MAX_BUFS] = { "0", "1", "2", "3" };
    Arena                    scratch = arena_new("call check");
    Program                 *p = gpu_call_program(&scratch, call, lib, names, bytes, n);
    bool                     ok = gpu_run(&scratch, d, gpu, lib, p, names, bufs, n);
    arena_free(&scratch);
    return ok;
}
