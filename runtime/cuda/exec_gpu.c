/* exec_gpu.c: programs on a GPU: an Exec (program.h) over a CudaDriver.
 *
 * All memory, code, events and addresses come into being in exec_add(); a step (exec_gpu_step.c) only calls. The first
 * call that fails is reported with its name and, where it has one, the launch it belongs to. After that the Exec
 * refuses to run - most errors of a GPU leave its context of no use - but exec_free() gives back what there is, in any
 * state.
 *
 * Tested by tests/unit/test_gpu_exec.c: on the simulated and the null GPU, and with a failure at every call. */
#include <string.h>

#include "runtime/cuda/exec_gpu.h"

const CuSymbols cu_symbols = {
#define X(name, symbol, params) .name = symbol,
    CUDA_DRIVER(X)
#undef X
};

enum { EVENT_NO_TIMING = 2 };

bool gpu_exec_ok(GpuExec *x, const char *call, CuResult status)
{
    if (status == CU_SUCCESS)
        return true;
    if (!x->base.failed)
        (void)gpu_ok(x->gpu, call, status);
    x->base.failed = true;
    return false;
}

/* ---- Code ------------------------------------------------------------------------------------------------------ */

/* NULL: reported. */
static CuHandle find_module(GpuExec *x, const GpuModule *m, const Program *p)
{
    for (int32_t i = 0; i < x->modules.len; i++)
        if (x->modules.at[i].module == m)
            return x->modules.at[i].handle;
    const void *code = x->gpu->t->runs_source ? m->source : m->image;
    DT_ASSERT(code, "program %s: no code for %s", p->name, x->gpu->t->path);
    CuHandle handle = NULL;
    if (!CU(x, module_load, &handle, code)) {
        diag_note(x->base.d, LOC_NONE, "program %s was compiled for %s, the GPU is %s (sm_%d)", p->name, m->arch,
                  x->gpu->name, x->gpu->sm);
        return NULL;
    }
    vec_push(x->base.arena, &x->modules, (GpuModuleLoaded){ m, handle });
    return handle;
}

static CuHandle find_function(GpuExec *x, const GpuKernel *k, const Program *p)
{
    for (int32_t i = 0; i < x->functions.len; i++)
        if (x->functions.at[i].module == k->module && str_eq(x->functions.at[i].entry, k->entry))
            return x->functions.at[i].handle;
    CuHandle module = find_module(x, k->module, p), handle = NULL;
    if (!module)
        return NULL;
    if (!CU(x, module_function, &handle, module, k->entry)) {
        diag_note(x->base.d, LOC_NONE, "for kernel %s of program %s", k->entry, p->name);
        return NULL;
    }
    vec_push(x->base.arena, &x->functions, (GpuFunction){ k->module, k->entry, handle });
    return handle;
}

static bool load_code(GpuExec *x, GpuLoaded *l, const Program *p)
{
    Arena *a = x->base.arena;
    l->launches = ARENA_ARRAY(a, GpuLaunch, p->n_launches + 1);
    for (int32_t i = 0; i < p->n_launches; i++) {
        const Launch *what = &p->launches[i];
        GpuLaunch    *g = &l->launches[i];
        g->at = ARENA_ARRAY(a, CuPtr, what->n_bufs + 2);
        g->params = ARENA_ARRAY(a, void *, what->n_bufs + 2);
        if (what->kind != LAUNCH_KERNEL)
            continue;
        g->function = find_function(x, p->images[what->image].gpu, p);
        if (!g->function)
            return false;
    }
    return true;
}

/* Addresses of all launches. */
static void bind(GpuExec *x, GpuLoaded *l, const Program *p)
{
    for (int32_t i = 0; i < p->n_launches; i++) {
        const Launch *what = &p->launches[i];
        GpuLaunch    *g = &l->launches[i];
        for (int32_t j = 0; j < what->n_bufs; j++)
            g->at[j] = gpu_address(x, l, what->bufs[j]);
        g->at[what->n_bufs] = x->shared[ARENA_SCRATCH].at;
        g->at[what->n_bufs + 1] = x->tickets.at;
        for (int32_t j = 0; j < what->n_bufs + 2; j++)
            g->params[j] = what->kind == LAUNCH_KERNEL ? (void *)&g->at[j] : (void *)(uintptr_t)g->at[j];
    }
}

/* ---- Events ---------------------------------------------------------------------------------------------------- */

static bool events_new(GpuExec *x, GpuLoaded *l, const Program *p)
{
    for (int32_t i = 0; i < STAGES; i++)
        if (!CU(x, event_new, &l->copied[i], EVENT_NO_TIMING) || !CU(x, event_new, &l->consumed[i], EVENT_NO_TIMING))
            return false;
    for (int32_t i = 0; i < l->depth; i++)
        if (!CU(x, event_new, &l->done[i], EVENT_NO_TIMING))
            return false;
    if (!x->base.opt.profile)
        return true;
    l->marks = ARENA_ARRAY(x->base.arena, CuHandle, p->n_launches + 1);
    for (int32_t i = 0; i <= p->n_launches; i++)
        if (!CU(x, event_new, &l->marks[i], 0))
            return false;
    return true;
}

static void events_free(GpuExec *x, CuHandle *at, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (at[i])
            (void)CU(x, event_free, at[i]);
        at[i] = NULL;
    }
}

/* ---- Adding a program ------------------------------------------------------------------------------------------ */

/* What is freed must not be in use. */
static bool wait_for_streams(GpuExec *x)
{
    return CU(x, stream_wait, x->gpu->copy_stream) && CU(x, stream_wait, x->gpu->stream);
}

static void give_back(GpuExec *x, GpuLoaded *l, const Program *p)
{
    gpu_graph_drop(x, l);
    if (l->marks)
        events_free(x, l->marks, p->n_launches + 1);
    events_free(x, l->done, RING_STEPS);
    events_free(x, l->consumed, STAGES);
    events_free(x, l->copied, STAGES);
    gpu_memory_free(x, l);
}

static Loaded *gpu_load(Exec *e, Program *p, void **prepared)
{
    (void)prepared;
    GpuExec *x = (GpuExec *)e;
    if (!gpu_memory_fits(x, p) || !wait_for_streams(x))
        return NULL;
    GpuLoaded *l = ARENA_NEW(e->arena, GpuLoaded);
    bool       ok = gpu_memory_new(x, l, p) && load_code(x, l, p) && events_new(x, l, p) && wait_for_streams(x);
    for (int32_t i = 0; i < e->programs.len; i++) { /* blocks that grew have moved */
        GpuLoaded *other = (GpuLoaded *)e->programs.at[i];
        gpu_graph_drop(x, other);
        bind(x, other, other->base.program);
    }
    if (!ok) {
        give_back(x, l, p);
        return NULL;
    }
    bind(x, l, p);
    return &l->base;
}

static void gpu_unload(Exec *e, Loaded *l)
{
    GpuExec *x = (GpuExec *)e;
    (void)wait_for_streams(x);
    give_back(x, (GpuLoaded *)l, l->program);
}

static void gpu_release(Exec *e)
{
    GpuExec *x = (GpuExec *)e;
    for (int32_t i = x->modules.len - 1; i >= 0; i--)
        (void)CU(x, module_free, x->modules.at[i].handle);
    x->modules.len = x->functions.len = 0;
    gpu_memory_release(x);
}

/* ---- The rest of the table ------------------------------------------------------------------------------------- */

static void *gpu_ptr(Exec *e, Loaded *l, const ProgTensor *t)
{
    (void)e;
    return gpu_image((GpuLoaded *)l, 0, t);
}

static int32_t gpu_depth(const Exec *e, const Loaded *l)
{
    (void)e;
    return ((const GpuLoaded *)l)->depth;
}

static bool is_shared(const ProgTensor *t)
{
    return t->kind == TENSOR_PARAM || t->kind == TENSOR_STATE;
}

/* Params and states lie on the device, behind whatever was submitted. They go through pinned memory of our own: nothing
 * that is still to be copied when a call fails lies in memory of the caller. */
static bool move_shared(GpuExec *x, CuPtr at, int64_t bytes, const char *from, char *to)
{
    const Gpu *g = x->gpu;
    for (int64_t done = 0; done < bytes; done += BOUNCE_BYTES) {
        size_t n = (size_t)dt_min64(bytes - done, BOUNCE_BYTES);
        CuPtr  part = at + (CuPtr)done;
        if (from)
            memcpy(x->bounce, from + done, n);
        bool ok = from ? CU(x, copy_to_device, part, x->bounce, n, g->stream)
                       : CU(x, copy_to_host, x->bounce, part, n, g->stream);
        if (!ok || !CU(x, stream_wait, g->stream))
            return false;
        if (to)
            memcpy(to + done, x->bounce, n);
    }
    return true;
}

/* Inputs and outputs are as exec_run sees them. */
static bool gpu_write(Exec *e, Loaded *l, const ProgTensor *t, const void *from)
{
    if (is_shared(t))
        return move_shared((GpuExec *)e, gpu_address((GpuExec *)e, (GpuLoaded *)l, t->at), t->bytes, from, NULL);
    memcpy(gpu_ptr(e, l, t), from, (size_t)t->bytes);
    return true;
}

static bool gpu_read(Exec *e, Loaded *l, const ProgTensor *t, void *to)
{
    if (is_shared(t))
        return move_shared((GpuExec *)e, gpu_address((GpuExec *)e, (GpuLoaded *)l, t->at), t->bytes, NULL, to);
    memcpy(to, gpu_ptr(e, l, t), (size_t)t->bytes);
    return true;
}

Exec *exec_new_gpu(Arena *a, Diag *d, Gpu *gpu, CallLib *lib, ExecOptions opt)
{
    static const ExecKind kind = {
        .gpu = true,
        .needed = gpu_exec_needed,
        .available = gpu_exec_available,
        .load = gpu_load,
        .unload = gpu_unload,
        .run = gpu_step_run,
        .ptr = gpu_ptr,
        .input = gpu_step_input,
        .submit = gpu_step_submit,
        .output = gpu_step_output,
        .depth = gpu_depth,
        .write = gpu_write,
        .read = gpu_read,
        .release = gpu_release,
    };
    GpuExec *x = ARENA_NEW(a, GpuExec);
    x->base = (Exec){ .kind = &kind, .arena = a, .d = d, .lib = lib, .opt = opt, .threads = 1 };
    x->gpu = gpu;
    return &x->base;
}

int64_t exec_gpu_graph_nodes(const Exec *e, int32_t program)
{
    return (int64_t)((const GpuLoaded *)exec_loaded(e, program))->nodes;
}
