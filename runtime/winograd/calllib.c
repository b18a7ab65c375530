/* calllib.c: gradients that are faster by Winograd's algorithm by this library, all other calls by the one that it
 * stands in front of. They are faster with such vectors, from the fewest channels on (docs/decisions.md).
 *
 * Tested by tests/unit/test_winograd.c. */
#include "runtime/winograd/winograd_impl.h"

/* Of a call: one of the two. */
typedef struct Plan {
    WinoData   *data;
    WinoWeight *weight;
} Plan;

typedef struct Lib {
    int32_t        vector_bits; /* of the library behind */
    int            threads;
    const WinoIsa *isa;
} Lib;

/* Of a weight's gradient, or errors of single products do not average out: 32 came to 0.6 of what cli/check_calls.c
 * allows, 64 to 0.3, 512 to 0.05. */
enum { LEAST_PIXELS = 64 };

static bool lib_is_mine(const void *self, const CallDesc *d)
{
    const Lib *l = self;
    bool       gradient = d->kind == CALL_CONV_BWD_X || d->kind == CALL_CONV_BWD_W;
    if (!gradient || d->r != 3 || d->s != 3 || d->stride != 1 || d->groups != 1 || d->bf16)
        return false;
    if (d->kind == CALL_CONV_BWD_W && d->n * d->oh * d->ow < LEAST_PIXELS)
        return false;
    return (l->vector_bits == 256 || l->vector_bits == 512) && d->c % WINO_BLOCK == 0 && d->k % WINO_BLOCK == 0;
}

static void *lib_plan(const void *self, Arena *a, Diag *diag, const CallDesc *d, int64_t *scratch_bytes)
{
    const Lib *l = self;
    Plan      *p = ARENA_NEW(a, Plan);
    (void)diag; /* all calls that are its own can be made */
    if (d->kind == CALL_CONV_BWD_X)
        p->data = wino_data_new(a, d, l->isa, l->threads, scratch_bytes);
    else
        p->weight = wino_weight_new(a, d, l->isa, l->threads, scratch_bytes);
    return p;
}

static void lib_run(const void *plan, void *const *bufs, void *scratch)
{
    const Plan *p = plan;
    if (p->data)
        wino_data_run(p->data, bufs, scratch);
    else
        wino_weight_run(p->weight, bufs, scratch);
}

CallLib *calllib_winograd(Arena *a, CallLib *others, int threads, Isa isa)
{
    DT_ASSERT(isa_is_here(isa), "%s on a machine that does not have it", isa_doc(isa));
    static const CallFront front = { lib_is_mine, lib_plan, lib_run };
    Lib                   *l = ARENA_NEW(a, Lib);
    *l = (Lib){ others->vector_bits, calllib_threads(threads), wino_isa(isa) };
    return calllib_front(a, others, others->name, &front, l);
}
