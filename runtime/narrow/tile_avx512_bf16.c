/* tile_avx512_bf16.c: the kernels of tile.inc for AVX512-BF16. */
#if defined(__x86_64__)
#define TILE_TARGET "avx512f,avx512bw,avx512bf16"
#define TILE_BITS 512
#define TILE_DOT 1
#define TILE_ISA narrow_avx512_bf16
#define TILE_DOC "AVX512-BF16"
#include "runtime/narrow/tile.inc"
#endif
