/* narrow_impl.h: what the files of runtime/narrow share.
 *
 *   tile_*.c   kernels, one file an instruction set, all made from tile.inc
 *   isa.c      which of them a machine runs
 *   data.c     dx: a convolution of dy by the turned weights; with stride t, t x t of them, one for each phase
 *   weight.c   dw: a sum over pixels, two of them a step, cut into chunks that are added in order
 *   calllib.c  which calls are made here
 *
 * Operands are packed as pairs of bf16, 32 bits: of neighbouring channels for dx, of neighbouring pixels for dw. A step
 * multiplies a pair, broadcast, by the pairs of a vector of channels; the second of a pair is added before the first,
 * as the processor's instruction does. */
#ifndef DETENT_RUNTIME_NARROW_NARROW_IMPL_H
#define DETENT_RUNTIME_NARROW_NARROW_IMPL_H

#include "runtime/narrow/narrow.h"

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */

enum {
    TILE_ROWS = 8, /* pixels of dx, outputs of dw: at most */
    TILE_VECS = 4,
    STEP_BYTES = 4,
    BLOCK = 16, /* channels that lie together where pairs are of pixels */
    BLOCK_BYTES = BLOCK * STEP_BYTES,
    NARROW_ALIGN = 64
};

/* rows x vecs sums.  DATA: a + at[m] by b, one pair of channels after the other, begun with 0.  WEIGHT: a + 4 m by b +
 * b_at[v], one pair of pixels after the other, added to y. */
typedef struct Tile {
    const uint8_t *a, *b;
    const int32_t *at;           /* DATA: bytes, of each pixel's window */
    const int64_t *b_at;         /* WEIGHT: bytes, of each vector */
    int64_t        row, image;   /* bytes from row to row of the window (DATA, of a), of the image (WEIGHT, of b) */
    int32_t        images, rows; /* DATA: 1 image */
    int32_t        steps;        /* of a row; all three are 1 at least */
    float         *y;
    const int32_t *y_at;  /* floats, of each row of the tile */
    int32_t        valid; /* floats of a row of the tile that there are */
} Tile;

typedef struct TileKernel {
    int32_t rows;
    void (*run)(const Tile *t); /* NULL: there is none of so many vectors */
} TileKernel;

/* Pairs of pixels of one row of an image, by blocks of channels; or single ones. */
typedef struct Pairs {
    DType          type;
    bool           floats; /* type is f32, and a pixel of floats stands for a pair of bf16 */
    const uint8_t *from;   /* the first pixel's first channel */
    int64_t        pixel_bytes, width, channels;
    int64_t        first, apart, step; /* pair i is of the pixels first + i step and `apart` behind; outside: 0 */
    int64_t        n;
    uint8_t       *to;
    int64_t        block_bytes; /* from one block of channels to the next */
} Pairs;

typedef struct NarrowIsa {
    const char *doc;
    int32_t     lanes;
    TileKernel  data[TILE_VECS], weight[TILE_VECS], floats[TILE_VECS]; /* [vectors - 1]; weight of pairs, of floats */
    void (*line)(DType t, const void *from, uint16_t *to, int64_t n);  /* n neighbours rounded */
    void (*pairs)(const Pairs *p);
} NarrowIsa;
extern const NarrowIsa narrow_portable;
#if defined(__x86_64__)
extern const NarrowIsa narrow_avx2, narrow_avx512, narrow_avx512_bf16;
#endif
const NarrowIsa *narrow_isa(Isa isa);

/* Code or float i as bf16. */
static inline uint16_t bf16_of(DType t, const void *from, int64_t i)
{
    float x = t == DTYPE_F32  ? ((const float *)from)[i]
              : t == DTYPE_U8 ? ((const uint8_t *)from)[i]
                              : ((const int8_t *)from)[i];
    return bf16_bits(x);
}

/* ---- Calls ------------------------------------------------------------------------------------------------------- */

typedef struct NarrowData   NarrowData;
typedef struct NarrowWeight NarrowWeight;

NarrowData   *narrow_data_new(Arena *a, const CallDesc *d, const NarrowIsa *isa, int threads, int64_t *scratch_bytes);
void          narrow_data_run(const NarrowData *c, void *const *bufs, void *scratch);
NarrowWeight *narrow_weight_new(Arena *a, const CallDesc *d, const NarrowIsa *isa, int threads, int64_t *scratch_bytes);
void          narrow_weight_run(const NarrowWeight *c, void *const *bufs, void *scratch);

/* Windows of one pixel side by side: all pixels of the batch become one image, of rows that are not long. */
void narrow_join_pixels(CallDesc *d);
/* Elements of the weights from output to output, input to input, row to row, column to column. */
typedef struct WeightAt {
    int64_t k, c, r, s;
} WeightAt;
WeightAt narrow_weight_at(const CallDesc *d);
/* Of a call: below so many products threads would cost more than they save. */
static inline int narrow_threads(const CallDesc *d, int most)
{
    const int64_t few = 1 << 19;
    return d->n * d->oh * d->ow * d->k * d->c * d->r * d->s < few ? 1 : most;
}
/* Sums below the normal range are 0, as the processor's instruction has them. Gives what was set before. */
unsigned bf16_flush_begin(void);
void     bf16_flush_end(unsigned was);

#endif
