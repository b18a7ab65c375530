/* calllib.c: integer products by this library, all other calls by the one that it stands in front of.
 *
 * Tested by tests/unit/test_integer.c. */
#include "runtime/narrow/narrow.h"
#include "runtime/winograd/winograd.h"
#include "runtime/integer/integer_impl.h"

typedef struct Lib {
    int threads;
    Isa isa;
} Lib;

static bool lib_is_mine(const void *self, const CallDesc *d)
{
    (void)self;
    return d->kind == CALL_CONV_FWD_INT;
}

static void *lib_plan(const void *self, Arena *a, Diag *diag, const CallDesc *d, int64_t *scratch_bytes)
{
    const Lib  *l = self;
    const char *why;
    IntConv    *c = intconv_new(a, d, l->isa, l->threads, &why);
    *scratch_bytes = c ? c->scratch_bytes : 0;
    if (c)
        return c;
    diag_error(diag, LOC_NONE, "integer products: expected a convolution of codes whose sums fit 32 bits, found %s",
               why);
    diag_help(diag, "--forward float makes the product of floats");
    return NULL;
}

static void lib_run(const void *plan, void *const *bufs, void *scratch)
{
    intconv_run(plan, bufs, scratch);
}

CallLib *calllib_integer(Arena *a, CallLib *floats, int threads, Isa isa)
{
    DT_ASSERT(isa_is_here(isa), "%s on a machine that does not have it", isa_doc(isa));
    static const CallFront front = { lib_is_mine, lib_plan, lib_run };
    Lib                   *l = ARENA_NEW(a, Lib);
    *l = (Lib){ calllib_threads(threads), isa };
    return calllib_front(a, floats, arena_printf(a, "%s, integers by %s", floats->name, isa_doc(isa)), &front, l);
}

CallLib *calllib_cpu(Arena *a, Diag *d, int threads, Isa isa)
{
    CallLib *floats = calllib_onednn(a, d, threads);
    if (!floats)
        return NULL;
    CallLib *narrow = calllib_narrow(a, floats, threads, isa);
    return calllib_integer(a, calllib_winograd(a, narrow, threads, isa), threads, isa);
}
