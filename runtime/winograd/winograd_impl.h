/* winograd_impl.h: what the files of runtime/winograd share.
 *
 *   tile_*.c   kernels, one file an instruction set, all made from tile.inc
 *   isa.c      which of them a machine runs
 *   data.c     dx
 *   weight.c   dw
 *   calllib.c  which calls are made here
 *
 * An image is cut into *tiles* of 2 x 2 pixels (of dx, of dy), some of them at its right and lower edge half outside.
 * A *band* is so many tiles, in the order of images, rows and columns, that their transforms stay in the second cache.
 * Transforms are kept by *point*, 16 of them: [point][tile][channel]. */
#ifndef DETENT_RUNTIME_WINOGRAD_WINOGRAD_IMPL_H
#define DETENT_RUNTIME_WINOGRAD_WINOGRAD_IMPL_H

#include "runtime/winograd/winograd.h"

enum {
    POINTS = 16,
    WINO_BLOCK = 16, /* channels are multiples of it */
    WINO_VECS = 3,
    WINO_ROWS = 14, /* of the tallest kernel */
    WINO_ALIGN = 64
};

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */

/* rows x vecs sums of one point.  DATA: y[m][v] = sum of i < n of a[m a_pitch + i] b[i][v], b packed.  WEIGHT: y[m][v]
 * += sum of i < n of a[i a_pitch + m] b[i b_pitch + v]. n is a multiple of 4. */
typedef struct WinoProduct {
    const float *a, *b;
    float       *y;
    int64_t      a_pitch, b_pitch, y_pitch, n;
} WinoProduct;

typedef struct WinoKernel {
    int32_t rows;
    void (*run)(const WinoProduct *p);
} WinoKernel;

typedef struct WinoIsa {
    int32_t    lanes;
    WinoKernel data[WINO_VECS], weight[WINO_VECS]; /* [vectors - 1] */
    /* from[4 i + j]: pixel i, j of a tile, all channels; point p goes to to + p pitch. */
    void (*patch)(const float *const *from, float *to, int64_t pitch, int64_t channels); /* 4 x 4 pixels: B' d B */
    void (*quad)(const float *const *from, float *to, int64_t pitch, int64_t channels);  /* 2 x 2 pixels: G g G' */
    /* Point p of a tile from + p pitch; to[2 i + j]: a pixel. A' m A. */
    void (*result)(const float *from, int64_t pitch, float *const *to, int64_t channels);
} WinoIsa;
extern const WinoIsa wino_portable;
#if defined(__x86_64__)
extern const WinoIsa wino_avx2, wino_avx512;
#endif
const WinoIsa *wino_isa(Isa isa);

/* ---- Tiles ------------------------------------------------------------------------------------------------------- */

/* Channels that one kernel makes. */
typedef struct WinoBlock {
    int64_t first;
    int32_t vecs;
} WinoBlock;
/* `channels` as blocks of about one size. */
WinoBlock *wino_blocks_new(Arena *a, const WinoIsa *isa, int64_t channels, int64_t *n);

/* Images with all their channels side by side; what is outside of them is 0. */
typedef struct WinoImage {
    const float *at, *zeros; /* zeros: as many as channels */
    int64_t      h, w, channels;
} WinoImage;
/* size x size pixels from row y and column x of image n on. */
static inline void wino_patch_at(const WinoImage *m, int64_t n, int64_t y, int64_t x, const int size, const float **at)
{
    int64_t row = ((n * m->h + y) * m->w + x) * m->channels;
    for (int i = 0; i < size; i++, row += m->w * m->channels)
        for (int j = 0; j < size; j++) {
            bool inside = y + i >= 0 && y + i < m->h && x + j >= 0 && x + j < m->w;
            at[size * i + j] = inside ? m->at + row + j * m->channels : m->zeros;
        }
}

/* Image, and first pixel. */
typedef struct WinoTile {
    int64_t n, y, x;
} WinoTile;

static inline WinoTile wino_tile(int64_t tile, int64_t h, int64_t w)
{
    int64_t tiles_h = dt_ceil_div(h, 2), tiles_w = dt_ceil_div(w, 2), row = tile / tiles_w;
    return (WinoTile){ row / tiles_h, row % tiles_h * 2, tile % tiles_w * 2 };
}

static inline void wino_next(WinoTile *t, int64_t h, int64_t w)
{
    t->x += 2;
    if (t->x < w)
        return;
    t->x = 0;
    t->y += 2;
    if (t->y < h)
        return;
    t->y = 0;
    t->n++;
}

/* ---- Calls ------------------------------------------------------------------------------------------------------- */

typedef struct WinoData   WinoData;
typedef struct WinoWeight WinoWeight;

WinoData   *wino_data_new(Arena *a, const CallDesc *d, const WinoIsa *isa, int threads, int64_t *scratch_bytes);
void        wino_data_run(const WinoData *c, void *const *bufs, void *scratch);
WinoWeight *wino_weight_new(Arena *a, const CallDesc *d, const WinoIsa *isa, int threads, int64_t *scratch_bytes);
void        wino_weight_run(const WinoWeight *c, void *const *bufs, void *scratch);

/* Floats from point to point of n tiles: no power of two, or all points would share a few places of the cache. */
static inline int64_t wino_pitch(int64_t n, int64_t channels)
{
    return n * channels + WINO_BLOCK;
}

#endif
