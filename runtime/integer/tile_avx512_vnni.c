/* tile_avx512_vnni.c: the kernels of tile.inc for AVX-512 VNNI. */
#if defined(__x86_64__)
#define TILE_TARGET "avx512f,avx512bw,avx512vnni"
#define TILE_BITS 512
#define TILE_DOT 1
#define TILE_TABLE tiles_avx512_vnni
#include "runtime/integer/tile.inc"
#endif
