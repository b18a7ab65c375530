/* data.c: the gradient of a convolution's input, a convolution of dy by the weights turned by 180 degrees.
 *
 *   scratch: [ transformed weights | zeros | for each thread: transformed tiles of a band, their products ]
 *
 * Weights: [point][block of channels][output][channel]. Threads take bands; nothing is added up between them.
 *
 * Tested by tests/unit/test_winograd.c. */
#include "runtime/winograd/winograd_impl.h"

#include <omp.h>
#include <string.h>

enum { BAND_BYTES = 256 << 10, MOST_TILES = 128, BANDS_PER_THREAD = 4 };

struct WinoData {
    CallDesc       d;
    const WinoIsa *isa;
    int            threads;
    WinoGrid       grid;               /* of dx */
    int64_t        tiles, band, bands; /* of the batch, of a band; how many bands */
    int64_t        n_blocks;
    WinoBlock     *blocks;
    int64_t        zeros_at, bands_at, band_bytes; /* of a thread's: transforms and products */
};

WinoData *wino_data_new(Arena *a, const CallDesc *d, const WinoIsa *isa, int threads, int64_t *scratch_bytes)
{
    WinoData *c = ARENA_NEW(a, WinoData);
    c->d = *d;
    c->isa = isa;
    c->threads = threads;
    c->grid = wino_grid(d->h, d->w);
    c->tiles = d->n * c->grid.h * c->grid.w;
    c->blocks = wino_blocks_new(a, isa, d->c, &c->n_blocks);
    const int64_t point = POINTS * (int64_t)sizeof(float);
    c->band = dt_min64(MOST_TILES, BAND_BYTES / (point * (d->c + d->k)));
    c->band = dt_min64(c->band, dt_ceil_div(c->tiles, (int64_t)BANDS_PER_THREAD * threads));
    c->band = dt_max64(c->band, 2 * WINO_ROWS);
    c->band -= c->band % isa->data[c->blocks[0].vecs - 1].rows;
    c->bands = dt_ceil_div(c->tiles, c->band);
    c->zeros_at = point * d->k * d->c;
    c->bands_at = c->zeros_at + dt_round_up(d->k * (int64_t)sizeof(float), WINO_ALIGN);
    c->band_bytes = point * (wino_pitch(c->band, d->k) + wino_pitch(c->band, d->c));
    *scratch_bytes = c->bands_at + threads * c->band_bytes;
    return c;
}

typedef struct Run {
    const WinoData *c;
    const float    *w;
    WinoImage       dy, dx;
    float          *weights;
} Run;

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

/* G g of one direction: the turned window's. */
static void window_points(const float g[3], float out[4])
{
    float ends = g[0] + g[2];
    out[0] = g[0];
    out[1] = 0.5f * (ends + g[1]);
    out[2] = 0.5f * (ends - g[1]);
    out[3] = g[2];
}

/* One output's weights. */
static void transform_output(const Run *r, int64_t k)
{
    const CallDesc *d = &r->c->d;
    const int64_t   tap = d->krsc ? d->c : 1, channel = d->krsc ? 1 : 9, point = d->k * d->c;
    const float    *from = r->w + k * 9 * d->c;
    for (int64_t b = 0; b < r->c->n_blocks; b++) {
        const int64_t width = r->c->blocks[b].vecs * r->c->isa->lanes, first = r->c->blocks[b].first;
        float        *to = r->weights + first * d->k + k * width;
        for (int64_t c = 0; c < width; c++) {
            float rows[3][4], points[4][4];
            for (int64_t i = 0; i < 3; i++) {
                const float *g = from + (first + c) * channel + (2 - i) * 3 * tap;
                window_points((const float[3]){ g[2 * tap], g[tap], g[0] }, rows[i]);
            }
            for (int64_t j = 0; j < 4; j++)
                window_points((const float[3]){ rows[0][j], rows[1][j], rows[2][j] }, points[j]);
            for (int64_t p = 0; p < POINTS; p++)
                to[p * point + c] = points[p % 4][p / 4];
        }
    }
}

/* ---- Tiles ------------------------------------------------------------------------------------------------------- */

/* Behind the last tile the first one: a kernel's rows may be more than there are. */
static void transform_tiles(const Run *r, int64_t first, int64_t n, float *to)
{
    const WinoData *c = r->c;
    const CallDesc *d = &c->d;
    WinoStrip       s;
    for (int64_t t = 0; t < n; t += s.n) {
        s = wino_strip(&r->dy, c->grid, (first + t) % c->tiles, n - t, d->pad[0] - 2, d->pad[1] - 2);
        c->isa->patch(&s, to + t * d->k, wino_pitch(n, d->k));
    }
}

static void multiply_tiles(const Run *r, int64_t n, const float *tiles, float *products)
{
    const WinoData *c = r->c;
    const CallDesc *d = &c->d;
    for (int64_t p = 0; p < POINTS; p++)
        for (int64_t b = 0; b < c->n_blocks; b++) {
            WinoProduct w = { .a = tiles + p * wino_pitch(n, d->k),
                              .b = r->weights + p * d->k * d->c + c->blocks[b].first * d->k,
                              .y = products + p * wino_pitch(n, d->c) + c->blocks[b].first,
                              .a_pitch = d->k,
                              .y_pitch = d->c,
                              .m = n,
                              .n = d->k };
            c->isa->data[c->blocks[b].vecs - 1].run(&w);
        }
}

/* Pixels outside are written to `nowhere`. */
static void write_tiles(const Run *r, int64_t first, int64_t n, int64_t pitch, const float *products, float *nowhere)
{
    const WinoData *c = r->c;
    WinoImage       dx = r->dx;
    WinoStrip       s;
    dx.outside = nowhere;
    for (int64_t t = 0; t < n; t += s.n) {
        s = wino_strip(&dx, c->grid, first + t, n - t, 0, 0);
        c->isa->result(products + t * c->d.c, pitch, &s);
    }
}

static void run_band(const Run *r, int64_t band, float *memory)
{
    const WinoData *c = r->c;
    const int64_t   first = band * c->band, n = dt_min64(c->band, c->tiles - first), made = dt_max64(n, WINO_ROWS);
    float          *products = memory + POINTS * wino_pitch(c->band, c->d.k);
    transform_tiles(r, first, made, memory);
    multiply_tiles(r, made, memory, products);
    write_tiles(r, first, n, wino_pitch(made, c->d.c), products, memory); /* transforms are not read any more */
}

void wino_data_run(const WinoData *c, void *const *bufs, void *scratch)
{
    const CallDesc *d = &c->d;
    uint8_t        *base = scratch;
    float          *zeros = (float *)(void *)(base + c->zeros_at);
    const Run       r = { .c = c,
                          .w = bufs[1],
                          .dy = { bufs[0], zeros, d->oh, d->ow, d->k },
                          .dx = { bufs[2], NULL, d->h, d->w, d->c },
                          .weights = scratch };
    memset(zeros, 0, sizeof(float) * (size_t)d->k);
#pragma omp parallel num_threads(c->threads)
    {
        int    i = omp_get_thread_num(), n = omp_get_num_threads();
        float *memory = (float *)(void *)(base + c->bands_at + i * c->band_bytes);
        for (int64_t k = dt_part(d->k, i, n); k < dt_part(d->k, i + 1, n); k++)
            transform_output(&r, k);
#pragma omp barrier
        for (int64_t b = dt_part(c->bands, i, n); b < dt_part(c->bands, i + 1, n); b++)
            run_band(&r, b, memory);
    }
}
