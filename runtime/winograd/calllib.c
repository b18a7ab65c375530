/* calllib.c: gradients that are faster by Winograd's algorithm by this library, all other calls by the one that it
 * stands in front of.
 *
 * Tested by tests/unit/test_winograd.c. */
#include "runtime/winograd/winograd_impl.h"

#include <omp.h>

/* What prepare gives: one of the three. */
typedef struct Prepared {
    WinoData   *data;
    WinoWeight *weight;
    void       *other;
} Prepared;

typedef struct Lib {
    CallLib        face;
    Arena         *arena;
    CallLib       *others;
    int            threads;
    const WinoIsa *isa;
} Lib;

/* Gradients that are faster here than direct ones with such vectors: of so many channels on both sides (measured:
 * docs/cpu-results.md). */
static const struct {
    int32_t vector_bits;
    int64_t channels;
} faster[] = { { 256, 16 }, { 512, 32 } };

/* Of a weight's gradient, or errors of single products do not average out: 32 came to 0.6 of what cli/check_calls.c
 * allows, 64 to 0.3, 512 to 0.05. */
enum { LEAST_PIXELS = 64 };

static bool is_mine(const Lib *l, const CallDesc *d)
{
    bool gradient = d->kind == CALL_CONV_BWD_X || d->kind == CALL_CONV_BWD_W;
    if (!gradient || d->r != 3 || d->s != 3 || d->stride != 1 || d->groups != 1 || d->bf16)
        return false;
    if (d->kind == CALL_CONV_BWD_W && d->n * d->oh * d->ow < LEAST_PIXELS)
        return false;
    for (int32_t i = 0; i < DT_COUNT(faster); i++)
        if (faster[i].vector_bits == l->others->vector_bits)
            return d->c % WINO_BLOCK == 0 && d->k % WINO_BLOCK == 0 && dt_min64(d->c, d->k) >= faster[i].channels;
    return false;
}

static void plan(Arena *a, const Lib *l, const CallDesc *d, Prepared *p, int64_t *scratch_bytes)
{
    if (d->kind == CALL_CONV_BWD_X)
        p->data = wino_data_new(a, d, l->isa, l->threads, scratch_bytes);
    else
        p->weight = wino_weight_new(a, d, l->isa, l->threads, scratch_bytes);
}

static int64_t lib_scratch_bytes(void *self, const CallDesc *d)
{
    Lib *l = self;
    if (!is_mine(l, d))
        return l->others->scratch_bytes(l->others->self, d);
    Arena    a = arena_new("call");
    Prepared p = { 0 };
    int64_t  bytes = 0;
    plan(&a, l, d, &p, &bytes);
    arena_free(&a);
    return bytes;
}

static void *lib_prepare(void *self, Diag *diag, const CallDesc *d)
{
    Lib      *l = self;
    Prepared *p = ARENA_NEW(l->arena, Prepared);
    int64_t   bytes;
    if (is_mine(l, d)) {
        plan(l->arena, l, d, p, &bytes);
        return p;
    }
    p->other = l->others->prepare(l->others->self, diag, d);
    return p->other ? p : NULL;
}

static bool lib_run(void *self, void *prepared, void *const *bufs, void *scratch)
{
    Lib      *l = self;
    Prepared *p = prepared;
    if (p->data)
        wino_data_run(p->data, bufs, scratch);
    else if (p->weight)
        wino_weight_run(p->weight, bufs, scratch);
    else
        return l->others->run(l->others->self, p->other, bufs, scratch);
    return true;
}

static void lib_release(void *self)
{
    Lib *l = self;
    l->others->release(l->others->self);
}

static void lib_unprepare(void *self, void *prepared)
{
    Lib      *l = self;
    Prepared *p = prepared;
    if (p->other && l->others->unprepare)
        l->others->unprepare(l->others->self, p->other);
}

CallLib *calllib_winograd(Arena *a, CallLib *others, int threads, Isa isa)
{
    DT_ASSERT(isa_is_here(isa), "%s on a machine that does not have it", isa_doc(isa));
    Lib *l = ARENA_NEW(a, Lib);
    l->arena = a;
    l->others = others;
    l->threads = (int)dt_min64(threads > 0 ? threads : omp_get_max_threads(), omp_get_thread_limit());
    l->isa = wino_isa(isa);
    l->face = (CallLib){ .name = others->name,
                         .vector_bits = others->vector_bits,
                         .self = l,
                         .scratch_bytes = lib_scratch_bytes,
                         .prepare = lib_prepare,
                         .run = lib_run,
                         .release = lib_release,
                         .unprepare = lib_unprepare };
    return &l->face;
}
