/* run.c: one call: weights are packed by all threads, then each takes its part of the bands of all images. Sums are
 * exact, so nothing depends on how the work is split.
 *
 * Tested by tests/unit/test_integer.c. */
#include "runtime/integer/integer_impl.h"

#include <omp.h>
#include <string.h>

/* With fewer products than this a call takes less than waking the other threads does. */
static const int64_t SERIAL_PRODUCTS = 1 << 20;

typedef struct Run {
    const IntConv *c;
    const uint8_t *x;
    float         *y;
    int32_t       *table, *start;
    float         *scale;
    uint8_t       *weights, *strips;
    bool           stream;
} Run;

/* ---- Before the product ------------------------------------------------------------------------------------------ */

/* Where the window of each pixel of a band begins. */
static void make_table(const Run *r)
{
    const IntConv *c = r->c;
    const int64_t  pixel = c->d.c / c->d.groups * c->code_bytes, n = c->band_rows * c->d.ow;
    for (int64_t i = 0, row = 0, col = 0; i < n; i++) {
        r->table[i] = (int32_t)(row * c->d.stride * c->row_bytes + col * c->d.stride * pixel);
        if (++col == c->d.ow)
            col = 0, row++;
    }
}

static void prepare_block(const Run *r, const int8_t *w, const float *scale, int64_t g, int32_t block)
{
    const IntConv *c = r->c;
    const Block   *b = &c->blocks[block];
    const int64_t  lane = g * c->group_lanes + b->lane, first = g * (c->d.k / c->d.groups) + b->first;
    intconv_pack(c, w, g, block, r->weights + g * c->group_bytes + b->w_offset, r->start + lane);
    for (int32_t i = 0; i < b->kernel->outputs; i++) {
        int32_t k = block_output(c, b, i);
        r->scale[lane + i] = k < 0 ? 0 : scale[c->d.scale_per_k ? first + k : 0];
    }
}

/* ---- The product ------------------------------------------------------------------------------------------------- */

/* A tile of fewer pixels or outputs than its kernel makes: it writes elsewhere, and reads the last pixel again. */
static void run_edge(Tile t, const TileKernel *k, int64_t pixels, int32_t outputs)
{
    float   all[TILE_MOST_PIXELS * TILE_MOST_OUTPUTS], *y = t.y;
    int32_t at[TILE_MOST_PIXELS];
    int64_t pitch = t.y_pitch;
    for (int32_t m = 0; m < k->pixels; m++)
        at[m] = t.at[dt_min64(m, pixels - 1)];
    t.at = at;
    t.y = all;
    t.y_pitch = k->outputs;
    t.stream = false;
    k->run(&t);
    for (int64_t m = 0; m < pixels; m++)
        memcpy(y + m * pitch, all + m * k->outputs, sizeof(float) * (size_t)outputs);
}

/* Where pixels of a line - of all, or of a row - are left over, its last tile lies over a part of the one before it. */
static void run_block(const Run *r, int64_t g, const Block *b, const uint8_t *x, float *y, int64_t pixels)
{
    const IntConv    *c = r->c;
    const TileKernel *k = b->kernel;
    const int64_t     lane = g * c->group_lanes + b->lane, line = b->beside ? c->d.ow : pixels;
    const bool        edge = pixels < k->pixels || b->valid < c->vec_outputs;
    Tile              t = { .x = x,
                            .row_bytes = c->row_bytes,
                            .rows = (int32_t)c->d.r,
                            .steps = c->steps,
                            .widen = c->widen,
                            .w = r->weights + g * c->group_bytes + b->w_offset,
                            .start = r->start + lane,
                            .scale = r->scale + lane,
                            .y_pitch = c->d.k,
                            .last = b->last,
                            .stream = r->stream };
    for (int64_t begin = 0; begin < pixels; begin += line)
        for (int64_t p = 0; p < line; p += k->pixels) {
            const int64_t first = begin + (edge ? p : dt_min64(p, line - k->pixels));
            t.at = r->table + first;
            t.y = y + first * c->d.k + b->first;
            if (edge)
                run_edge(t, k, dt_min64(k->pixels, pixels - p), b->valid);
            else
                k->run(&t);
        }
}

static void run_band(const Run *r, int64_t band, uint8_t *strip)
{
    const IntConv  *c = r->c;
    const CallDesc *d = &c->d;
    const int64_t   n = band / c->bands, first = band % c->bands * c->band_rows;
    const int64_t   rows = dt_min64(c->band_rows, d->oh - first);
    for (int64_t g = 0; g < d->groups; g++) {
        const uint8_t *x = strip;
        if (c->in_place)
            x = r->x + (n * d->h + first * d->stride) * c->row_bytes;
        else
            intconv_strip(c, r->x, n, g, first, rows, strip);
        float *y = r->y + (n * d->oh + first) * d->ow * d->k + g * (d->k / d->groups);
        for (int32_t b = 0; b < c->n_blocks; b++)
            run_block(r, g, &c->blocks[b], x, y, rows * d->ow);
    }
}

/* ---- Threads ----------------------------------------------------------------------------------------------------- */

static void run_packing(const Run *r, const int8_t *w, const float *scale, int i, int n)
{
    const int64_t units = r->c->d.groups * r->c->n_blocks;
    if (i == 0)
        make_table(r);
    for (int64_t u = dt_part(units, i, n); u < dt_part(units, i + 1, n); u++)
        prepare_block(r, w, scale, u / r->c->n_blocks, (int32_t)(u % r->c->n_blocks));
}

static void run_bands(const Run *r, int i, int n)
{
    const int64_t units = r->c->d.n * r->c->bands;
    for (int64_t u = dt_part(units, i, n); u < dt_part(units, i + 1, n); u++)
        run_band(r, u, r->strips + i * r->c->strip_bytes);
#if defined(__x86_64__)
    if (r->stream)
        __builtin_ia32_sfence(); /* before the other threads are told that this one is ready */
#endif
}

void intconv_run(const IntConv *c, void *const *bufs, void *scratch)
{
    const CallDesc *d = &c->d;
    uint8_t        *at = scratch;
    const int8_t   *w = bufs[1];
    const float    *scale = bufs[2];
    const Run       r = { .c = c,
                          .x = bufs[0],
                          .y = bufs[3],
                          .table = (int32_t *)(void *)(at + c->table_at),
                          .start = (int32_t *)(void *)(at + c->start_at),
                          .scale = (float *)(void *)(at + c->scale_at),
                          .weights = at + c->weights_at,
                          .strips = at + c->strips_at,
                          .stream = c->stream && (uintptr_t)bufs[3] % LINE_BYTES == 0 };
    const int64_t   products = d->n * d->oh * d->ow * d->k * d->r * c->run;
    if (c->threads == 1 || products < SERIAL_PRODUCTS) {
        run_packing(&r, w, scale, 0, 1);
        run_bands(&r, 0, 1);
        return;
    }
#pragma omp parallel num_threads(c->threads)
    {
        int i = omp_get_thread_num(), n = omp_get_num_threads();
        run_packing(&r, w, scale, i, n);
#pragma omp barrier
        run_bands(&r, i, n);
    }
}
