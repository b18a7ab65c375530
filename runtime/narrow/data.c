/* data.c: the gradient of a convolution's input.
 *
 * With stride 1 it is a convolution of dy by the weights turned by 180 degrees. With stride t the pixels of dx whose
 * row and column leave the same rest by t, a *phase*, see the same taps of the window: t x t convolutions of stride 1,
 * some of them of no tap at all, whose pixels are 0.
 *
 *   scratch: [ for each phase: pixels of a band, where they are written, packed weights | a strip for each thread ]
 *
 * A strip holds the rows of dy under a band of a phase's rows, rounded, with borders of 0; outputs in pairs.
 * Weights: [block of channels][row of the window][column][pair of outputs][channel][2].
 *
 * Tested by tests/unit/test_narrow.c. */
#include "runtime/narrow/narrow_impl.h"

#include <omp.h>

enum {
    STRIP_BYTES = 24 << 10, /* so that it stays in the first cache beside the weights of a block */
    BANDS_PER_THREAD = 4,
};

typedef struct Phase {
    int64_t row, col;          /* of dx: its first pixel */
    int64_t rows, cols;        /* of dx */
    int64_t taps_r, taps_s;    /* 0: none */
    int64_t r0, s0;            /* the first tap; others are a stride apart */
    int64_t first_y, first_x;  /* of dy, under the first pixel's window */
    int64_t band_rows, bands;  /* of dx */
    int64_t strip_cols, steps; /* columns of dy; pairs of a row of the window */
    int64_t at_at, y_at, weights_at, weights_bytes;
} Phase;

/* Channels that one kernel makes. */
typedef struct DataBlock {
    const TileKernel *kernel;
    int64_t           first;
    int32_t           lanes, valid;
} DataBlock;

struct NarrowData {
    CallDesc         d;
    const NarrowIsa *isa;
    int              threads;
    int64_t          pixel_bytes; /* of a strip */
    Phase           *phases;
    int64_t          n_phases, units; /* bands of all phases of an image */
    DataBlock       *blocks;
    int64_t          n_blocks;
    int64_t          strips_at, strip_bytes;
};

/* ---- The plan ---------------------------------------------------------------------------------------------------- */

static void choose_blocks(Arena *a, NarrowData *c)
{
    int64_t most = 0, vecs = dt_ceil_div(c->d.c, c->isa->lanes);
    while (most < TILE_VECS && c->isa->data[most].run)
        most++;
    c->n_blocks = dt_ceil_div(vecs, most);
    c->blocks = ARENA_ARRAY(a, DataBlock, c->n_blocks);
    for (int64_t i = 0, first = 0; i < c->n_blocks; i++) {
        int64_t n = dt_part(vecs, i + 1, c->n_blocks) - dt_part(vecs, i, c->n_blocks), lanes = n * c->isa->lanes;
        int64_t valid = dt_min64(lanes, c->d.c - first);
        c->blocks[i] = (DataBlock){ &c->isa->data[n - 1], first, (int32_t)lanes, (int32_t)valid };
        first += lanes;
    }
}

static int64_t reserve(int64_t *at, int64_t bytes)
{
    int64_t was = *at;
    *at += dt_round_up(bytes, NARROW_ALIGN);
    return was;
}

/* Floor of a by b, b above 0. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* The taps of one direction that pixels `phase`, phase + t, ... see; gives the first row of dy under the first pixel.
 */
static int64_t choose_taps(int64_t phase, int64_t pad, int64_t t, int64_t window, int64_t *first, int64_t *taps)
{
    *first = (phase + pad) % t;
    *taps = *first < window ? (window - *first - 1) / t + 1 : 0;
    return floor_div(phase + pad - *first, t) - (*taps - 1);
}

static void plan_phase(NarrowData *c, Phase *p, int64_t index, int64_t *scratch)
{
    const CallDesc *d = &c->d;
    const int64_t   t = d->stride;
    p->row = index / t, p->col = index % t;
    p->rows = p->row < d->h ? (d->h - p->row - 1) / t + 1 : 0;
    p->cols = p->col < d->w ? (d->w - p->col - 1) / t + 1 : 0;
    p->first_y = choose_taps(p->row, d->pad[0], t, d->r, &p->r0, &p->taps_r);
    p->first_x = choose_taps(p->col, d->pad[1], t, d->s, &p->s0, &p->taps_s);
    p->strip_cols = p->cols + p->taps_s - 1;
    p->steps = p->taps_s * c->pixel_bytes / STEP_BYTES;
    p->band_rows = p->bands = 0;
    if (p->rows == 0 || p->cols == 0)
        return;
    int64_t row_bytes = p->strip_cols * c->pixel_bytes;
    int64_t fit = STRIP_BYTES / dt_max64(row_bytes, 1) - p->taps_r + 1;
    int64_t bands = dt_ceil_div(p->rows, dt_max64(fit, 1));
    bands = dt_max64(bands, dt_min64(p->rows, dt_ceil_div((int64_t)BANDS_PER_THREAD * c->threads, d->n)));
    p->band_rows = dt_ceil_div(p->rows, bands);
    p->bands = dt_ceil_div(p->rows, p->band_rows);
    int64_t pixels = p->band_rows * p->cols;
    p->at_at = reserve(scratch, pixels * (int64_t)sizeof(int32_t));
    p->y_at = reserve(scratch, pixels * (int64_t)sizeof(int32_t));
    const DataBlock *last = &c->blocks[c->n_blocks - 1];
    p->weights_bytes = p->taps_r * p->steps * (last->first + last->lanes) * STEP_BYTES;
    p->weights_at = reserve(scratch, p->weights_bytes);
    c->units += p->bands;
    int64_t strip = (p->band_rows + p->taps_r - 1) * row_bytes;
    c->strip_bytes = dt_max64(c->strip_bytes, dt_round_up(strip, NARROW_ALIGN));
}

NarrowData *narrow_data_new(Arena *a, const CallDesc *d, const NarrowIsa *isa, int threads, int64_t *scratch_bytes)
{
    NarrowData *c = ARENA_NEW(a, NarrowData);
    c->d = *d;
    c->isa = isa;
    c->threads = threads;
    narrow_join_pixels(&c->d);
    c->pixel_bytes = dt_round_up(d->k, 2) * (int64_t)sizeof(uint16_t);
    c->n_phases = d->stride * d->stride;
    c->phases = ARENA_ARRAY(a, Phase, c->n_phases);
    choose_blocks(a, c);
    *scratch_bytes = 0;
    for (int64_t i = 0; i < c->n_phases; i++)
        plan_phase(c, &c->phases[i], i, scratch_bytes);
    c->strips_at = reserve(scratch_bytes, threads * c->strip_bytes);
    return c;
}

/* ---- Before the product ------------------------------------------------------------------------------------------ */

typedef struct Run {
    const NarrowData *c;
    const float      *dy;
    const void       *w;
    float            *dx;
    uint8_t          *scratch;
} Run;

static bool has_taps(const Phase *p)
{
    return p->taps_r > 0 && p->taps_s > 0;
}

/* Where the window of each pixel of a band begins in the strip, and where the pixel is in dx. */
static void make_tables(const Run *r, const Phase *p)
{
    const CallDesc *d = &r->c->d;
    int32_t        *at = (int32_t *)(void *)(r->scratch + p->at_at), *y_at = (int32_t *)(void *)(r->scratch + p->y_at);
    for (int64_t i = 0; i < p->band_rows * p->cols; i++) {
        int64_t row = i / p->cols, col = i % p->cols;
        at[i] = (int32_t)((row * p->strip_cols + col) * r->c->pixel_bytes);
        y_at[i] = (int32_t)((row * d->w + col) * d->stride * d->c);
    }
}

/* The taps of a phase from the last to the first: the window is turned. */
static void pack_block(const Run *r, const Phase *p, const DataBlock *b)
{
    const CallDesc *d = &r->c->d;
    const WeightAt  at = narrow_weight_at(d);
    const int64_t   pairs = r->c->pixel_bytes / STEP_BYTES;
    uint8_t        *base = r->scratch + p->weights_at + p->taps_r * p->steps * b->first * STEP_BYTES;
    uint16_t       *to = (uint16_t *)(void *)base;
    for (int64_t i = p->taps_r - 1; i >= 0; i--)
        for (int64_t j = p->taps_s - 1; j >= 0; j--)
            for (int64_t k = 0; k < 2 * pairs; k += 2, to += 2 * (int64_t)b->lanes) {
                int64_t tap = k * at.k + (p->r0 + i * d->stride) * at.r + (p->s0 + j * d->stride) * at.s;
                for (int64_t c = 0; c < b->lanes; c++) {
                    int64_t from = tap + (b->first + c) * at.c;
                    bool    there = c < b->valid;
                    to[2 * c] = there ? bf16_of(d->w_type, r->w, from) : 0;
                    to[2 * c + 1] = there && k + 1 < d->k ? bf16_of(d->w_type, r->w, from + at.k) : 0;
                }
            }
}

static void run_packing(const Run *r, int64_t i, int64_t n)
{
    const NarrowData *c = r->c;
    for (int64_t q = i; q < c->n_phases; q += n)
        if (c->phases[q].bands > 0)
            make_tables(r, &c->phases[q]);
    const int64_t units = c->n_phases * c->n_blocks;
    for (int64_t u = dt_part(units, i, n); u < dt_part(units, i + 1, n); u++) {
        const Phase *p = &c->phases[u / c->n_blocks];
        if (p->bands > 0 && has_taps(p))
            pack_block(r, p, &c->blocks[u % c->n_blocks]);
    }
}

/* ---- The product ------------------------------------------------------------------------------------------------- */

/* n pixels of a row of dy. */
static void copy_pixels(const Run *r, const float *from, uint16_t *to, int64_t n)
{
    const int64_t k = r->c->d.k, padded = dt_round_up(k, 2);
    if (k == padded) {
        r->c->isa->line(DTYPE_F32, from, to, n * k);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        r->c->isa->line(DTYPE_F32, from + i * k, to + i * padded, k);
        to[i * padded + k] = 0;
    }
}

static void fill_strip(const Run *r, const Phase *p, int64_t n, int64_t first, int64_t rows, uint8_t *strip)
{
    const CallDesc *d = &r->c->d;
    const int64_t   pixel = r->c->pixel_bytes, cols = p->strip_cols;
    const int64_t   left = dt_min64(dt_max64(-p->first_x, 0), cols), from = p->first_x + left;
    const int64_t   inside = dt_max64(dt_min64(d->ow - from, cols - left), 0);
    for (int64_t i = 0; i < rows + p->taps_r - 1; i++, strip += cols * pixel) {
        int64_t y = p->first_y + first + i;
        if (y < 0 || y >= d->oh) {
            memset(strip, 0, (size_t)(cols * pixel));
            continue;
        }
        memset(strip, 0, (size_t)(left * pixel));
        copy_pixels(r, r->dy + ((n * d->oh + y) * d->ow + from) * d->k, (uint16_t *)(void *)(strip + left * pixel),
                    inside);
        memset(strip + (left + inside) * pixel, 0, (size_t)((cols - left - inside) * pixel));
    }
}

static void run_block(const Run *r, const Phase *p, const DataBlock *b, const uint8_t *strip, float *dx, int64_t pixels)
{
    const int32_t *at = (const int32_t *)(const void *)(r->scratch + p->at_at);
    const int32_t *y_at = (const int32_t *)(const void *)(r->scratch + p->y_at);
    const uint8_t *weights = r->scratch + p->weights_at + p->taps_r * p->steps * b->first * STEP_BYTES;
    Tile           t = { .a = strip,
                         .b = weights,
                         .row = p->strip_cols * r->c->pixel_bytes,
                         .images = 1,
                         .rows = (int32_t)p->taps_r,
                         .steps = (int32_t)p->steps,
                         .y = dx + b->first,
                         .valid = b->valid };
    for (int64_t i = 0; i < pixels; i += b->kernel->rows) {
        int32_t last_at[TILE_ROWS], last_y[TILE_ROWS];
        t.at = at + i;
        t.y_at = y_at + i;
        if (i + b->kernel->rows > pixels) { /* the last pixel is made again, and again the same */
            for (int32_t m = 0; m < b->kernel->rows; m++) {
                last_at[m] = at[dt_min64(i + m, pixels - 1)];
                last_y[m] = y_at[dt_min64(i + m, pixels - 1)];
            }
            t.at = last_at;
            t.y_at = last_y;
        }
        b->kernel->run(&t);
    }
}

static void run_band(const Run *r, const Phase *p, int64_t n, int64_t band, uint8_t *strip)
{
    const NarrowData *c = r->c;
    const CallDesc   *d = &c->d;
    const int64_t     first = band * p->band_rows, rows = dt_min64(p->band_rows, p->rows - first);
    float            *dx = r->dx + ((n * d->h + p->row + first * d->stride) * d->w + p->col) * d->c;
    if (!has_taps(p)) {
        const int32_t *y_at = (const int32_t *)(const void *)(r->scratch + p->y_at);
        for (int64_t i = 0; i < rows * p->cols; i++)
            memset(dx + y_at[i], 0, sizeof(float) * (size_t)d->c);
        return;
    }
    fill_strip(r, p, n, first, rows, strip);
    for (int64_t b = 0; b < c->n_blocks; b++)
        run_block(r, p, &c->blocks[b], strip, dx, rows * p->cols);
}

static void run_bands(const Run *r, int64_t i, int64_t n)
{
    const NarrowData *c = r->c;
    uint8_t          *strip = r->scratch + c->strips_at + i * c->strip_bytes;
    const int64_t     units = c->d.n * c->units;
    for (int64_t u = dt_part(units, i, n); u < dt_part(units, i + 1, n); u++) {
        int64_t      band = u % c->units;
        const Phase *p = c->phases;
        for (; band >= p->bands; p++)
            band -= p->bands;
        run_band(r, p, u / c->units, band, strip);
    }
}

void narrow_data_run(const NarrowData *c, void *const *bufs, void *scratch)
{
    const Run r = { .c = c, .dy = bufs[0], .w = bufs[1], .dx = bufs[2], .scratch = scratch };
#pragma omp parallel num_threads(narrow_threads(&c->d, c->threads))
    {
        int      i = omp_get_thread_num(), n = omp_get_num_threads();
        unsigned was = bf16_flush_begin();
        run_packing(&r, i, n);
#pragma omp barrier
        run_bands(&r, i, n);
        bf16_flush_end(was);
    }
}
