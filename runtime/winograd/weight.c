/* weight.c: the gradient of a convolution's weights: for each point a matrix product whose long side are the tiles.
 *
 *   dw[k][r,s][c] = A' ( sum over tiles of (G dy G')[point][k] (B' x B)[point][c] ) A
 *
 * Bands are dealt to *chunks*, each with sums of its own, which are added in order; how many there are follows from the
 * shape alone, and so do the bits.
 *
 *   scratch: [ sums of each chunk | zeros | for each thread: transformed tiles of a band of dy, of x ]
 *
 * Tested by tests/unit/test_winograd.c. */
#include "runtime/winograd/winograd_impl.h"

#include <omp.h>
#include <string.h>

enum {
    BAND_BYTES = 256 << 10,
    MOST_TILES = 64,
    CHUNK_BYTES = 2 << 20, /* of the sums of all chunks, but for LEAST_CHUNKS */
    LEAST_CHUNKS = 4,
    MOST_CHUNKS = 16,
    BAND_STEP = 4 /* kernels take so many tiles at once */
};

struct WinoWeight {
    CallDesc       d;
    const WinoIsa *isa;
    int            threads;
    WinoGrid       grid; /* of dy */
    int64_t        tiles, band, bands, chunks, chunk_floats;
    int64_t        n_blocks;
    WinoBlock     *blocks;
    int64_t        zeros_at, bands_at, band_bytes;
};

WinoWeight *wino_weight_new(Arena *a, const CallDesc *d, const WinoIsa *isa, int threads, int64_t *scratch_bytes)
{
    WinoWeight *c = ARENA_NEW(a, WinoWeight);
    c->d = *d;
    c->isa = isa;
    c->threads = threads;
    c->grid = wino_grid(d->oh, d->ow);
    c->tiles = d->n * c->grid.h * c->grid.w;
    const int64_t point = POINTS * (int64_t)sizeof(float);
    c->band = dt_min64(MOST_TILES, dt_max64(BAND_BYTES / (point * (d->c + d->k)), BAND_STEP));
    c->band = dt_round_up(dt_min64(c->band, c->tiles), BAND_STEP);
    c->bands = dt_ceil_div(c->tiles, c->band);
    c->chunk_floats = POINTS * d->k * d->c;
    int64_t bytes = c->chunk_floats * (int64_t)sizeof(float);
    c->chunks = dt_min64(c->bands, dt_min64(MOST_CHUNKS, dt_max64(LEAST_CHUNKS, CHUNK_BYTES / bytes)));
    c->blocks = wino_blocks_new(a, isa, d->c, &c->n_blocks);
    c->zeros_at = c->chunks * bytes;
    c->bands_at = c->zeros_at + dt_round_up(dt_max64(d->k, d->c) * (int64_t)sizeof(float), WINO_ALIGN);
    c->band_bytes = point * (wino_pitch(c->band, d->k) + wino_pitch(c->band, d->c));
    *scratch_bytes = c->bands_at + threads * c->band_bytes;
    return c;
}

typedef struct Run {
    const WinoWeight *c;
    WinoImage         dy, x;
    float            *dw, *sums;
} Run;

/* Tiles behind the last one are of zeros. */
static void transform_tiles(const Run *r, int64_t first, float *dy, float *x)
{
    const WinoWeight *c = r->c;
    const CallDesc   *d = &c->d;
    const int64_t     n = dt_min64(c->band, c->tiles - first);
    const int64_t     dy_pitch = wino_pitch(c->band, d->k), x_pitch = wino_pitch(c->band, d->c);
    WinoStrip         s;
    for (int64_t t = 0; t < n; t += s.n) {
        s = wino_strip(&r->dy, c->grid, first + t, n - t, 0, 0);
        c->isa->quad(&s, dy + t * d->k, dy_pitch);
        s = wino_strip(&r->x, c->grid, first + t, n - t, -d->pad[0], -d->pad[1]);
        c->isa->patch(&s, x + t * d->c, x_pitch);
    }
    for (int64_t p = 0; n < c->band && p < POINTS; p++) {
        memset(dy + p * dy_pitch + n * d->k, 0, sizeof(float) * (size_t)((c->band - n) * d->k));
        memset(x + p * x_pitch + n * d->c, 0, sizeof(float) * (size_t)((c->band - n) * d->c));
    }
}

static void multiply_tiles(const Run *r, const float *dy, const float *x, float *sums)
{
    const WinoWeight *c = r->c;
    const CallDesc   *d = &c->d;
    for (int64_t p = 0; p < POINTS; p++)
        for (int64_t b = 0; b < c->n_blocks; b++) {
            WinoProduct w = { .a = dy + p * wino_pitch(c->band, d->k),
                              .b = x + p * wino_pitch(c->band, d->c) + c->blocks[b].first,
                              .y = sums + p * d->k * d->c + c->blocks[b].first,
                              .a_pitch = d->k,
                              .b_pitch = d->c,
                              .y_pitch = d->c,
                              .m = d->k,
                              .n = c->band };
            c->isa->weight[c->blocks[b].vecs - 1].run(&w);
        }
}

static void run_chunk(const Run *r, int64_t chunk, float *memory)
{
    const WinoWeight *c = r->c;
    float            *sums = r->sums + chunk * c->chunk_floats, *x = memory + POINTS * wino_pitch(c->band, c->d.k);
    memset(sums, 0, sizeof(float) * (size_t)c->chunk_floats);
    for (int64_t b = dt_part(c->bands, chunk, c->chunks); b < dt_part(c->bands, chunk + 1, c->chunks); b++) {
        transform_tiles(r, b * c->band, memory, x);
        multiply_tiles(r, memory, x, sums);
    }
}

/* A' m of one direction. Sums of the points 1 and -1 are twice theirs. */
static void window_of(const float m[4], float out[3])
{
    float sum = 0.5f * (m[1] + m[2]), difference = 0.5f * (m[1] - m[2]);
    out[0] = m[0] + sum;
    out[1] = difference;
    out[2] = sum - m[3];
}

/* One channel's window, from its points. */
static void write_window(const CallDesc *d, float points[POINTS][WINO_BLOCK], int64_t i, float *to)
{
    const int64_t tap = d->krsc ? d->c : 1;
    float         rows[4][3];
    for (int64_t j = 0; j < 4; j++)
        window_of(
            (const float[4]){ points[4 * j][i], points[4 * j + 1][i], points[4 * j + 2][i], points[4 * j + 3][i] },
            rows[j]);
    for (int64_t s = 0; s < 3; s++) {
        float column[3];
        window_of((const float[4]){ rows[0][s], rows[1][s], rows[2][s], rows[3][s] }, column);
        for (int64_t q = 0; q < 3; q++)
            to[(3 * q + s) * tap] = column[q];
    }
}

/* One output: chunks added up in order, and written as the weights lie. */
static void write_output(const Run *r, int64_t k)
{
    const WinoWeight *c = r->c;
    const CallDesc   *d = &c->d;
    for (int64_t first = 0; first < d->c; first += WINO_BLOCK) {
        float points[POINTS][WINO_BLOCK] = { { 0 } };
        for (int64_t chunk = 0; chunk < c->chunks; chunk++)
            for (int64_t p = 0; p < POINTS; p++) {
                const float *from = r->sums + chunk * c->chunk_floats + (p * d->k + k) * d->c + first;
                for (int64_t i = 0; i < WINO_BLOCK; i++)
                    points[p][i] += from[i];
            }
        for (int64_t i = 0; i < WINO_BLOCK; i++)
            write_window(d, points, i, r->dw + k * 9 * d->c + (first + i) * (d->krsc ? 1 : 9));
    }
}

void wino_weight_run(const WinoWeight *c, void *const *bufs, void *scratch)
{
    const CallDesc *d = &c->d;
    uint8_t        *base = scratch;
    float          *zeros = (float *)(void *)(base + c->zeros_at);
    const Run       r = { .c = c,
                          .dy = { bufs[0], zeros, d->oh, d->ow, d->k },
                          .x = { bufs[1], zeros, d->h, d->w, d->c },
                          .dw = bufs[2],
                          .sums = scratch };
    memset(zeros, 0, sizeof(float) * (size_t)dt_max64(d->k, d->c));
#pragma omp parallel num_threads(c->threads)
    {
        int    i = omp_get_thread_num(), n = omp_get_num_threads();
        float *memory = (float *)(void *)(base + c->bands_at + i * c->band_bytes);
        for (int64_t chunk = dt_part(c->chunks, i, n); chunk < dt_part(c->chunks, i + 1, n); chunk++)
            run_chunk(&r, chunk, memory);
#pragma omp barrier
        for (int64_t k = dt_part(d->k, i, n); k < dt_part(d->k, i + 1, n); k++)
            write_output(&r, k);
    }
}
