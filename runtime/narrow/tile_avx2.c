/* tile_avx2.c: the kernels of tile.inc for AVX2. */
#if defined(__x86_64__)
#define TILE_TARGET "avx2,fma"
#define TILE_BITS 256
#define TILE_DOT 0
#define TILE_ISA narrow_avx2
#define TILE_DOC "AVX2"
#include "runtime/narrow/tile.inc"
#endif
