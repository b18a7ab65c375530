/* plan.c: how a call is carried out: its form, its blocks of outputs, its bands of rows, its scratch memory.
 *
 *   scratch: [ pixels of a band | start | scale | packed weights | a strip for each thread ]
 *
 * Tested by tests/unit/test_integer.c. */
#include "runtime/integer/integer_impl.h"

#include <string.h>

enum {
    ALIGN = 64,
    SLACK = 64,             /* a strip is read beyond its end, by a step at most */
    STRIP_BYTES = 24 << 10, /* so that it stays in the first cache beside the weights of a block */
    BANDS_PER_THREAD = 4,
    WHOLE_TILES = 24,        /* pixels that are whole tiles of all kernels */
    STREAM_BYTES = 12 << 20, /* of y: more does not stay in caches until it is read, and need not pass through them */
    LEAST_WIDEN = 2,         /* with sums of 16 bits that last for one step alone, 16-bit codes are faster */
};

/* ---- Codes ------------------------------------------------------------------------------------------------------- */

typedef struct Range {
    int64_t lo, hi;
} Range;

static Range code_range(DType t, int32_t lo, int32_t hi)
{
    return lo == 0 && hi == 0 ? (Range){ dtype_min(t), dtype_max(t) } : (Range){ lo, hi };
}

static int64_t largest(Range r)
{
    return dt_max64(-r.lo, r.hi);
}

static const char *unfit(const CallDesc *d)
{
    if (d->kind != CALL_CONV_FWD_INT)
        return "a product of floats";
    if ((d->x_type != DTYPE_U8 && d->x_type != DTYPE_S8) || d->w_type != DTYPE_S8)
        return "codes that are not u8 or s8 by s8";
    if (d->n < 1 || d->c < 1 || d->h < 1 || d->w < 1 || d->k < 1 || d->r < 1 || d->s < 1 || d->oh < 1 || d->ow < 1 ||
        d->stride < 1 || d->groups < 1 || d->c % d->groups || d->k % d->groups)
        return "a description that is not of a convolution";
    Range   x = code_range(d->x_type, d->x_lo, d->x_hi), w = code_range(d->w_type, d->w_lo, d->w_hi);
    int64_t most = largest(x) * largest(w), terms = d->c / d->groups * d->r * d->s;
    if (x.lo < dtype_min(d->x_type) || x.hi > dtype_max(d->x_type) || w.lo < -128 || w.hi > 127 || x.lo > x.hi ||
        w.lo > w.hi)
        return "ranges of codes that their types do not have";
    if (terms > INT32_MAX / dt_max64(most, 1))
        return "sums that might not fit 32 bits";
    return NULL;
}

/* The form, and what it makes of the codes of x. */
static void choose_form(IntConv *c, Isa isa)
{
    const CallDesc *d = &c->d;
    Range           x = code_range(d->x_type, d->x_lo, d->x_hi), w = code_range(d->w_type, d->w_lo, d->w_hi);
    int32_t         add = (int32_t)dt_max64(-x.lo, 0);
    int64_t         pair = 2 * (x.hi + add) * largest(w);
    c->widen = (int32_t)(INT16_MAX / dt_max64(pair, 1));
    c->form = isa_kernels(isa, FORM_DOT) ? FORM_DOT : c->widen >= LEAST_WIDEN ? FORM_BYTES : FORM_WORDS;
    c->code_bytes = c->form == FORM_WORDS ? 2 : 1;
    c->add = c->form == FORM_WORDS ? 0 : add;
}

/* ---- Blocks of outputs ------------------------------------------------------------------------------------------- */

/* Each column of the window is whole steps, and a row of outputs a tile at least. */
static bool can_stand_beside(const IntConv *c, const TileKernel *k)
{
    const CallDesc *d = &c->d;
    const bool      whole = d->c / d->groups * c->code_bytes % STEP_BYTES == 0 && d->k / d->groups >= k->outputs;
    const bool      lasts = c->form != FORM_BYTES || c->widen >= d->r * c->steps;
    return k->outputs > 0 && d->s == TILE_TAPS && d->stride == 1 && d->ow >= k->pixels && whole && lasts;
}

/* As few blocks as the widest kernel allows, of about the same width; the wider ones behind, so that the last one,
 * which may not be full, has more than one vector where it can. */
static void choose_blocks(Arena *a, IntConv *c, const TileKernel *kernels)
{
    const int32_t kg = (int32_t)(c->d.k / c->d.groups);
    int32_t       most = 0; /* vectors of the widest kernel */
    while (most < TILE_SHAPES && kernels[most].outputs > 0)
        most++;
    const int32_t lanes = kernels[most - 1].outputs, vecs = (int32_t)dt_ceil_div(kg, lanes);
    c->vec_outputs = lanes;
    c->n_blocks = (int32_t)dt_ceil_div(vecs, most);
    c->blocks = ARENA_ARRAY(a, Block, c->n_blocks);
    for (int32_t i = 0, first = 0; i < c->n_blocks; i++) {
        const int32_t     n = vecs / c->n_blocks + (i >= c->n_blocks - vecs % c->n_blocks);
        const bool        beside = n == 1 && can_stand_beside(c, &kernels[TILE_BESIDE]);
        const TileKernel *k = &kernels[beside ? TILE_BESIDE : most - n];
        const int32_t     valid = (int32_t)dt_min64(kg - first, k->outputs);
        c->blocks[i] = (Block){ .kernel = k,
                                .first = first,
                                .valid = valid,
                                .w_offset = c->group_bytes,
                                .lane = first,
                                .last = (int32_t)dt_max64(valid - lanes, 0),
                                .beside = beside };
        c->group_bytes += c->d.r * c->steps * k->outputs * STEP_BYTES;
        c->group_lanes += k->outputs;
        first += valid;
    }
}

/* ---- Bands of rows ----------------------------------------------------------------------------------------------- */

/* Windows of one pixel side by side need no rows: all pixels of the batch are one column. */
static void join_pixels(CallDesc *d)
{
    bool pads = d->pad[0] || d->pad[1] || d->pad[2] || d->pad[3];
    if (d->r != 1 || d->s != 1 || d->stride != 1 || pads || d->oh != d->h || d->ow != d->w)
        return;
    d->h = d->oh = d->n * d->h * d->w;
    d->n = d->w = d->ow = 1;
}

static void choose_bands(IntConv *c)
{
    const CallDesc *d = &c->d;
    int64_t         cg = d->c / d->groups, rows = (d->oh - 1) * d->stride + d->r;
    c->cols = (d->ow - 1) * d->stride + d->s;
    bool inside = !d->pad[0] && !d->pad[1] && rows <= d->h && c->cols <= d->w;
    bool as_wanted = c->add == 0 && c->code_bytes == 1 && c->run % STEP_BYTES == 0 && d->groups == 1;
    c->in_place = inside && as_wanted;
    c->row_bytes = (c->in_place ? d->w : c->cols) * cg * c->code_bytes;
    int64_t fit = (STRIP_BYTES / c->row_bytes - d->r) / d->stride + 1;
    int64_t bands = dt_ceil_div(d->oh, dt_max64(fit, 1));
    bands = dt_max64(bands, dt_min64(d->oh, dt_ceil_div((int64_t)BANDS_PER_THREAD * c->threads, d->n)));
    c->band_rows = dt_ceil_div(d->oh, bands);
    if (d->ow == 1)
        c->band_rows = dt_min64(dt_round_up(c->band_rows, WHOLE_TILES), d->oh);
    c->bands = dt_ceil_div(d->oh, c->band_rows);
}

/* ---- Scratch memory ---------------------------------------------------------------------------------------------- */

static int64_t reserve(IntConv *c, int64_t bytes)
{
    int64_t at = c->scratch_bytes;
    c->scratch_bytes += dt_round_up(bytes, ALIGN);
    return at;
}

static void lay_out(IntConv *c)
{
    const CallDesc *d = &c->d;
    int64_t         rows = (c->band_rows - 1) * d->stride + d->r;
    c->table_at = reserve(c, c->band_rows * d->ow * (int64_t)sizeof(int32_t));
    c->start_at = reserve(c, d->groups * c->group_lanes * (int64_t)sizeof(int32_t));
    c->scale_at = reserve(c, d->groups * c->group_lanes * (int64_t)sizeof(float));
    c->weights_at = reserve(c, d->groups * c->group_bytes);
    c->strip_bytes = c->in_place ? 0 : dt_round_up(rows * c->row_bytes + SLACK, ALIGN);
    c->strips_at = reserve(c, c->strip_bytes * c->threads);
}

IntConv *intconv_new(Arena *a, const CallDesc *d, Isa isa, int threads, const char **why)
{
    *why = unfit(d);
    if (*why)
        return NULL;
    IntConv *c = ARENA_NEW(a, IntConv);
    c->d = *d;
    c->threads = threads;
    c->stream = d->k / dt_max64(d->groups, 1) % (LINE_BYTES / (int64_t)sizeof(float)) == 0 &&
                d->n * d->oh * d->ow * d->k * (int64_t)sizeof(float) > STREAM_BYTES;
    choose_form(c, isa);
    c->run = (int32_t)(d->s * (d->c / d->groups));
    c->steps = (int32_t)dt_ceil_div((int64_t)c->run * c->code_bytes, STEP_BYTES);
    choose_blocks(a, c, isa_kernels(isa, c->form));
    join_pixels(&c->d);
    choose_bands(c);
    lay_out(c);
    return c;
}
