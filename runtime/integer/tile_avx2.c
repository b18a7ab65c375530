/* tile_avx2.c: the kernels of tile.inc for AVX2. */
#if defined(__x86_64__)
#define TILE_TARGET "avx2"
#define TILE_BITS 256
#define TILE_DOT 0
#define TILE_TABLE tiles_avx2
#include "runtime/integer/tile.inc"
#endif
