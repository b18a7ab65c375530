/* tile_avx2.c: the kernels of tile.inc for AVX2. */
#if defined(__x86_64__)
#define TILE_TARGET "avx2,fma"
#define TILE_BITS 256
#define TILE_ISA wino_avx2
#include "runtime/winograd/tile.inc"
#endif
