/* gpu_reference.c: library calls on a simulated GPU: plain loops (reference_call) as host functions in the stream, so
 * that they take their turn between kernels and can be captured like them. Device addresses of a simulated GPU are
 * addresses of the host. A null GPU takes the host functions and does not run them.
 *
 * Tested by tests/unit/test_gpu_exec.c. */
#include <string.h>

#include "runtime/cuda/gpu.h"

/* What a host function is told. A graph replays it, so it stays as long as its call. */
typedef struct HostCall {
    const CallDesc *call;
    void           *bufs[CALL_MAX_BUFS];
} HostCall;

typedef struct Prepared {
    CallDesc call;
    VEC(HostCall *) at; /* one for each set of addresses it was run with */
} Prepared;

typedef struct GpuReference {
    CallLib face;
    Arena  *arena;
    Gpu    *gpu;
} GpuReference;

static int64_t lib_scratch_bytes(void *self, const CallDesc *call)
{
    (void)self, (void)call;
    return 0;
}

static void *lib_prepare(void *self, Diag *d, const CallDesc *call)
{
    (void)d;
    GpuReference *l = self;
    Prepared     *p = ARENA_NEW(l->arena, Prepared);
    p->call = *call;
    return p;
}

static int32_t n_bufs(const CallDesc *call)
{
    return call->kind == CALL_CONV_FWD_INT || call->bias ? 4 : 3;
}

static HostCall *find_call(GpuReference *l, Prepared *p, void *const *bufs)
{
    size_t bytes = sizeof(void *) * (size_t)n_bufs(&p->call);
    for (int32_t i = 0; i < p->at.len; i++)
        if (memcmp(p->at.at[i]->bufs, bufs, bytes) == 0)
            return p->at.at[i];
    HostCall *c = ARENA_NEW(l->arena, HostCall);
    c->call = &p->call;
    memcpy(c->bufs, bufs, bytes);
    vec_push(l->arena, &p->at, c);
    return c;
}

static void run_call(void *user)
{
    const HostCall *c = user;
    reference_call(c->call, c->bufs, NULL);
}

static bool lib_run(void *self, void *prepared, void *const *bufs, void *scratch)
{
    (void)scratch;
    GpuReference *l = self;
    return gpu_ok(l->gpu, "cuLaunchHostFunc",
                  l->gpu->t->launch_host(l->gpu->stream, run_call, find_call(l, prepared, bufs)));
}

static void lib_release(void *self)
{
    (void)self; /* records live in the arena */
}

CallLib *calllib_gpu_reference(Arena *a, Gpu *g)
{
    GpuReference *l = ARENA_NEW(a, GpuReference);
    l->arena = a;
    l->gpu = g;
    l->face = (CallLib){
        .name = "reference loops on a simulated GPU",
        .self = l,
        .scratch_bytes = lib_scratch_bytes,
        .prepare = lib_prepare,
        .run = lib_run,
        .release = lib_release,
    };
    return &l->face;
}
