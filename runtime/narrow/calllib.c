/* calllib.c: gradients with operands in bf16, and those of weights in f32 that are faster here, by this library, all
 * other calls by the one that it stands in front of.
 *
 * Tested by tests/unit/test_narrow.c. */
#include "runtime/narrow/narrow_impl.h"

#include <omp.h>

enum { MOST_ROW = 64 }; /* pixels of a row that joined pixels are cut into */

/* What prepare gives: one of the three. */
typedef struct Prepared {
    NarrowData   *data;
    NarrowWeight *weight;
    void         *other;
} Prepared;

typedef struct Lib {
    CallLib          face;
    Arena           *arena;
    CallLib         *others;
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
        if (faster[i].vector_bits == l->others->vector_bits)
            return dt_min64(d->c, d->k) >= faster[i].channels && d->ow >= faster[i].width &&
                   d->c * d->k <= faster[i].weights;
    return false;
}

static bool is_mine(const Lib *l, const CallDesc *d)
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

/* Where it can be made: one of the two, and the scratch memory that it needs. */
static void plan(Arena *a, const Lib *l, const CallDesc *d, Prepared *p, int64_t *scratch_bytes)
{
    if (d->kind == CALL_CONV_BWD_X)
        p->data = narrow_data_new(a, d, l->isa, l->threads, scratch_bytes);
    else
        p->weight = narrow_weight_new(a, d, l->isa, l->threads, scratch_bytes);
}

static int64_t lib_scratch_bytes(void *self, const CallDesc *d)
{
    Lib *l = self;
    if (!is_mine(l, d))
        return l->others->scratch_bytes(l->others->self, d);
    if (unfit(d))
        return -1;
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
    if (!is_mine(l, d)) {
        p->other = l->others->prepare(l->others->self, diag, d);
        return p->other ? p : NULL;
    }
    const char *why = unfit(d);
    if (why) {
        diag_error(diag, LOC_NONE, "gradients in bf16: expected a convolution without groups, found %s", why);
        diag_help(diag, "--backward f32 makes the gradient of floats");
        return NULL;
    }
    int64_t bytes;
    plan(l->arena, l, d, p, &bytes);
    return p;
}

static bool lib_run(void *self, void *prepared, void *const *bufs, void *scratch)
{
    Lib      *l = self;
    Prepared *p = prepared;
    if (p->data)
        narrow_data_run(p->data, bufs, scratch);
    else if (p->weight)
        narrow_weight_run(p->weight, bufs, scratch);
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

CallLib *calllib_narrow(Arena *a, CallLib *others, int threads, Isa isa)
{
    DT_ASSERT(isa_is_here(isa), "%s on a machine that does not have it", isa_doc(isa));
    Lib *l = ARENA_NEW(a, Lib);
    l->arena = a;
    l->others = others;
    l->threads = (int)dt_min64(threads > 0 ? threads : omp_get_max_threads(), omp_get_thread_limit());
    l->isa = narrow_isa(isa);
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
