/* tile_portable.c: the kernels of tile.inc in plain C: for processors without vectors that the others are written for,
 * and a second opinion in tests. fmaf rounds once, as the others do. */
#define TILE_BITS 32
#define TILE_ISA wino_portable
#include "runtime/winograd/tile.inc"
