/* calllib.c: integer products by this library, all other calls by the one that it stands in front of.
 *
 * Tested by tests/unit/test_integer.c. */
#include "runtime/narrow/narrow.h"
#include "runtime/winograd/winograd.h"
#include "runtime/integer/integer_impl.h"

#include <omp.h>

/* What prepare gives: one of the two. */
typedef struct Prepared {
    IntConv *conv;
    void    *floats;
} Prepared;

typedef struct Lib {
    CallLib  face;
    Arena   *arena;
    CallLib *floats;
    int      threads;
    Isa      isa;
} Lib;

static int64_t lib_scratch_bytes(void *self, const CallDesc *d)
{
    Lib *l = self;
    if (d->kind != CALL_CONV_FWD_INT)
        return l->floats->scratch_bytes(l->floats->self, d);
    Arena       a = arena_new("call");
    const char *why;
    IntConv    *c = intconv_new(&a, d, l->isa, l->threads, &why);
    int64_t     bytes = c ? c->scratch_bytes : 0; /* what is wrong is said by prepare */
    arena_free(&a);
    return bytes;
}

static void *lib_prepare(void *self, Diag *diag, const CallDesc *d)
{
    Lib      *l = self;
    Prepared *p = ARENA_NEW(l->arena, Prepared);
    if (d->kind != CALL_CONV_FWD_INT) {
        p->floats = l->floats->prepare(l->floats->self, diag, d);
        return p->floats ? p : NULL;
    }
    const char *why;
    p->conv = intconv_new(l->arena, d, l->isa, l->threads, &why);
    if (p->conv)
        return p;
    diag_error(diag, LOC_NONE, "integer products: expected a convolution of codes whose sums fit 32 bits, found %s",
               why);
    diag_help(diag, "--forward float makes the product of floats");
    return NULL;
}

static bool lib_run(void *self, void *prepared, void *const *bufs, void *scratch)
{
    Lib      *l = self;
    Prepared *p = prepared;
    if (!p->conv)
        return l->floats->run(l->floats->self, p->floats, bufs, scratch);
    intconv_run(p->conv, bufs, scratch);
    return true;
}

static void lib_release(void *self)
{
    Lib *l = self;
    l->floats->release(l->floats->self);
}

static void lib_unprepare(void *self, void *prepared)
{
    Lib      *l = self;
    Prepared *p = prepared;
    if (!p->conv && l->floats->unprepare)
        l->floats->unprepare(l->floats->self, p->floats);
}

CallLib *calllib_integer(Arena *a, CallLib *floats, int threads, Isa isa)
{
    DT_ASSERT(isa_is_here(isa), "%s on a machine that does not have it", isa_doc(isa));
    Lib *l = ARENA_NEW(a, Lib);
    l->arena = a;
    l->floats = floats;
    l->threads = (int)dt_min64(threads > 0 ? threads : omp_get_max_threads(), omp_get_thread_limit());
    l->isa = isa;
    l->face = (CallLib){ .name = arena_printf(a, "%s, integers by %s", floats->name, isa_doc(isa)),
                         .self = l,
                         .scratch_bytes = lib_scratch_bytes,
                         .prepare = lib_prepare,
                         .run = lib_run,
                         .release = lib_release,
                         .unprepare = lib_unprepare };
    return &l->face;
}

CallLib *calllib_cpu(Arena *a, Diag *d, int threads, Isa isa)
{
    CallLib *floats = calllib_onednn(a, d, threads);
    if (!floats)
        return NULL;
    CallLib *narrow = calllib_narrow(a, floats, threads, isa);
    return calllib_integer(a, calllib_winograd(a, narrow, threads, isa), threads, isa);
}
