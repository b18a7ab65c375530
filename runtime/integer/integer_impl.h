/* integer_impl.h: what the files of runtime/integer share.
 *
 *   plan.c    CallDesc -> IntConv: which kernels, how outputs and rows are cut into blocks, where scratch memory lies
 *   pack.c    weights in the order in which the kernels read them; what sums begin with
 *   strip.c   the input rows under a band of output rows, with borders, as the kernels read them
 *   tile_*.c  the kernels, one file an instruction set, all made from tile.inc
 *   run.c     threads, bands, blocks, tiles
 *
 * A window covers, in each of its r rows, a *run* of s c codes that lie side by side in a strip; a kernel takes them
 * four at a time (two, where codes are 16 bits wide), a *step*. What is left over of the last step has weights of 0. So
 * odd numbers of channels are no case of their own, and neither are borders, which are codes of 0 in the strip. */
#ifndef DETENT_RUNTIME_INTEGER_INTEGER_IMPL_H
#define DETENT_RUNTIME_INTEGER_INTEGER_IMPL_H

#include "runtime/integer/integer.h"

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */

/* How products are added up. BYTES: u8 by s8, pairs in 16 bits, widened now and then. WORDS: s16 by s16, pairs in 32
 * bits. DOT: u8 by s8, fours in 32 bits. */
typedef enum TileForm { FORM_BYTES, FORM_WORDS, FORM_DOT, FORM_COUNT } TileForm;

enum { TILE_MOST_PIXELS = 16, TILE_MOST_OUTPUTS = 64, TILE_SHAPES = 4, STEP_BYTES = 4, LINE_BYTES = 64 };

/* Some pixels times some outputs. The last vector of outputs may lie over a part of the one before it: what both have
 * is the same, so no kernel has to know of numbers of outputs that are no multiples of a vector's. */
typedef struct Tile {
    const uint8_t *x;         /* of the band */
    const int32_t *at;        /* of each pixel's window in it */
    int64_t        row_bytes; /* from one row of the window to the next */
    int32_t        rows, steps;
    int32_t        widen; /* BYTES: after how many steps */
    const uint8_t *w;     /* [rows][steps][outputs][4 bytes] */
    const int32_t *start; /* [outputs], what sums begin with */
    const float   *scale; /* [outputs] */
    float         *y;
    int64_t        y_pitch; /* floats from pixel to pixel */
    int32_t        last;    /* where the last vector of outputs is, from y */
    bool           stream;  /* y is written around the caches; its vectors lie at whole ones */
} Tile;

typedef struct TileKernel {
    int32_t pixels, outputs; /* outputs 0: no such kernel */
    void (*run)(const Tile *t);
} TileKernel;

/* By form; of n vectors of outputs, of n - 1 and so on down to one. No kernel at [0]: the form is not there. At
 * [TILE_BESIDE] there may be one of one vector for pixels side by side, whose windows have TILE_TAPS columns and step
 * on by one: a code that was read serves all windows that it is in, where else each of them reads it. */
enum { TILE_BESIDE = TILE_SHAPES, TILE_KERNELS, TILE_TAPS = 3 };
typedef TileKernel     TileTable[FORM_COUNT][TILE_KERNELS];
extern const TileTable tiles_portable;
#if defined(__x86_64__)
extern const TileTable tiles_avx2, tiles_avx512, tiles_avx_vnni, tiles_avx512_vnni;
#endif
const TileKernel *isa_kernels(Isa isa, TileForm form); /* [TILE_KERNELS]; NULL: none */

/* ---- A call ------------------------------------------------------------------------------------------------------ */

/* Outputs that one kernel makes; of every group the same. */
typedef struct Block {
    const TileKernel *kernel;
    int32_t           first, valid; /* of the group's outputs; valid <= kernel->outputs */
    int64_t           w_offset;     /* of its packed weights in the group's */
    int32_t           lane;         /* its place among the padded outputs of the group */
    int32_t           last;         /* Tile.last */
    bool              beside;       /* its tiles are pixels of one row */
} Block;

typedef struct IntConv {
    CallDesc d; /* a product of single pixels is one tall image of one column */
    TileForm form;
    int      threads;
    int32_t  code_bytes;      /* in a strip: 1 or 2 */
    int32_t  add;             /* to codes of x, so that they are not negative; what a border has */
    int32_t  run, steps;      /* codes of a row of the window, and steps over them */
    int32_t  widen;           /* FORM_BYTES */
    bool     in_place;        /* no strips: x is as the kernels want it */
    int64_t  cols, row_bytes; /* of a strip */
    int64_t  band_rows, bands;
    int32_t  vec_outputs;              /* of the kernels' vectors */
    bool     stream;                   /* y is larger than caches */
    int64_t  group_lanes, group_bytes; /* padded outputs and packed weights of a group */
    Block   *blocks;
    int32_t  n_blocks;
    int64_t  table_at, start_at, scale_at, weights_at, strips_at, strip_bytes, scratch_bytes;
} IntConv;

/* NULL: the call is none that this library makes, and *why says so. */
IntConv *intconv_new(Arena *a, const CallDesc *d, Isa isa, int threads, const char **why);
void     intconv_run(const IntConv *c, void *const *bufs, void *scratch);

/* The output, of those of the block, that a lane of its kernel makes; -1: none. */
static inline int32_t block_output(const IntConv *c, const Block *b, int32_t lane)
{
    const int32_t ahead = b->kernel->outputs - c->vec_outputs; /* of the last vector */
    const int32_t k = lane < ahead ? lane : b->last + lane - ahead;
    return k < b->valid ? k : -1;
}

/* Block `b` of group `g`: packed weights, and what its sums begin with. */
void intconv_pack(const IntConv *c, const int8_t *w, int64_t g, int32_t b, uint8_t *packed, int32_t *start);
/* The input rows under output rows first .. first + rows of image n. */
void intconv_strip(const IntConv *c, const uint8_t *x, int64_t n, int64_t g, int64_t first, int64_t rows,
                   uint8_t *strip);

#endif
