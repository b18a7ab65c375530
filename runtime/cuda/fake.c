/* fake.c: the fake GPU itself: opening, device, context, memory, handles.
 *
 * Tested by tests/unit/test_gpu_driver.c. */
#include "runtime/cuda/fake.h"

#include <stdlib.h>
#include <string.h>

Fake                          fake; /* fake.h says why */
static _Thread_local CuHandle current_context;

enum {
    ALIGN = 512,      /* as little as the driver promises, nearly */
    POISON = 0xff,    /* new memory: floats are NaN, tickets are not 0 */
    MOST_HANDLES = 16 /* a handle is its index times this: no small numbers, no addresses */
};
#define NULL_GPU_MEMORY (UINT64_C(1) << 60) /* addresses that no process has */
#define MEMORY_UNLESS_SAID (INT64_C(1) << 40)

/* ---- Opening ---- */

static void forget_everything(void)
{
    for (int32_t i = 0; i < fake.objects.len; i++)
        fake_object_free(fake.objects.at[i]);
    for (int32_t i = 0; i < fake.blocks.len; i++)
        if (fake.blocks.at[i].host || fake.kind->has_memory)
            free((void *)(uintptr_t)fake.blocks.at[i].at);
    arena_free(&fake.arena);
    arena_free(&fake.queue);
    arena_free(&fake.told);
}

const CudaDriver *fake_open(Arena *a, Diag *d, int64_t memory, const FakeKind *kind)
{
    if (fake.kind)
        forget_everything();
    fake = (Fake){ .kind = kind,
                   .arena = arena_new("fake GPU"),
                   .queue = arena_new("fake GPU: streams"),
                   .told = arena_new("fake GPU: launch"),
                   .d = d,
                   .memory = memory ? memory : MEMORY_UNLESS_SAID,
                   .next_address = NULL_GPU_MEMORY,
                   .generation = fake.generation + 1 };
    current_context = NULL;
    CudaDriver *t = ARENA_NEW(a, CudaDriver);
    *t = (CudaDriver){
#define X(name, symbol, params) .name = fake_##name,
        CUDA_DRIVER(X)
#undef X
            .path = kind->name,
        .watch = fake_watch, .runs_source = true
    };
    return t;
}

CudaSimCounts cuda_sim_counts(void)
{
    return fake.counts;
}

void cuda_sim_lazy(uint32_t streams)
{
    fake_flush();
    fake.lazy = streams;
    for (int32_t i = 0, n = 0; i < fake.objects.len; i++)
        if (fake.objects.at[i]->sort == FAKE_STREAM)
            fake.objects.at[i]->lazy = streams >> n++ & 1;
}

void cuda_sim_seed(uint64_t seed)
{
    fake.seed = seed;
}

/* ---- Messages and states ---- */

CuResult fake_wrong(CuResult status, const char *fmt, ...)
{
    char    text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fake.counts.faults++;
    diag_error(fake.d, LOC_NONE, "%s: %s", fake.kind->name, text);
    return status;
}

static CuHandle the_context(void)
{
    return (CuHandle)(fake.generation * MOST_HANDLES + 1);
}

/* In order, as a driver looks at them. */
static CuResult usable(void)
{
    return !fake.initialized                                    ? CU_NOT_INITIALIZED
           : fake.in_host                                       ? CU_NOT_PERMITTED
           : !fake.contexts || current_context != the_context() ? CU_INVALID_CONTEXT
                                                                : CU_SUCCESS;
}

CuResult fake_ready(void)
{
    CuResult status = usable();
    return status ? status : fake.fault;
}

/* ---- Handles ---- */

FakeObject *fake_object_new(FakeSort sort)
{
    FakeObject *o = ARENA_NEW(&fake.arena, FakeObject);
    vec_push(&fake.arena, &fake.objects, o);
    o->sort = sort;
    o->handle = (CuHandle)((uintptr_t)fake.objects.len * MOST_HANDLES);
    o->live = true;
    o->arena = arena_new("fake GPU: object");
    return o;
}

FakeObject *fake_object(CuHandle handle, FakeSort sort)
{
    uintptr_t number = (uintptr_t)handle;
    if (number == 0 || number % MOST_HANDLES != 0 || number / MOST_HANDLES > (uintptr_t)fake.objects.len)
        return NULL;
    FakeObject *o = fake.objects.at[number / MOST_HANDLES - 1];
    return o->live && (o->sort == sort || sort == FAKE_ANY) ? o : NULL;
}

void fake_object_free(FakeObject *o)
{
    if (o->live)
        arena_free(&o->arena);
    o->live = false;
}

CudaSimLive cuda_sim_live(void)
{
    CudaSimLive n = { .contexts = fake.contexts, .bytes = fake.used };
    for (int32_t i = 0; i < fake.blocks.len; i++)
        *(fake.blocks.at[i].host ? &n.host_allocations : &n.allocations) += 1;
    for (int32_t i = 0; i < fake.objects.len; i++) {
        const FakeObject *o = fake.objects.at[i];
        n.streams += o->live && o->sort == FAKE_STREAM;
        n.events += o->live && o->sort == FAKE_EVENT;
        n.modules += o->live && o->sort == FAKE_MODULE;
        n.graphs += o->live && (o->sort == FAKE_CAPTURED || o->sort == FAKE_EXEC);
    }
    n.total = n.allocations + n.host_allocations + n.streams + n.events + n.modules + n.graphs + n.contexts;
    return n;
}

/* ---- Device ---- */

CuResult fake_init(unsigned flags)
{
    fake.initialized = true;
    return flags == 0 ? CU_SUCCESS : CU_INVALID_VALUE;
}

CuResult fake_driver_version(int *version)
{
    *version = 13000;
    return CU_SUCCESS;
}

CuResult fake_device_count(int *count)
{
    *count = 1;
    return fake.initialized ? CU_SUCCESS : CU_NOT_INITIALIZED;
}

CuResult fake_device_get(CuDevice *device, int ordinal)
{
    *device = ordinal;
    return !fake.initialized ? CU_NOT_INITIALIZED : ordinal == 0 ? CU_SUCCESS : CU_INVALID_DEVICE;
}

CuResult fake_device_name(char *name, int len, CuDevice device)
{
    snprintf(name, (size_t)len, "%s", fake.kind->name);
    return device == 0 ? CU_SUCCESS : CU_INVALID_DEVICE;
}

/* Those of a large GPU of compute capability 9.0. */
CuResult fake_device_attribute(int *value, int attribute, CuDevice device)
{
    static const struct {
        int attribute, value;
    } known[] = {
        { 1, 1024 },  /* threads of a block */
        { 8, 49152 }, /* shared memory of a block */
        { 10, 32 },   /* warp */
        { 16, 132 },  /* multiprocessors */
        { 75, 9 },    /* compute capability */
        { 76, 0 },
    };
    for (int32_t i = 0; i < DT_COUNT(known); i++)
        if (known[i].attribute == attribute) {
            *value = known[i].value;
            return device == 0 ? CU_SUCCESS : CU_INVALID_DEVICE;
        }
    return CU_INVALID_VALUE;
}

CuResult fake_device_memory(size_t *bytes, CuDevice device)
{
    *bytes = (size_t)fake.memory;
    return device == 0 ? CU_SUCCESS : CU_INVALID_DEVICE;
}

CuResult fake_context_retain(CuHandle *context, CuDevice device)
{
    if (!fake.initialized || device != 0)
        return fake.initialized ? CU_INVALID_DEVICE : CU_NOT_INITIALIZED;
    fake.contexts++;
    *context = the_context();
    return CU_SUCCESS;
}

CuResult fake_context_release(CuDevice device)
{
    if (device != 0 || fake.contexts == 0)
        return device != 0 ? CU_INVALID_DEVICE : CU_INVALID_CONTEXT;
    if (fake.contexts == 1)
        fake_flush();
    fake.contexts--;
    return CU_SUCCESS;
}

CuResult fake_context_set(CuHandle context)
{
    if (context && (context != the_context() || !fake.contexts))
        return CU_INVALID_CONTEXT;
    current_context = context;
    return CU_SUCCESS;
}

CuResult fake_error_name(CuResult error, const char **text)
{
    const CudaStatus *s = cuda_status(error);
    *text = s ? s->name : NULL;
    return s ? CU_SUCCESS : CU_INVALID_VALUE;
}

CuResult fake_error_text(CuResult error, const char **text)
{
    const CudaStatus *s = cuda_status(error);
    *text = s ? s->text : NULL;
    return s ? CU_SUCCESS : CU_INVALID_VALUE;
}

/* ---- Memory ---- */

const FakeBlock *fake_block(CuPtr at, int64_t bytes, const char *fmt, ...)
{
    char        what[256], size[32] = "memory";
    const char *why = "belongs to no allocation";
    va_list     ap;
    for (int32_t i = 0; i < fake.blocks.len; i++) {
        const FakeBlock *b = &fake.blocks.at[i];
        if (b->host || at < b->at || at - b->at >= b->bytes)
            continue;
        if (bytes <= (int64_t)(b->bytes - (at - b->at)))
            return b;
        why = "reaches beyond the end of its allocation";
    }
    for (int32_t i = 0; i < dt_min64(fake.n_freed, FAKE_FREED); i++)
        if (at >= fake.freed[i].at && at - fake.freed[i].at < fake.freed[i].bytes && why[0] == 'b')
            why = "was freed";
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (bytes >= 0)
        snprintf(size, sizeof size, "%lld bytes", (long long)bytes);
    fake_wrong(CU_ILLEGAL_ADDRESS, "%s: %s at %#llx: it %s", what, size, (unsigned long long)at, why);
    return NULL;
}

CuResult fake_memory_info(size_t *available, size_t *total)
{
    *available = (size_t)(fake.memory - fake.used);
    *total = (size_t)fake.memory;
    return usable();
}

static CuResult host_memory(size_t bytes, void **at)
{
    if (posix_memalign(at, ALIGN, bytes) != 0)
        return CU_OUT_OF_MEMORY;
    memset(*at, POISON, bytes);
    return CU_SUCCESS;
}

CuResult fake_alloc(CuPtr *at, size_t bytes)
{
    CuResult status = fake_ready();
    if (!status)
        status = fake_uncaptured();
    if (status || bytes == 0)
        return status ? status : CU_INVALID_VALUE;
    if (bytes > (size_t)(fake.memory - fake.used))
        return CU_OUT_OF_MEMORY;
    void *memory = (void *)(uintptr_t)fake.next_address;
    if (fake.kind->has_memory && (status = host_memory(bytes, &memory)) != CU_SUCCESS)
        return status;
    fake.next_address += (CuPtr)dt_round_up((int64_t)bytes, ALIGN) + ALIGN; /* a hole behind each */
    fake.used += (int64_t)bytes;
    fake.counts.most_bytes = dt_max64(fake.counts.most_bytes, fake.used);
    *at = (CuPtr)(uintptr_t)memory;
    vec_push(&fake.arena, &fake.blocks, (FakeBlock){ .at = *at, .bytes = bytes });
    return CU_SUCCESS;
}

CuResult fake_alloc_host(void **at, size_t bytes)
{
    CuResult status = fake_ready();
    if (!status)
        status = fake_uncaptured();
    if (status || bytes == 0)
        return status ? status : CU_INVALID_VALUE;
    if ((status = host_memory(bytes, at)) == CU_SUCCESS)
        vec_push(&fake.arena, &fake.blocks, (FakeBlock){ .at = (CuPtr)(uintptr_t)*at, .bytes = bytes, .host = true });
    return status;
}

static CuResult block_free(CuPtr at, bool host)
{
    const char *what = host ? "cuMemFreeHost" : "cuMemFree_v2";
    CuResult    status = usable();
    if (!status)
        status = fake_uncaptured();
    if (status)
        return status;
    fake_flush(); /* the driver waits, too: work may still use the memory */
    for (int32_t i = 0; i < fake.blocks.len; i++) {
        FakeBlock b = fake.blocks.at[i];
        if (b.at != at || b.host != host)
            continue;
        fake.blocks.at[i] = fake.blocks.at[--fake.blocks.len];
        fake.freed[fake.n_freed++ % FAKE_FREED] = b;
        fake.used -= host ? 0 : (int64_t)b.bytes;
        if (host || fake.kind->has_memory)
            free((void *)(uintptr_t)at);
        return CU_SUCCESS;
    }
    bool twice = false;
    for (int32_t i = 0; i < dt_min64(fake.n_freed, FAKE_FREED); i++)
        twice |= fake.freed[i].at == at && fake.freed[i].host == host;
    return fake_wrong(CU_INVALID_VALUE, "%s: %#llx %s", what, (unsigned long long)at,
                      twice ? "was freed before" : "is not where an allocation begins");
}

CuResult fake_free(CuPtr at)
{
    return block_free(at, false);
}

CuResult fake_free_host(void *at)
{
    return block_free((CuPtr)(uintptr_t)at, true);
}
