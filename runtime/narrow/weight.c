/* weight.c: the gradient of a convolution's weights.
 *
 *   dw[k][r,s,c] = sum over images, rows and pixels of dy[k] x[r,s,c]
 *
 * is a matrix product whose long side is the sum. Both operands are packed, some rows or some images at a time (a
 * *band*), in *steps* of 16 channels: of pairs of pixels in bf16, of single ones in f32:
 *
 *   dy   [block of outputs][image][row][step][16]
 *   x    [block of channels][packing][image][row][step][16]
 *
 * With stride t and p pixels in a step a tap of column s has the pixels s + p t j (and s + p t j + t). The tap of
 * column s + p t has the same steps, one later: so there are at most p t packings. Sums of a band are added to those of
 * its *chunk*, chunks in order; how many there are and which bands they have follows from the shape alone, and so do
 * the bits.
 *
 *   scratch: [ sums of each chunk | a band for each thread ]
 *
 * Where one half of the last pair of a row is beyond it, dy is 0 there, and a 0 times what x has is added.
 *
 * Tested by tests/unit/test_narrow.c. */
#include "runtime/narrow/narrow_impl.h"

#include <omp.h>

enum {
    BAND_BYTES = 128 << 10, /* so that a band stays in the second cache */
    CHUNK_BYTES = 2 << 20,  /* of the sums of all chunks, but for LEAST_CHUNKS */
    LEAST_CHUNKS = 4,
    MOST_CHUNKS = 16,
    UNITS_PER_THREAD = 2,
};

struct NarrowWeight {
    CallDesc         d;
    const NarrowIsa *isa;
    int              threads;
    int64_t          pixels;                 /* of a step: 2 of bf16, 1 of f32 */
    int64_t          images, rows;           /* of a band; rows below those of an image: 1 image */
    int64_t          bands_n, bands_h;       /* bands */
    int64_t          steps, x_steps, x_rows; /* of a row of dy, of a row of x; rows of x of an image of a band */
    int64_t          packings;
    int64_t          k_blocks, c_blocks;
    int64_t          chunks, splits;              /* splits of the blocks of outputs */
    int64_t          vecs, k_pitch, chunk_floats; /* vectors of an output's sums; floats of them; of a chunk */
    int64_t         *b_at;                        /* [vecs] */
    int64_t          dy_bytes, x_bytes, bands_at; /* of a thread's band */
};

/* ---- The plan ---------------------------------------------------------------------------------------------------- */

static int64_t band_bytes(const NarrowWeight *c, int64_t images, int64_t rows)
{
    int64_t x_rows = (rows - 1) * c->d.stride + c->d.r;
    return images * BLOCK_BYTES * (c->k_blocks * rows * c->steps + c->c_blocks * c->packings * x_rows * c->x_steps);
}

static void choose_bands(NarrowWeight *c)
{
    const CallDesc *d = &c->d;
    c->images = 1;
    c->rows = d->oh;
    while (c->rows > 1 && band_bytes(c, 1, c->rows) > BAND_BYTES)
        c->rows = dt_ceil_div(c->rows, 2);
    int64_t most = dt_ceil_div(d->n, MOST_CHUNKS);
    if (c->rows == d->oh)
        c->images = dt_max64(1, dt_min64(most, BAND_BYTES / band_bytes(c, 1, c->rows)));
    c->bands_n = dt_ceil_div(d->n, c->images);
    c->bands_h = dt_ceil_div(d->oh, c->rows);
    c->x_rows = (c->rows - 1) * d->stride + d->r;
}

static void choose_chunks(NarrowWeight *c)
{
    int64_t bytes = c->chunk_floats * (int64_t)sizeof(float), bands = c->bands_n * c->bands_h;
    int64_t most = dt_min64(MOST_CHUNKS, dt_max64(LEAST_CHUNKS, CHUNK_BYTES / bytes));
    for (c->chunks = 1; 2 * c->chunks <= dt_min64(most, bands);)
        c->chunks *= 2;
    c->splits = dt_min64(c->k_blocks, dt_ceil_div((int64_t)UNITS_PER_THREAD * c->threads, c->chunks));
}

/* Where each vector of x begins: columns of the window innermost, so that neighbours read what is in the cache. */
static void place_vectors(Arena *a, NarrowWeight *c)
{
    const CallDesc *d = &c->d;
    const int64_t   parts = BLOCK / c->isa->lanes, period = c->pixels * d->stride;
    const int64_t   row = c->x_steps * BLOCK_BYTES, packing = c->images * c->x_rows * row;
    c->b_at = ARENA_ARRAY(a, int64_t, c->vecs);
    int64_t *at = c->b_at;
    for (int64_t b = 0; b < c->c_blocks; b++)
        for (int64_t r = 0; r < d->r; r++)
            for (int64_t s = 0; s < d->s; s++)
                for (int64_t part = 0; part < parts; part++)
                    *at++ = (b * c->packings + s % period) * packing + r * row + s / period * BLOCK_BYTES +
                            part * c->isa->lanes * STEP_BYTES;
}

NarrowWeight *narrow_weight_new(Arena *a, const CallDesc *d, const NarrowIsa *isa, int threads, int64_t *scratch_bytes)
{
    NarrowWeight *c = ARENA_NEW(a, NarrowWeight);
    c->d = *d;
    c->isa = isa;
    c->threads = threads;
    narrow_join_pixels(&c->d);
    c->pixels = d->bf16 ? 2 : 1;
    const int64_t period = c->pixels * d->stride;
    c->steps = dt_ceil_div(c->d.ow, c->pixels);
    c->x_steps = c->steps + (d->s - 1) / period;
    c->packings = dt_min64(d->s, period);
    c->k_blocks = dt_ceil_div(d->k, BLOCK);
    c->c_blocks = dt_ceil_div(d->c, BLOCK);
    c->vecs = c->c_blocks * d->r * d->s * (BLOCK / isa->lanes);
    c->k_pitch = c->vecs * isa->lanes;
    c->chunk_floats = c->k_blocks * BLOCK * c->k_pitch;
    choose_bands(c);
    choose_chunks(c);
    place_vectors(a, c);
    c->dy_bytes = c->k_blocks * c->images * c->rows * c->steps * BLOCK_BYTES;
    c->x_bytes = c->c_blocks * c->packings * c->images * c->x_rows * c->x_steps * BLOCK_BYTES;
    c->bands_at = dt_round_up(c->chunks * c->chunk_floats * (int64_t)sizeof(float), NARROW_ALIGN);
    *scratch_bytes = c->bands_at + threads * (c->dy_bytes + c->x_bytes);
    return c;
}

/* ---- Packing ----------------------------------------------------------------------------------------------------- */

typedef struct Run {
    const NarrowWeight *c;
    const float        *dy;
    const uint8_t      *x;
    float              *dw, *sums;
} Run;

/* Images n.., rows first.. of both; of dy the blocks of outputs begin .. end. */
typedef struct Band {
    int64_t  n, images, first, rows, begin, end;
    uint8_t *dy, *x;
} Band;

static void pack_dy(const Run *r, const Band *b)
{
    const NarrowWeight *c = r->c;
    const CallDesc     *d = &c->d;
    const int64_t       row_bytes = c->steps * BLOCK_BYTES, from = b->begin * BLOCK;
    for (int64_t i = 0; i < b->images * b->rows; i++) {
        int64_t y = (b->n + i / b->rows) * d->oh + b->first + i % b->rows;
        Pairs   p = { .type = DTYPE_F32,
                      .floats = !d->bf16,
                      .from = (const uint8_t *)(r->dy + y * d->ow * d->k + from),
                      .pixel_bytes = d->k * (int64_t)sizeof(float),
                      .width = d->ow,
                      .channels = dt_min64(d->k, b->end * BLOCK) - from,
                      .first = 0,
                      .apart = 1,
                      .step = c->pixels,
                      .n = c->steps,
                      .to = b->dy + i * row_bytes,
                      .block_bytes = b->images * b->rows * row_bytes };
        c->isa->pairs(&p);
    }
}

static void pack_x(const Run *r, const Band *b)
{
    const NarrowWeight *c = r->c;
    const CallDesc     *d = &c->d;
    const int64_t       t = d->stride, size = dtype_bytes(d->x_type, 1), row_bytes = c->x_steps * BLOCK_BYTES;
    const int64_t       packing = c->images * c->x_rows * row_bytes, rows = (b->rows - 1) * t + d->r;
    for (int64_t i = 0; i < b->images * rows; i++) {
        int64_t  n = i / rows, row = i % rows, h = b->first * t - d->pad[0] + row;
        bool     inside = h >= 0 && h < d->h;
        uint8_t *to = b->x + (n * c->x_rows + row) * row_bytes;
        for (int64_t s = 0; s < c->packings; s++) {
            Pairs p = { .type = d->x_type,
                        .floats = !d->bf16,
                        .from = r->x + (inside ? ((b->n + n) * d->h + h) * d->w * d->c * size : 0),
                        .pixel_bytes = d->c * size,
                        .width = inside ? d->w : 0,
                        .channels = d->c,
                        .first = s - d->pad[1],
                        .apart = t,
                        .step = c->pixels * t,
                        .n = c->x_steps,
                        .to = to + s * packing,
                        .block_bytes = c->packings * packing };
            c->isa->pairs(&p);
        }
    }
}

/* ---- The product ------------------------------------------------------------------------------------------------- */

/* All vectors of x by mr outputs from k on. */
static void run_outputs(const Run *r, const Band *b, float *sums, int64_t k, int32_t mr)
{
    const NarrowWeight *c = r->c;
    const TileKernel   *kernels = c->d.bf16 ? c->isa->weight : c->isa->floats;
    const int64_t       in_band = b->images * b->rows * c->steps * BLOCK_BYTES;
    int32_t             y_at[TILE_ROWS];
    for (int32_t m = 0; m < mr; m++)
        y_at[m] = (int32_t)(m * c->k_pitch);
    int64_t most = 0;
    while (most < TILE_VECS && kernels[most].run && kernels[most].rows == mr)
        most++;
    for (int64_t v = 0; v < c->vecs;) {
        int64_t n = dt_min64(most, c->vecs - v);
        if (c->vecs - v == most + 1 && most > 2)
            n = most - 1; /* two tiles of some width rather than one wide and one narrow */
        Tile t = { .a = b->dy + (k / BLOCK - b->begin) * in_band + k % BLOCK * STEP_BYTES,
                   .b = b->x,
                   .b_at = c->b_at + v,
                   .row = c->d.stride * c->x_steps * BLOCK_BYTES,
                   .image = c->x_rows * c->x_steps * BLOCK_BYTES,
                   .images = (int32_t)b->images,
                   .rows = (int32_t)b->rows,
                   .steps = (int32_t)c->steps,
                   .y = sums + k * c->k_pitch + v * c->isa->lanes,
                   .y_at = y_at,
                   .valid = (int32_t)(n * c->isa->lanes) };
        kernels[n - 1].run(&t);
        v += n;
    }
}

static void run_unit(const Run *r, int64_t unit, uint8_t *memory)
{
    const NarrowWeight *c = r->c;
    const CallDesc     *d = &c->d;
    const int64_t       chunk = unit / c->splits, split = unit % c->splits, bands = c->bands_n * c->bands_h;
    const int32_t       mr = (d->bf16 ? c->isa->weight : c->isa->floats)[0].rows;
    float              *sums = r->sums + chunk * c->chunk_floats;
    Band                b = { .begin = dt_part(c->k_blocks, split, c->splits),
                              .end = dt_part(c->k_blocks, split + 1, c->splits),
                              .dy = memory,
                              .x = memory + c->dy_bytes };
    memset(sums + b.begin * BLOCK * c->k_pitch, 0, sizeof(float) * (size_t)((b.end - b.begin) * BLOCK * c->k_pitch));
    for (int64_t i = dt_part(bands, chunk, c->chunks); i < dt_part(bands, chunk + 1, c->chunks); i++) {
        b.n = i / c->bands_h * c->images;
        b.images = dt_min64(c->images, d->n - b.n);
        b.first = i % c->bands_h * c->rows;
        b.rows = dt_min64(c->rows, d->oh - b.first);
        pack_dy(r, &b);
        pack_x(r, &b);
        for (int64_t k = b.begin * BLOCK; k < dt_min64(d->k, b.end * BLOCK); k += mr)
            run_outputs(r, &b, sums, k, mr);
    }
}

/* Chunks added up in order, and written as the weights lie. */
static void run_sums(const Run *r, int64_t i, int64_t n)
{
    const NarrowWeight *c = r->c;
    const CallDesc     *d = &c->d;
    const WeightAt      at = narrow_weight_at(d);
    const int64_t       taps = d->r * d->s;
    for (int64_t u = dt_part(d->k * c->c_blocks * taps, i, n); u < dt_part(d->k * c->c_blocks * taps, i + 1, n); u++) {
        int64_t k = u / (c->c_blocks * taps), vec = u % (c->c_blocks * taps), block = vec / taps, tap = vec % taps;
        float   sum[BLOCK] = { 0 };
        for (int64_t chunk = 0; chunk < c->chunks; chunk++) {
            const float *from = r->sums + chunk * c->chunk_floats + k * c->k_pitch + vec * BLOCK;
            for (int64_t j = 0; j < BLOCK; j++)
                sum[j] += from[j];
        }
        float *to = r->dw + k * at.k + tap / d->s * at.r + tap % d->s * at.s + block * BLOCK * at.c;
        for (int64_t j = 0; j < dt_min64(BLOCK, d->c - block * BLOCK); j++)
            to[j * at.c] = sum[j];
    }
}

void narrow_weight_run(const NarrowWeight *c, void *const *bufs, void *scratch)
{
    uint8_t      *bands = (uint8_t *)scratch + c->bands_at;
    const Run     r = { .c = c, .dy = bufs[0], .x = bufs[1], .dw = bufs[2], .sums = scratch };
    const int64_t units = c->chunks * c->splits;
#pragma omp parallel num_threads(narrow_threads(&c->d, c->threads))
    {
        int      i = omp_get_thread_num(), n = omp_get_num_threads();
        unsigned was = c->d.bf16 ? bf16_flush_begin() : 0;
        for (int64_t u = dt_part(units, i, n); u < dt_part(units, i + 1, n); u++)
            run_unit(&r, u, bands + i * (c->dy_bytes + c->x_bytes));
#pragma omp barrier
        run_sums(&r, i, n);
        if (c->d.bf16)
            bf16_flush_end(was);
    }
}
