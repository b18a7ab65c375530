/* tile_avx512.c: the kernels of tile.inc for AVX-512. */
#if defined(__x86_64__)
#define TILE_TARGET "avx512f,avx512bw"
#define TILE_BITS 512
#define TILE_DOT 0
#define TILE_ISA narrow_avx512
#define TILE_DOC "AVX-512"
#include "runtime/narrow/tile.inc"
#endif
