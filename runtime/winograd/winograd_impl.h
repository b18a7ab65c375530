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
    WINO_ROWS = 16, /* of the tallest kernel */
    WINO_ALIGN = 64
};

/* ---- Tiles ------------------------------------------------------------------------------------------------------- */

/* Images with all their channels side by side. */
typedef struct WinoImage {
    float  *at, *outside; /* outside: the channels of every pixel there */
    int64_t h, w, channels;
} WinoImage;

/* Tiles of 2 x 2 pixels that cover an image. */
typedef struct WinoGrid {
    int64_t h, w;
} WinoGrid;

static inline WinoGrid wino_grid(int64_t h, int64_t w)
{
    return (WinoGrid){ dt_ceil_div(h, 2), dt_ceil_div(w, 2) };
}

/* Tiles side by side in one row of tiles, and the rows of pixels that they take from an image or give to one. */
typedef struct WinoStrip {
    int64_t n;
    float  *rows[4], *outside; /* NULL: all of the row is outside */
    int64_t x, w, channels;    /* the first tile's first column; the image's columns */
} WinoStrip;

/* Tile `first` and those to the right of it, at most `most`; they begin dy rows and dx columns off their places. */
static inline WinoStrip wino_strip(const WinoImage *m, WinoGrid g, int64_t first, int64_t most, int64_t dy, int64_t dx)
{
    int64_t   row = first / g.w, x = first % g.w, image = row / g.h, y = row % g.h * 2 + dy;
    WinoStrip s = {
        .n = dt_min64(most, g.w - x), .outside = m->outside, .x = 2 * x + dx, .w = m->w, .channels = m->channels
    };
    for (int i = 0; i < 4; i++)
        if (y + i >= 0 && y + i < m->h)
            s.rows[i] = m->at + (image * m->h + y + i) * m->w * m->channels;
    return s;
}

static inline float *wino_pixel(const WinoStrip *s, float *row, int64_t x)
{
    return row && x >= 0 && x < s->w ? row + x * s->channels : s->outside;
}

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */

/* rows x vecs sums of one point.  DATA: y[m][v] = sum of i < n of a[m a_pitch + i] b[i][v], b packed.  WEIGHT: y[m][v]
 * += sum of i < n of a[i a_pitch + m] b[i b_pitch + v]. n is a multiple of 4. */
typedef struct WinoProduct {
    const float *a, *b;
    float       *y;
    int64_t      a_pitch, b_pitch, y_pitch, m, n;
} WinoProduct;

typedef struct WinoKernel {
    int32_t rows;
    void (*run)(const WinoProduct *p);
} WinoKernel;

typedef struct WinoIsa {
    int32_t    lanes;
    WinoKernel data[WINO_VECS], weight[WINO_VECS]; /* [vectors - 1] */
    /* A tile's point p is at + p pitch, the next tile's `channels` behind it. */
    void (*patch)(const WinoStrip *from, float *to, int64_t pitch);        /* 4 x 4 pixels: B' d B */
    void (*quad)(const WinoStrip *from, float *to, int64_t pitch);         /* 2 x 2 pixels: G g G' */
    void (*result)(const float *from, int64_t pitch, const WinoStrip *to); /* 2 x 2 pixels: A' m A */
} WinoIsa;
extern const WinoIsa wino_portable;
#if defined(__x86_64__)
extern const WinoIsa wino_avx2, wino_avx512;
#endif
const WinoIsa *wino_isa(Isa isa);

/* Channels that one kernel makes. */
typedef struct WinoBlock {
    int64_t first;
    int32_t vecs;
} WinoBlock;
/* `channels` as blocks of about one size. */
WinoBlock *wino_blocks_new(Arena *a, const WinoIsa *isa, int64_t channels, int64_t *n);

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
