/* tile_avx_vnni.c: the kernels of tile.inc for AVX-VNNI. */
#if defined(__x86_64__)
#define TILE_TARGET "avx2,avxvnni"
#define TILE_BITS 256
#define TILE_DOT 1
#define TILE_TABLE tiles_avx_vnni
#include "runtime/integer/tile.inc"
#endif
