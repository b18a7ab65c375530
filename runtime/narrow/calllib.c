/* calllib.c: gradients with operands in bf16, and those of weights in f32 that are faster here, by this library, all
 * other calls by the one that it stands in front of.
 *
 * Tested by tests/unit/test_narrow.c. */
#include "runtime/narrow/narrow_impl.h"

enum { MOST_ROW = 64 }; /* pixels of a row that joined pixels are cut into */

/* Of a call: one of the two. */
typedef struct Plan {
    NarrowData   *data;
    NarrowWeight *weight;
} Plan;

typedef struct Lib {
    int32_t          vector_bits; /* of the library behind */
    int              threads;
    const NarrowIsa *isa;
} Lib;

void narrow_join_pixels(CallDesc *d)
{
    bool pads = d->pad[0] || d->pad[1] || d->pad[2] || d->pad[3];
    if (d->r != 1 || d->s != 1 || d->stride != 1 || pads || d->oh != d->h || d->ow != d->w)
        return;
    int64_t pixels = d->n * d->h * d->w, best = 1;
    for (int64_t i = 2; i <= MOST_ROW; i++)
        if (pixels % i == 0 && (i % 2 == 0 || best % 2 == 1)) /* even, where it can be: pixels go in pairs */
            best = i;
    d->n = 1;
    d->h = d->oh = pixels / best;
    d->w = d->ow = best;
}

WeightAt narrow_weight_at(const CallDesc *d)
{
    if (d->krsc)
        return (WeightAt){ .k = d->r * d->s * d->c, .r = d->s * d->c, .s = d->c, .c = 1 };
    return (WeightAt){ .k = d->c * d->r * d->s, .c = d->r * d->s, .r = d->s, .s = 1 };
}

static bool is_small(DType t)
{
    return t == DTYPE_F32 || t == DTYPE_S8 || t == DTYPE_U8;
}

/* Gradients of weights in f32 that are faster here than in a library with such vectors: of windows of several pixels
 * and so many channels on both sides, of rows so wide, of no more weights a tap (measured: docs/cpu-results.md). */
static const struct {
    int32_t vector_bits;
    int64_t channels, width, weights;
} faster[] = {
    { 256, 32, 8, INT64_MAX },
    { 512, 32, 56, 128 * 128 },
};

static bool is_faster_here(const Lib *l, const CallDesc *d)
{
    if (d->kind != CALL_CONV_BWD_W || d->groups != 1 || d->r * d->s == 1 || d->c % BLOCK || d->k % BLOCK)
        return false;
    for (int32_t i = 0; i < DT_COUNT(faster); i++)
        if (faster[i].vector_bits == l->vector_bits)
            return dt_min64(d->c, d->k) >= faster[i].channels && d->ow >= faster[i].width &&
                   d->c * d->k <= faster[i].weights;
    return false;
}

static bool lib_is_mine(const void *l, const CallDesc *d)
{
    return d->bf16 || is_faster_here(l, d);
}

/* NULL: it is made here. */
static const char *unfit(const CallDesc *d)
{
    if (d->kind != CALL_CONV_BWD_X && d->kind != CALL_CONV_BWD_W)
        return "a call that is no gradient of a convolution";
    if (d->groups != 1)
        return "a convolution in groups";
    if (!is_small(d->kind == CALL_CONV_BWD_X ? d->w_type : d->x_type))
        return "an operand that is not f32, s8 or u8";
    if (d->h * d->w * d->c > INT32_MAX || d->k * d->c * d->r * d->s > INT32_MAX)
        return "an image or a weight of more than 2^31 numbers";
    return NULL;
}

static void *lib_plan(const void *self, Arena *a, Diag *diag, const CallDesc *d, int64_t *scratch_bytes)
{
    const Lib  *l = self;
    const char *why = unfit(d);
    if (why) {
        diag_error(diag, LOC_NONE, "gradients in bf16: expected a convolution without groups, found %s", why);
        diag_help(diag, "--backward f32 makes the gradient of floats");
        *scratch_bytes = -1;
        return NULL;
    }
    Plan *p = ARENA_NEW(a, Plan);
    if (d->kind == CALL_CONV_BWD_X)
        p->data = narrow_data_new(a, d, l->isa, l->threads, scratch_bytes);
    else
        p->weight = narrow_weight_new(a, d, l->isa, l->threads, scratch_bytes);
    return p;
}

static void lib_run(const void *plan, void *const *bufs, void *scratch)
{
    const Plan *p = plan;
    if (p->data)
        narrow_data_run(p->data, bufs, scratch);
    else
        narrow_weight_run(p->weight, bufs, scratch);
}

CallLib *calllib_narrow(Arena *a, CallLib *others, int threads, Isa isa)
{
    DT_ASSERT(isa_is_here(isa), "%s on a machine that does not have it", isa_doc(isa));
    static const CallFront front = { lib_is_mine, lib_plan, lib_run };
    Lib                   *l = ARENA_NEW(a, Lib);
    *l = (Lib){ others->vector_bits, calllib_threads(threads), narrow_isa(isa) };
    return calllib_front(a, others, others->name, &front, l);
}
