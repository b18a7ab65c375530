/* tile_avx512.c: the kernels of tile.inc for AVX-512. */
#if defined(__x86_64__)
#define TILE_TARGET "avx512f"
#define TILE_BITS 512
#define TILE_ISA wino_avx512
#include "runtime/winograd/tile.inc"
#endif
